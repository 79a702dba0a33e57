"""The Redis that carries the jobs: the one of ``MSD_REDIS_URL``, or the program that ``msd up`` starts."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from redis.exceptions import RedisError

from cli.checks.section import Section
from ms_core.errors import StartupError
from ms_core.model_dir.inspection import Finding
from ms_jobs.connection import describe, redis_client, refusal
from ms_jobs.redis_checks import eviction_policy, weaknesses
from worker.redis_server import OLDEST_VERSION, find_redis_binary


def check_redis(url: str | None) -> Section:
    """Whether jobs can be queued, and whether the queue outlives a restart.

    Args:
        url: of a Redis elsewhere; ``None`` or empty for the one that ``msd up`` starts.
    """
    return _check_server(url) if url else _check_program()


def _check_program() -> Section:
    try:
        binary = find_redis_binary()
    except StartupError as error:
        sentence, _, remedy = error.detail.partition(". ")
        return Section((Finding.error("redis_missing", f"{sentence}.", remedy),))
    sentence = f"msd up starts its own Redis, append-only: {binary}."
    return Section((Finding.ok(sentence),), {"binary": str(binary)})


def _check_server(url: str) -> Section:
    place = _place(url)
    try:
        client = redis_client(url)
    except ValueError as error:
        sentence = f"MSD_REDIS_URL is not the address of a Redis: {error}"
        return Section((Finding.error("redis_url", sentence, "Write it as redis://host:6379/0, or unset it."),))
    try:
        info: dict[str, Any] = client.info()  # pyright: ignore[reportAssignmentType] - a synchronous client
        policy = eviction_policy(client, info)
    except RedisError as error:
        sentence = f"{describe(error, f'The Redis at {place} (MSD_REDIS_URL)').rstrip('.')}."
        first = "Start it" if refusal(error) is None else "Let it accept this service"
        remedy = f"{first}, or fix MSD_REDIS_URL; without it, msd up starts its own Redis."
        return Section((Finding.error("redis_down", sentence, remedy),), {"address": place})
    finally:
        client.close()
    facts = {
        "address": place,
        "version": str(info.get("redis_version", "")),
        "policy": policy,
        "append_only": bool(info.get("aof_enabled")),
        "max_memory": int(info.get("maxmemory", 0)),
    }
    findings = [_judge_version(facts)]
    findings += [Finding.warning(*weakness) for weakness in weaknesses(policy, facts["append_only"])]
    return Section(tuple(findings), facts)


def _judge_version(facts: dict[str, Any]) -> Finding:
    version, place = facts["version"], facts["address"]
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < OLDEST_VERSION:
        oldest = ".".join(map(str, OLDEST_VERSION))
        sentence = f"The Redis at {place} is version {version or 'unknown'}; {oldest} or newer is needed."
        return Finding.error("redis_too_old", sentence, f"Use Redis {oldest} or newer, or any Valkey.")
    return Finding.ok(f"Redis {version} answers at {place}.")


def _place(url: str) -> str:
    """The address without user and password."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return parts.path
    return f"{parts.hostname or '?'}:{parts.port or 6379}"
