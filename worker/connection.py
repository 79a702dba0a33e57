"""Redis clients of two tempers: one gives up soon, one waits for as long as it takes."""

from __future__ import annotations

from redis import Redis
from redis.backoff import ConstantBackoff, ExponentialBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from ms_core.errors import QueueUnavailableError

BRISK_TIMEOUT_S = 2.0
FOREVER = -1


def brisk_client(url: str) -> Redis:
    """A client for what may fail and be tried again later, such as beats and progress."""
    return Redis.from_url(
        url,
        socket_timeout=BRISK_TIMEOUT_S,
        socket_connect_timeout=BRISK_TIMEOUT_S,
        retry=Retry(ConstantBackoff(0.05), retries=1),
    )


def patient_client(url: str) -> Redis:
    """A client that tries again until Redis answers, for what must not be lost."""
    return Redis.from_url(
        url,
        socket_connect_timeout=BRISK_TIMEOUT_S,
        retry=Retry(ExponentialBackoff(cap=2.0, base=0.05), retries=FOREVER),
    )


def check_redis(url: str) -> None:
    """Raise ``QueueUnavailableError`` unless Redis answers."""
    client = brisk_client(url)
    try:
        client.ping()
    except RedisError as error:
        raise QueueUnavailableError(f"Redis does not answer ({error}). Start it, or set MSD_REDIS_URL.") from error
    finally:
        client.close()
