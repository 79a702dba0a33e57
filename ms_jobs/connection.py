"""Redis clients: two give up after a timeout, one waits until Redis answers.

All have a socket timeout, since packets can be dropped silently. A command that timed out may still have run, so it is sent
again only where that does no harm: our scripts change a job once however often they are sent, and what RQ does twice leaves
one entry too many in its queue, which the worker skips.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any, TypeVar

from redis import Redis
from redis.backoff import ConstantBackoff, ExponentialBackoff
from redis.connection import ConnectionPool
from redis.exceptions import ConnectionError, OutOfMemoryError, ReadOnlyError, RedisError, TimeoutError
from redis.retry import Retry

from ms_core.errors import QueueUnavailableError

TIMEOUT_S = 2.0
QUICK_TIMEOUT_S = 0.5
# Longer than a worker's blocking request for the next job, see ``worker.rq_worker``.
BLOCKING_TIMEOUT_S = 6.0
FOREVER = -1
# Out of memory, the append-only file cannot be written, this is a replica, or it became one during the command.
# redis-py does not have a class for each, and for none that a script met in a Redis before version 7.
_CANNOT_WRITE = re.compile(r"(?<!\w)(OOM|MISCONF|READONLY|UNBLOCKED) ")

T = TypeVar("T")


class _BlockingRetry(Retry):
    """Sends a command again while Redis is away or cannot write: RQ ends a worker at any such error."""

    def __init__(self) -> None:
        super().__init__(_backoff(), retries=FOREVER, supported_errors=(RedisError,))

    def call_with_retry(self, do: Any, fail: Any, is_retryable: Any = None, with_failure_count: bool = False) -> Any:
        """Override redis-py's method: other errors are repeated too."""
        return super().call_with_retry(do, fail, is_retryable or _is_transient, with_failure_count)


class _BlockingPool(ConnectionPool):
    """Waits for a connection; redis-py repeats commands only once it has one."""

    def get_connection(self, *arguments: Any, **options: Any) -> Any:
        """Return an open connection."""
        return persist(super().get_connection)


def redis_client(url: str, timeout_s: float = TIMEOUT_S) -> Redis:
    """Make a client for what may fail and is done again later, such as heartbeats and HTTP requests.

    It sends a command twice at most, with a timeout of ``timeout_s`` seconds each; the second helps after a restart of Redis.
    """
    return Redis.from_url(
        url,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(ConstantBackoff(0.05), retries=1),
    )


def quick_client(url: str) -> Redis:
    """Make a client that sends a command once, with a short timeout: for a job's progress, which the job waits for."""
    return Redis.from_url(
        url,
        socket_timeout=QUICK_TIMEOUT_S,
        socket_connect_timeout=QUICK_TIMEOUT_S,
        retry=Retry(ConstantBackoff(0), retries=0),
    )


def blocking_client(url: str) -> Redis:
    """Make a client that waits until Redis answers: for what must not be lost."""
    pool = _BlockingPool.from_url(
        url,
        socket_timeout=BLOCKING_TIMEOUT_S,
        socket_connect_timeout=TIMEOUT_S,
        retry=_BlockingRetry(),
    )
    return Redis.from_pool(pool)


def persist(call: Callable[[], T]) -> T:
    """Repeat a call until Redis answers and can write."""
    backoff, failures = _backoff(), 0
    while True:
        try:
            return call()
        except RedisError as error:
            if not is_transient(error):
                raise
            failures += 1
            time.sleep(backoff.compute(failures))


def is_transient(error: RedisError) -> bool:
    """Whether Redis is away or cannot write at the moment, as opposed to a bug of ours."""
    known = (ConnectionError, TimeoutError, ReadOnlyError, OutOfMemoryError)
    return isinstance(error, known) or _CANNOT_WRITE.search(str(error)) is not None


def _is_transient(error: Exception) -> bool:
    return isinstance(error, RedisError) and is_transient(error)


def check_redis(url: str) -> None:
    """Raise ``QueueUnavailableError`` unless Redis answers."""
    client = redis_client(url)
    try:
        client.ping()
    except RedisError as error:
        raise QueueUnavailableError(f"Redis does not answer ({error}). Start it, or set MSD_REDIS_URL.") from error
    finally:
        client.close()


def _backoff() -> ExponentialBackoff:
    return ExponentialBackoff(cap=2.0, base=0.05)
