"""The secret of signed addresses, which all processes of the API share."""

from __future__ import annotations

import secrets

from redis import Redis

from ms_jobs import keys
from ms_jobs.records import as_text

_RANDOM_BYTES = 32


def signing_secret(client: Redis) -> bytes:
    """Read the secret; the first caller makes it. Without it in Redis, addresses that were signed before are void.

    Raises:
        redis.exceptions.RedisError: Redis cannot be reached.
    """
    found = client.get(keys.signing_secret())
    if found is None:
        client.set(keys.signing_secret(), secrets.token_hex(_RANDOM_BYTES), nx=True)
        found = client.get(keys.signing_secret()) or ""
    return bytes.fromhex(as_text(found))
