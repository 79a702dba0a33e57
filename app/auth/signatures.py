"""Signed addresses: whoever has one may read one picture, or follow one job, for some minutes, without a key."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Mapping
from typing import Annotated, NamedTuple
from urllib.parse import urlencode

from fastapi.concurrency import run_in_threadpool
from redis import Redis

from app.dependencies import given
from ms_jobs.signing_secret import signing_secret

EXPIRES, OWNER, SIGNATURE = "expires", "owner", "signature"
# An operator who deletes the secret waits no longer until signed addresses are void.
SECRET_AGE_S = 5.0


class Signed(NamedTuple):
    """What a signature vouches for; ``expires_at`` is in Unix seconds."""

    owner: str
    expires_at: int


class Signatures:
    """Signs addresses, and checks signatures.

    Raises (every method):
        redis.exceptions.RedisError: Redis cannot be reached.
    """

    def __init__(self, client: Redis, lifetime_s: float) -> None:
        """Ask nothing of Redis yet.

        Args:
            lifetime_s: addresses are valid for so many seconds.
        """
        self._client = client
        self._lifetime_s = lifetime_s
        self._secret: tuple[float, bytes] | None = None

    async def signer(self, owner: str) -> Signer:
        """Make what signs the addresses of one owner, which all expire at the same time."""
        return Signer(await self._read_secret(), Signed(owner, int(time.time() + self._lifetime_s)))

    async def check(self, path: str, query: Mapping[str, str]) -> Signed | None:
        """What a signed address vouches for; ``None`` if it is not signed by this service, or has expired.

        Args:
            path: below the prefix that a proxy removed.
        """
        expires, owner = query.get(EXPIRES, ""), query.get(OWNER, "")
        if re.fullmatch(r"[0-9]{1,11}", expires) is None:
            return None
        signed = Signed(owner, int(expires))
        expected = signature_of(await self._read_secret(), path, signed)
        is_ours = hmac.compare_digest(expected.encode(), query.get(SIGNATURE, "").encode())
        return signed if is_ours and time.time() < signed.expires_at else None

    async def _read_secret(self) -> bytes:
        if self._secret is None or time.monotonic() - self._secret[0] > SECRET_AGE_S:
            self._secret = time.monotonic(), await run_in_threadpool(signing_secret, self._client)
        return self._secret[1]


class Signer(NamedTuple):
    """Signs addresses that expire together."""

    secret: bytes
    signed: Signed

    def sign(self, path: str) -> str:
        """The query that makes this path's address a signed one."""
        signature = signature_of(self.secret, path, self.signed)
        return urlencode({EXPIRES: self.signed.expires_at, OWNER: self.signed.owner, SIGNATURE: signature})


SignaturesDependency = Annotated[Signatures, given("signatures")]


def signature_of(secret: bytes, path: str, signed: Signed) -> str:
    """HMAC-SHA256 in base64 for addresses."""
    text = f"{signed.owner}\n{signed.expires_at}\n{path}"
    return base64.urlsafe_b64encode(hmac.new(secret, text.encode(), hashlib.sha256).digest()).decode().rstrip("=")
