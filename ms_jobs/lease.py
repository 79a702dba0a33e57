"""A lease in Redis: one contender holds it, and another takes it soon after that one dies or hangs."""

from __future__ import annotations

import os
import secrets
import socket
import time

from redis import Redis

_HOLD = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1]) -- a full Redis accepts writes only after a DEL
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"


class Lease:
    """One contender for the lease of this name: call ``hold`` again well within ``ttl_s`` seconds.

    Errors of the client, such as ``redis.exceptions.ConnectionError``, pass through unchanged. Not ``redis.lock.Lock``,
    which cannot be taken in a full Redis and has no monotonic ``held``.
    """

    def __init__(self, client: Redis, name: str, ttl_s: float) -> None:
        """Send nothing to Redis yet."""
        self._name = name
        self._ttl_s = ttl_s
        # Host and process are for people; the random part tells contenders of one process apart.
        self._token = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._held_until = 0.0
        self._hold = client.register_script(_HOLD)
        self._release = client.register_script(_RELEASE)

    @property
    def held(self) -> bool:
        """Whether it is certainly held; false right after this process was frozen for too long."""
        return time.monotonic() < self._held_until

    @property
    def needs_renewal(self) -> bool:
        """Whether a third of its time has passed."""
        return time.monotonic() > self._held_until - self._ttl_s * 2 / 3

    def hold(self) -> bool:
        """Take or renew the lease for ``ttl_s`` seconds; returns whether it is held."""
        # Counted from before the request, so never longer than in Redis.
        asked_at = time.monotonic()
        held = self._hold(keys=[self._name], args=[self._token, int(self._ttl_s * 1000)]) == 1
        self._held_until = asked_at + self._ttl_s if held else 0.0
        return held

    def release(self) -> None:
        """Release the lease, for another to take at once."""
        self._held_until = 0.0
        self._release(keys=[self._name], args=[self._token])
