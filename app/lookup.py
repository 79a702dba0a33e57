"""What a poll asks for: no thread waits for each, and all that come at once are put to Redis together."""

from __future__ import annotations

from typing import NamedTuple

import redis
from fastapi.concurrency import run_in_threadpool

from app.batches import Batches
from app.eta import Forecast, Outlook
from app.jobs import Jobs, is_due
from ms_jobs import keys
from ms_jobs.keys import JobKey
from ms_jobs.records import LOCAL_OWNER, JobRecord, is_job_id


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

    def __init__(self, client: redis.Redis, jobs: Jobs, forecast: Forecast, lifetime_s: float) -> None:
        self._client = client
        self._jobs = jobs
        self._forecast = forecast
        self._lifetime_s = lifetime_s
        self._batches = Batches[str | JobRecord, JobView | None](self._look_up, "lookup")

    async def view(self, job_id: str) -> JobView:
        """The job as it stands now.

        Raises:
            JobNotFoundError: there is no such job.
            JobGoneError: there was one, and it was deleted or is over its lifetime.
        """
        view = await self._batches.ask(job_id) if is_job_id(job_id) else None
        if view is not None:
            return view
        # Rare, and takes more than reading.
        return await self.view_of(await run_in_threadpool(self._jobs.find, job_id))

    async def view_of(self, record: JobRecord) -> JobView:
        """The job of a record just read."""
        if record.state.ended:
            return JobView(record, Outlook())
        view = await self._batches.ask(record)
        return view or JobView(record, Outlook())

    def close(self) -> None:
        """Look up no more."""
        self._batches.close()

    def _look_up(self, asked: list[str | JobRecord]) -> list[JobView | None | Exception]:
        """The jobs of ids and of records just read; ``None`` for those that are not there or past a deadline."""
        with self._client.pipeline(transaction=False) as pipeline:
            for item in asked:
                if isinstance(item, str):
                    pipeline.hgetall(keys.job(JobKey(LOCAL_OWNER, item)))
            read = iter(pipeline.execute() if len(pipeline) else [])
        found = [self._record(next(read)) if isinstance(item, str) else item for item in asked]
        outlooks = iter(self._forecast.outlooks([item for item in found if isinstance(item, JobRecord)]))
        return [JobView(item, next(outlooks)) if isinstance(item, JobRecord) else item for item in found]

    def _record(self, fields: dict[bytes, bytes]) -> JobRecord | None | Exception:
        try:
            record = JobRecord.from_hash(fields) if fields else None
        except ValueError as error:
            # The others' records can be read.
            return error
        return None if record is None or is_due(record, self._lifetime_s) else record
