"""API keys: who may ask this service for what, and as whom.

Of a key only its SHA-256 is stored: it has 256 random bits, so nothing slower is needed.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Iterable, Sequence
from enum import StrEnum

from redis import Redis

from ms_core.errors import StartupError
from ms_jobs import keys
from ms_jobs.records import LOCAL_OWNER, OWNER_PATTERN, FrozenModel, as_text, is_model_name

PREFIX = "msd_"
# So much of a key may be shown: it tells keys apart and helps nobody to guess one.
HINT_CHARACTERS = len(PREFIX) + 6
# Folders of the data directory that are no owner's.
RESERVED_OWNERS = frozenset({"logs", "redis", "tokenizers"})
_RANDOM_BYTES = 32


class Scope(StrEnum):
    """What a key may do."""

    READ = "read"
    GENERATE = "generate"
    ADMIN = "admin"


class ApiKey(FrozenModel):
    """What is known of a key; times are Unix seconds.

    Attributes:
        name: by which it is revoked.
        owner: whose things it reaches.
        hint: the first characters of its text.
        expires_at: it works no longer from then on; ``None``: it does not expire.
    """

    name: str
    owner: str
    scopes: frozenset[Scope]
    digest: str
    hint: str
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None

    def works_at(self, now: float) -> bool:
        """Whether it is neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    def allows(self, scope: Scope) -> bool:
        """Whether it may do what needs this scope."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


class ApiKeyStore:
    """The keys of all owners.

    Raises (every method):
        redis.exceptions.RedisError: Redis cannot be reached.
    """

    def __init__(self, client: Redis) -> None:
        """Ask nothing of Redis yet."""
        self._client = client

    def create(
        self, name: str, owner: str = LOCAL_OWNER, scopes: Iterable[Scope] = (), lifetime_s: float | None = None
    ) -> tuple[str, ApiKey]:
        """Make a key.

        Args:
            lifetime_s: it expires after so many seconds; ``None``: never.

        Returns:
            Its text, which is stored nowhere, and its record.

        Raises:
            StartupError: name or owner cannot be used.
        """
        _check(name, owner)
        text = PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
        now = time.time()
        key = ApiKey(
            name=name,
            owner=owner,
            scopes=frozenset(scopes),
            digest=digest_of(text),
            hint=text[:HINT_CHARACTERS],
            created_at=now,
            expires_at=None if lifetime_s is None else now + lifetime_s,
        )
        self._free(name, now)
        if not self._client.hsetnx(keys.api_keys(), name, key.digest):
            raise StartupError(f"There is a key named {name!r} already; choose another name, or revoke it first.")
        self._save(key)
        return text, key

    def all(self) -> list[ApiKey]:
        """List all keys, oldest first, also those that work no longer."""
        found = self.find([as_text(digest) for digest in self._client.hvals(keys.api_keys())])
        return sorted((key for key in found if key is not None), key=lambda key: key.created_at)

    def has_any(self) -> bool:
        """Whether a key works."""
        now = time.time()
        return any(key.works_at(now) for key in self.all())

    def revoke(self, name: str) -> ApiKey:
        """Let a key work no longer; what its owner has stays.

        Raises:
            StartupError: there is no such key.
        """
        key = self._named(name)
        if key is None:
            raise StartupError(f"There is no key named {name!r}; `msd keys list` shows all.")
        if key.revoked_at is None:
            key = key.model_copy(update={"revoked_at": time.time()})
            self._save(key)
        return key

    def find(self, digests: Sequence[str]) -> list[ApiKey | None]:
        """Find keys by the SHA-256 of their texts, also those that work no longer; ``None`` for unknown ones."""
        if not digests:
            return []
        texts = self._client.mget([keys.api_key(digest) for digest in digests])
        return [_read(digest, text) for digest, text in zip(digests, texts, strict=True)]

    def _named(self, name: str) -> ApiKey | None:
        digest = self._client.hget(keys.api_keys(), name)
        return None if digest is None else self.find([as_text(digest)])[0]

    def _free(self, name: str, now: float) -> None:
        """Let a name be used again whose key works no longer."""
        digest, old = self._client.hget(keys.api_keys(), name), self._named(name)
        if digest is None or (old is not None and old.works_at(now)):
            return
        self._client.hdel(keys.api_keys(), name)
        self._client.delete(keys.api_key(as_text(digest)))

    def _save(self, key: ApiKey) -> None:
        self._client.set(keys.api_key(key.digest), key.model_dump_json())


def digest_of(text: str) -> str:
    """SHA-256 of a key's text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def _read(digest: str, text: bytes | str | None) -> ApiKey | None:
    """Read a record; one that is damaged, or is another key's, opens nothing."""
    try:
        key = None if text is None else ApiKey.model_validate_json(text)
    except ValueError:
        key = None
    expected = "" if key is None else key.digest
    return key if hmac.compare_digest(digest.encode(), expected.encode()) else None


def _check(name: str, owner: str) -> None:
    # What can name a model can be typed, and stand in a table.
    if not is_model_name(name):
        raise StartupError(
            "A key's name is 1 to 64 letters, digits, '.', '-' and '_', and begins with one of the former two."
        )
    if re.fullmatch(OWNER_PATTERN, owner) is None:
        raise StartupError("An owner's name is 1 to 64 lower-case letters, digits and '-'.")
    if owner in RESERVED_OWNERS:
        raise StartupError(
            f"No owner can be named {owner!r}: that folder of the data directory is taken; choose another."
        )
