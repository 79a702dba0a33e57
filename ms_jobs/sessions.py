"""Sessions of browsers: each stands for an API key, and ends with it."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from redis import Redis

from ms_jobs import keys
from ms_jobs.api_keys import ApiKey, digest_of
from ms_jobs.records import as_text

_RANDOM_BYTES = 32


class SessionStore:
    """The sessions of all keys; of a token only its SHA-256 is stored.

    Raises (every method):
        redis.exceptions.RedisError: Redis cannot be reached.
    """

    def __init__(self, client: Redis) -> None:
        """Ask nothing of Redis yet."""
        self._client = client

    def open(self, key: ApiKey, lifetime_s: float) -> str:
        """Begin a session of so many seconds; returns its token."""
        token = secrets.token_urlsafe(_RANDOM_BYTES)
        self._client.set(keys.session(digest_of(token)), key.digest, px=max(1, round(lifetime_s * 1000)))
        return token

    def left_s(self, token: str) -> float:
        """How many seconds a session lasts from now; 0 for one that has ended."""
        return max(0, self._client.pttl(keys.session(digest_of(token)))) / 1000

    def close(self, token: str) -> None:
        """End a session; another token does nothing."""
        self._client.delete(keys.session(digest_of(token)))

    def find(self, digests: Sequence[str]) -> list[str | None]:
        """Find the digests of sessions' keys, by the SHA-256 of their tokens; ``None`` where there is no session."""
        if not digests:
            return []
        found = self._client.mget([keys.session(digest) for digest in digests])
        return [None if digest is None else as_text(digest) for digest in found]
