"""What is wrong with a Redis that answers: what may lose jobs; and with an address that is none."""

from __future__ import annotations

from typing import Any, NamedTuple

from redis import Redis
from redis.exceptions import RedisError, ResponseError

from ms_core.errors import StartupError

_KEEP_ALL = "noeviction"


class Weakness(NamedTuple):
    """Why a Redis may lose jobs: a stable code, a sentence, and what to do."""

    code: str
    sentence: str
    remedy: str


def require_address(url: str) -> None:
    """Refuse what is no address of a Redis.

    Raises:
        StartupError: it is none; the sentence does not quote it, for it may hold a password.
    """
    try:
        Redis.from_url(url).close()
    except ValueError:
        raise StartupError(
            "MSD_REDIS_URL is not the address of a Redis; write it as redis://host:6379/0 or unix:///path, or unset it."
        ) from None


def eviction_policy(client: Any, info: dict[str, Any]) -> str:
    """What Redis does when its memory is full, "unknown" if it does not say; hosted ones report it in only one of two ways.

    Args:
        info: its answer to INFO.
    """
    told = info.get("maxmemory_policy")
    if told:
        return str(told)
    try:
        return str(client.config_get("maxmemory-policy").get("maxmemory-policy", "unknown"))
    except ResponseError:
        return "unknown"


def weaknesses(policy: str, append_only: bool) -> list[Weakness]:
    """What may lose jobs.

    Args:
        policy: see ``eviction_policy``.
        append_only: whether it keeps an append-only file.
    """
    found: list[Weakness] = []
    if policy not in (_KEEP_ALL, "unknown"):
        sentence = f"When its memory is full, this Redis deletes keys (maxmemory-policy {policy}): jobs get lost."
        remedy = f"Set it: redis-cli config set maxmemory-policy {_KEEP_ALL}, and in its configuration file."
        found.append(Weakness("redis_evicts", sentence, remedy))
    if not append_only:
        sentence = "This Redis keeps no append-only file: queued jobs are lost when it restarts."
        remedy = "Set it: redis-cli config set appendonly yes, and in its configuration file."
        found.append(Weakness("redis_forgets", sentence, remedy))
    return found


def redis_warnings(client: Redis) -> list[str]:
    """A sentence with its remedy for each weakness; none if Redis does not tell."""
    try:
        info: dict[str, Any] = client.info()  # pyright: ignore[reportAssignmentType] - a synchronous client
        if "aof_enabled" not in info:
            return []
        found = weaknesses(eviction_policy(client, info), bool(info["aof_enabled"]))
    except RedisError:
        return []
    return [f"{weakness.sentence} {weakness.remedy}" for weakness in found]
