"""Bounds how many wrong keys one address may try."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address, ip_network
from typing import NamedTuple

from redis import Redis
from redis.exceptions import ResponseError

from app.service.errors import HTTPProblem
from app.service.problems import TOO_MANY_FAILURES
from ms_jobs import keys

MOST_FAILURES = 20
PERIOD_S = 60
# Addresses that are remembered as blocked; beyond it those whose time is over are dropped.
_MOST_ADDRESSES = 10_000
# Whoever holds an IPv6 address holds its network.
_NETWORK_BITS = 64


class Sent(NamedTuple):
    """What was looked up: the address that sent it, as ``address_of`` writes it, and whether it works; without one, no guess."""

    address: str | None
    works: bool


class Guesses:
    """Counts wrong keys by address: in Redis, for all processes; who has used up its tries is refused without asking Redis."""

    def __init__(self, client: Redis) -> None:
        """Ask nothing of Redis yet."""
        self._client = client
        self._blocked_until: dict[str, float] = {}

    def require_tries(self, address: str) -> None:
        """Refuse an address that is known to have used up its tries.

        Raises:
            HTTPProblem: it has; says when it may try again.
        """
        if self._left_s(address) > 0:
            raise self._refusal(address)

    def judge(self, sent: Sequence[Sent]) -> list[Exception | None]:
        """Count the wrong ones of keys that were looked up together.

        Returns:
            For each the error that its sender gets in place of an answer, if any: so many wrong ones came before it, whatever
            process they reached, or it cannot be counted.

        Raises:
            redis.exceptions.ConnectionError: Redis cannot be reached.
        """
        wrong = Counter(address for address, works in sent if not works)
        addresses = {address for address, _ in sent if address is not None}
        before = {address: self._count(address, wrong[address]) for address in addresses}
        return [None if address is None else self._next(before, address, works) for address, works in sent]

    def _next(self, before: dict[str, int | ResponseError], address: str, works: bool) -> Exception | None:
        count = before[address]
        if isinstance(count, ResponseError):
            return count
        before[address] = count + (not works)
        return self._refusal(address) if count >= MOST_FAILURES else None

    def _count(self, address: str, wrong: int) -> int | ResponseError:
        """Add to the failures of this period; returns those before, or why Redis does not take them, as when it is full."""
        key = keys.guesses(address)
        try:
            with self._client.pipeline() as pipeline:
                if wrong:
                    pipeline.set(key, 0, ex=PERIOD_S, nx=True)
                    pipeline.incrby(key, wrong)
                else:
                    pipeline.get(key)
                pipeline.ttl(key)
                *_, count, left_s = pipeline.execute()
        except ResponseError as error:
            return error
        if int(count or 0) >= MOST_FAILURES:
            self._forget()
            self._blocked_until[address] = time.monotonic() + max(1, left_s)
        return int(count or 0) - wrong

    def _left_s(self, address: str) -> float:
        return self._blocked_until.get(address, 0.0) - time.monotonic()

    def _refusal(self, address: str) -> HTTPProblem:
        detail = "Too many wrong keys came from this address; try again later."
        retry_after = {"Retry-After": str(max(1, math.ceil(self._left_s(address))))}
        return HTTPProblem(TOO_MANY_FAILURES, detail, retry_after)

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
