"""Bounds how many wrong keys one address may try."""

from __future__ import annotations

import math
import time
from ipaddress import IPv6Address, ip_address, ip_network

from fastapi.concurrency import run_in_threadpool
from redis import Redis

from app.service.errors import HTTPProblem
from app.service.problems import TOO_MANY_FAILURES
from ms_jobs import keys

MOST_FAILURES = 20
PERIOD_S = 60
# Addresses that are remembered as blocked; beyond it those whose time is over are dropped.
_MOST_ADDRESSES = 10_000
# Whoever holds an IPv6 address holds its network.
_NETWORK_BITS = 64


class Guesses:
    """Counts wrong keys by address: in Redis, for all processes; who has used up its tries is refused without asking Redis."""

    def __init__(self, client: Redis) -> None:
        """Ask nothing of Redis yet."""
        self._client = client
        self._blocked_until: dict[str, float] = {}

    def require_tries(self, host: str) -> None:
        """Refuse an address that has used up its tries.

        Raises:
            HTTPProblem: it has; says when it may try again.
        """
        left_s = self._blocked_until.get(address_of(host), 0.0) - time.monotonic()
        if left_s > 0:
            detail = "Too many wrong keys came from this address; try again later."
            raise HTTPProblem(TOO_MANY_FAILURES, detail, {"Retry-After": str(math.ceil(left_s))})

    async def note(self, host: str) -> None:
        """Count a wrong key.

        Raises:
            redis.exceptions.RedisError: Redis cannot be reached.
        """
        address = address_of(host)
        count, left_s = await run_in_threadpool(self._count, address)
        if count >= MOST_FAILURES:
            self._forget()
            self._blocked_until[address] = time.monotonic() + left_s

    def _count(self, address: str) -> tuple[int, int]:
        """Returns the failures of this period, and the seconds that are left of it."""
        key = keys.guesses(address)
        with self._client.pipeline() as pipeline:
            pipeline.set(key, 0, ex=PERIOD_S, nx=True)
            pipeline.incr(key)
            pipeline.ttl(key)
            _, count, left_s = pipeline.execute()
        return count, max(1, left_s)

    def _forget(self) -> None:
        if len(self._blocked_until) >= _MOST_ADDRESSES:
            now = time.monotonic()
            self._blocked_until = {address: until for address, until in self._blocked_until.items() if until > now}


def address_of(host: str) -> str:
    """The address that tries are counted for: an IPv6 one's network."""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if not isinstance(address, IPv6Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ip_network((int(address), _NETWORK_BITS), strict=False))
