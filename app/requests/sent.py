"""Bounds how many bytes an owner sends within 24 hours: one alone must not fill the disk."""

from __future__ import annotations

from contextlib import suppress

from limits import RateLimitItemPerDay
from redis import Redis
from redis.exceptions import RedisError

from app.service.errors import HTTPProblem
from app.service.problems import SENT_TOO_MUCH
from app.service.windows import Window

_KIBIBYTE = 1024
_NO_LIMIT = 2**40


class SentBytes:
    """Counts what each owner sends, in KiB: bodies, and pictures that these name by address."""

    def __init__(self, client: Redis, model: str, mebibytes: int) -> None:
        """Ask nothing of Redis yet; 0 MiB is no limit."""
        self._most = mebibytes * 1024 or _NO_LIMIT
        self._window = Window(client, RateLimitItemPerDay(self._most), "sent", model)

    def charge(self, owner: str, size: int) -> None:
        """Count bytes; if Redis is out of reach, nothing is counted, and the endpoint says so itself.

        Raises:
            HTTPProblem: they are more than the owner may still send.
        """
        with suppress(RedisError):
            if self._window.take(owner, -(-size // _KIBIBYTE)):
                return
            _, wait_s = self._window.left(owner)
            detail = f"You may send {self._most // 1024:,} MiB within 24 hours, and this is more than is left; send it later."
            raise HTTPProblem(SENT_TOO_MUCH, detail, headers={"Retry-After": str(wait_s)})

    def used(self, owner: str) -> int:
        """The bytes that an owner sent within 24 hours.

        Raises:
            redis.exceptions.RedisError: Redis cannot be reached.
        """
        return (self._most - self._window.left(owner)[0]) * _KIBIBYTE
