"""Redis clients: two give up after a timeout, one waits until Redis answers.

All have a socket timeout, since packets can be dropped silently. A command that timed out may still have run, so it is sent
again only where that does no harm: our scripts change a job once however often they are sent, and what RQ does twice leaves
one entry too many in its queue, which the worker skips.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar, cast

from redis import Redis
from redis.backoff import ConstantBackoff, ExponentialBackoff
from redis.connection import ConnectionPool
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    ConnectionError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,
)
from redis.retry import Retry

from ms_core.errors import QueueUnavailableError

DEFAULT_URL = "redis://127.0.0.1:6379/0"
TIMEOUT_S = 2.0
QUICK_TIMEOUT_S = 0.5
# Longer than a worker's blocking request for the next job, see ``worker.rq_worker``.
BLOCKING_TIMEOUT_S = 6.0
FOREVER = -1
# Redis answers, and refuses for a reason of its own: no memory, an append-only file that cannot be written, a replica, a
# script that runs for long, no permission, a start, a wrong password. redis-py does not have a class for each, and for none
# that a script met in a Redis before version 7.
_REFUSED = re.compile(
    r"(?<!\w)(OOM|MISCONF|READONLY|UNBLOCKED|MASTERDOWN|NOREPLICAS|BUSY|LOADING|NOPERM|NOAUTH|WRONGPASS|DENIED|CLUSTERDOWN"
    r"|TRYAGAIN|UNKILLABLE) |ACL failure in script|user executing the script can't|DB index is out of range"
)
TELL_AGAIN_AFTER_S = 60.0

log = logging.getLogger(__name__)

T = TypeVar("T")


class _BlockingRetry(Retry):
    """Sends a command again while Redis is away or cannot write: RQ ends a worker at any such error."""

    def __init__(self) -> None:
        super().__init__(_backoff(), retries=FOREVER, supported_errors=(RedisError,))

    def call_with_retry(self, do: Any, fail: Any, is_retryable: Any = None, with_failure_count: bool = False) -> Any:
        """Override redis-py's method: other errors are repeated too, and why it waits is logged."""

        def tell(error: RedisError, *failures: int) -> None:
            _waits.tell(error)
            fail(error, *failures)

        retryable: Any = is_retryable or is_transient
        return super().call_with_retry(do, cast("Any", tell), retryable, with_failure_count)


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
            _waits.tell(error)
            failures += 1
            time.sleep(backoff.compute(failures))


def is_transient(error: RedisError) -> bool:
    """Whether Redis is away or refuses at the moment, as opposed to a bug of ours or a damaged record."""
    known = (ConnectionError, TimeoutError, ReadOnlyError, OutOfMemoryError, NoPermissionError, ClusterDownError)
    return isinstance(error, known) or _REFUSED.search(str(error)) is not None


def refusal(error: RedisError) -> str | None:
    """Redis' own words if it answers and refuses; ``None`` if it does not answer."""
    answers = isinstance(error, (ResponseError, ReadOnlyError, AuthenticationError, BusyLoadingError))
    return str(error) if answers else None


def describe(error: RedisError, name: str = "Redis") -> str:
    """That it does not answer, or that it refuses, with its own words."""
    return f"{name} {'does not answer' if refusal(error) is None else 'refuses'}: {error}"


class ReasonLog:
    """Logs why Redis is away or refuses: each reason once, and again if it lasts for a minute. Threads may share one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told_at: dict[str, float] = {}

    def tell(self, error: RedisError) -> None:
        """Log the reason unless it was just logged."""
        # Without what differs from one command or script to the next.
        reason = re.sub(r" script: .*|\bf_[0-9a-f]+|\b[0-9a-f]{40}\b|\d+", "", f"{type(error).__name__}: {error}")
        if self._is_news(reason):
            log.warning("%s", describe(error))

    def _is_news(self, reason: str) -> bool:
        now = time.monotonic()
        with self._lock:
            self._told_at = {known: at for known, at in self._told_at.items() if now - at < TELL_AGAIN_AFTER_S}
            is_news = reason not in self._told_at
            if is_news:
                self._told_at[reason] = now
            return is_news


_waits = ReasonLog()


def check_redis(url: str) -> None:
    """Raise ``QueueUnavailableError`` unless Redis answers, and does not refuse."""
    client = redis_client(url)
    try:
        client.ping()
    except RedisError as error:
        remedy = "Start it" if refusal(error) is None else "Let it accept this service"
        raise QueueUnavailableError(f"{describe(error).rstrip('.')}. {remedy}, or set MSD_REDIS_URL.") from error
    finally:
        client.close()


def _backoff() -> ExponentialBackoff:
    return ExponentialBackoff(cap=2.0, base=0.05)
