"""What a poll asks for: without threads, and with as few questions to Redis as can be."""

from __future__ import annotations

from typing import Any, NamedTuple

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff

from app.config import Settings
from app.eta import Forecast, Outlook
from app.jobs import Jobs, is_due
from worker.contract import LOCAL_OWNER, JobRecord, is_job_id

MAX_CONNECTIONS = 64
# Threads of their own: polls do not wait behind requests whose pictures are decoded.
MAX_THREADS = 8


class JobView(NamedTuple):
    """A job and what is ahead of it."""

    record: JobRecord
    outlook: Outlook

    @property
    def etag(self) -> str:
        """A weak entity tag: seconds spent so far and the like may differ under the same one."""
        position = self.outlook.position
        place = "" if position is None else f"-{position}"
        return f'W/"{self.record.version}{place}"'


class Lookup:
    """Reads the jobs of one owner.

    Raises (every method):
        redis.exceptions.RedisError: Redis cannot be reached.
    """

    def __init__(self, client: Redis, jobs: Jobs, forecast: Forecast, lifetime_s: float) -> None:
        # Its types are those of a client that may be blocking too.
        self._client: Any = client
        self._jobs = jobs
        self._forecast = forecast
        self._threads = CapacityLimiter(MAX_THREADS)
        self._lifetime_s = lifetime_s

    async def view(self, job_id: str) -> JobView:
        """The job as it stands now.

        Raises:
            JobNotFoundError: there is no such job.
            JobGoneError: there was one, and it was deleted or is over its lifetime.
        """
        key = f"msd:job:{LOCAL_OWNER}:{job_id}"
        fields = await self._client.hgetall(key) if is_job_id(job_id) else None
        record = JobRecord.from_hash(fields) if fields else None
        if record is None or is_due(record, self._lifetime_s):
            # Rare, and takes more than reading.
            record = await run_sync(self._jobs.find, job_id, limiter=self._threads)
        return await self.view_of(record)

    async def view_of(self, record: JobRecord) -> JobView:
        """The job of a record just read."""
        if record.state.ended:
            return JobView(record, Outlook())
        return JobView(record, await run_sync(self._forecast.outlook, record, limiter=self._threads))


def connect_lookup(settings: Settings) -> Redis:
    """A client for ``Lookup``: whoever finds all its connections in use waits for one for a short while."""
    pool = BlockingConnectionPool.from_url(
        settings.redis_url,
        max_connections=MAX_CONNECTIONS,
        timeout=settings.redis_timeout_s,
        socket_timeout=settings.redis_timeout_s,
        socket_connect_timeout=settings.redis_timeout_s,
        retry=Retry(ConstantBackoff(0.05), retries=1),
    )
    return Redis.from_pool(pool)
