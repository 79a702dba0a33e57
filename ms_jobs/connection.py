"""Redis clients of two tempers: one gives up soon, one waits for as long as it takes.

Neither waits for an answer without end: packets may be swallowed without a word, and then only time tells. What was asked
may have been done all the same, so it is asked again only where that does no harm: no script of ours changes a job twice
for it, and what RQ does twice costs an entry in its queue, which the worker finds to be no more to do.
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

BRISK_TIMEOUT_S = 2.0
HASTY_TIMEOUT_S = 0.5
# Must be longer than a worker's question for the next job stays open, see ``worker.rq_worker``.
PATIENT_TIMEOUT_S = 6.0
FOREVER = -1
# No memory is left, the append-only file cannot be written, this is a replica, or it became one while it was asked.
# redis-py has no class for each of these, and for none that a script met in a Redis before version 7.
_CANNOT_WRITE = re.compile(r"(?<!\w)(OOM|MISCONF|READONLY|UNBLOCKED) ")

T = TypeVar("T")


class _PatientRetry(Retry):
    """Asks again for as long as Redis is away or cannot write: RQ ends a worker at any such error."""

    def __init__(self) -> None:
        super().__init__(_backoff(), retries=FOREVER, supported_errors=(RedisError,))

    def call_with_retry(self, do: Any, fail: Any, is_retryable: Any = None, with_failure_count: bool = False) -> Any:
        """As redis-py's own, but for what is worth another try."""
        return super().call_with_retry(do, fail, is_retryable or _is_worth_another_try, with_failure_count)


class _PatientPool(ConnectionPool):
    """Gives a connection however long that takes; redis-py's own retries begin only when there is one."""

    def get_connection(self, *arguments: Any, **options: Any) -> Any:
        """A connection that is open."""
        return persist(super().get_connection)


def brisk_client(url: str, timeout_s: float = BRISK_TIMEOUT_S) -> Redis:
    """A client for what may fail and be tried again later, such as beats and HTTP requests.

    It gives up after ``timeout_s`` seconds of silence and tries once more, as after a restart of Redis.
    """
    return Redis.from_url(
        url,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(ConstantBackoff(0.05), retries=1),
    )


def hasty_client(url: str) -> Redis:
    """A client for what must not take long, such as last words and the progress of a job, which waits for it."""
    return Redis.from_url(
        url,
        socket_timeout=HASTY_TIMEOUT_S,
        socket_connect_timeout=HASTY_TIMEOUT_S,
        retry=Retry(ConstantBackoff(0), retries=0),
    )


def patient_client(url: str) -> Redis:
    """A client that tries again until Redis answers, for what must not be lost."""
    pool = _PatientPool.from_url(
        url,
        socket_timeout=PATIENT_TIMEOUT_S,
        socket_connect_timeout=BRISK_TIMEOUT_S,
        retry=_PatientRetry(),
    )
    return Redis.from_pool(pool)


def persist(call: Callable[[], T]) -> T:
    """Call again and again while Redis is away or cannot take what is written, for as long as it takes."""
    backoff, failures = _backoff(), 0
    while True:
        try:
            return call()
        except RedisError as error:
            if not passes(error):
                raise
            failures += 1
            time.sleep(backoff.compute(failures))


def passes(error: RedisError) -> bool:
    """Whether the trouble is one of Redis that may be over soon, and not a mistake of ours."""
    known = (ConnectionError, TimeoutError, ReadOnlyError, OutOfMemoryError)
    return isinstance(error, known) or _CANNOT_WRITE.search(str(error)) is not None


def _is_worth_another_try(error: Exception) -> bool:
    return isinstance(error, RedisError) and passes(error)


def check_redis(url: str) -> None:
    """Raise ``QueueUnavailableError`` unless Redis answers."""
    client = brisk_client(url)
    try:
        client.ping()
    except RedisError as error:
        raise QueueUnavailableError(f"Redis does not answer ({error}). Start it, or set MSD_REDIS_URL.") from error
    finally:
        client.close()


def _backoff() -> ExponentialBackoff:
    return ExponentialBackoff(cap=2.0, base=0.05)
