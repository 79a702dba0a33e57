"""Non-blocking reads of jobs, for polling and waiting clients."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, NamedTuple

import redis
from fastapi.concurrency import run_in_threadpool

from app.dependencies import owned
from app.jobs.eta import Forecast, Outlook
from app.jobs.event_log import EventLog
from app.jobs.headers import is_match
from app.jobs.manage import Jobs, is_due
from app.service.coalescer import Coalescer
from app.service.errors import HTTPProblem
from ms_core.errors import MSDiffusionError, UnreadableJobError
from ms_jobs import keys
from ms_jobs.job_store import read_record
from ms_jobs.keys import JobKey
from ms_jobs.records import JobRecord, is_job_id

# Queue positions change, deadlines pass and clients leave without an entry in the job's log.
LOOK_AGAIN_S = 2.0

Left = Callable[[], Awaitable[bool]]


class JobView(NamedTuple):
    """A job with its position and estimated end."""

    record: JobRecord
    outlook: Outlook

    @property
    def etag(self) -> str:
        """Weak entity tag: durations may differ under the same one."""
        position = self.outlook.position
        place = "" if position is None else f"-{position}"
        return f'W/"{self.record.version}{place}"'


class Lookups:
    """Reads the jobs of all owners, many at once."""

    def __init__(self, client: redis.Redis, forecast: Forecast, lifetime_s: float) -> None:
        self._client = client
        self._forecast = forecast
        self._lifetime_s = lifetime_s
        self._coalescer = Coalescer[JobKey | JobRecord, JobView | None](self._look_up, "lookup")

    async def view(self, job: JobKey | JobRecord) -> JobView | None:
        """Get the view of a job, or of its record just read; ``None`` if it is missing, or past a deadline.

        Raises:
            redis.exceptions.RedisError: Redis cannot be reached.
            UnreadableJobError: its record is damaged, or of a newer version.
        """
        return await self._coalescer.ask(job)

    def close(self) -> None:
        """Stop."""
        self._coalescer.close()

    def _look_up(self, asked: list[JobKey | JobRecord]) -> list[JobView | None | Exception]:
        with self._client.pipeline(transaction=False) as pipeline:
            for item in asked:
                if isinstance(item, JobKey):
                    pipeline.hgetall(keys.job(item))
            read = iter(pipeline.execute(raise_on_error=False) if len(pipeline) else [])
        found = [self._current(read_record(next(read))) if isinstance(item, JobKey) else item for item in asked]
        outlooks = iter(self._forecast.outlooks([item for item in found if isinstance(item, JobRecord)]))
        return [JobView(item, next(outlooks)) if isinstance(item, JobRecord) else item for item in found]

    def _current(self, record: JobRecord | UnreadableJobError | None) -> JobRecord | UnreadableJobError | None:
        return None if isinstance(record, JobRecord) and is_due(record, self._lifetime_s) else record


class Reader:
    """Reads and awaits the jobs of one owner on the event loop: waiters hold no thread.

    ``left`` returns whether the client has disconnected, as ``Request.is_disconnected`` does; then the wait ends.

    Raises (every method):
        redis.exceptions.RedisError: Redis cannot be reached.
    """

    def __init__(self, jobs: Jobs, lookups: Lookups, event_log: EventLog) -> None:
        self._jobs = jobs
        self._lookups = lookups
        self._event_log = event_log

    async def view(self, job_id: str) -> JobView:
        """Read a job.

        Raises:
            JobNotFoundError: there is no such job.
            JobGoneError: the job was deleted or has expired.
        """
        view = await self._lookups.view(JobKey(self._jobs.owner, job_id)) if is_job_id(job_id) else None
        if view is not None:
            return view
        # Rare: missing, or a deadline must be applied.
        return await self.view_of(await run_in_threadpool(self._jobs.find, job_id))

    async def view_of(self, record: JobRecord) -> JobView:
        """Make the view of a record just read."""
        if record.state.ended:
            return JobView(record, Outlook())
        view = await self._lookups.view(record)
        return view or JobView(record, Outlook())

    async def wait_for_end(self, view: JobView, timeout_s: float, left: Left) -> JobView:
        """Wait until the job has ended, for at most ``timeout_s``.

        Raises:
            HTTPProblem: too many clients are waiting.
            JobGoneError: the job was deleted meanwhile.
        """
        return await self._until(_has_ended, self._event_log.next_transition, view, timeout_s, left)

    async def wait_for_change(self, view: JobView, known: str, timeout_s: float, left: Left) -> JobView:
        """Wait until the job has ended or its tag is not in the ``If-None-Match`` of ``known``; else as ``wait_for_end``."""

        def is_news(view: JobView) -> bool:
            return _has_ended(view) or not is_match(known, view.etag)

        return await self._until(is_news, self._event_log.next_change, view, timeout_s, left)

    async def wait_for_accepted(self, record: JobRecord, timeout_s: float, left: Left) -> JobView:
        """Wait like ``wait_for_end`` for a job just accepted; errors end the wait, since the answer must name the job.

        Also if it was deleted meanwhile: then its last state is the answer.
        """
        view = JobView(record, Outlook())
        try:
            view = await self.view_of(record)
            return await self.wait_for_end(view, timeout_s, left)
        except (HTTPProblem, MSDiffusionError, redis.RedisError):
            return view

    async def _until(
        self,
        is_enough: Callable[[JobView], bool],
        sleep: Callable[[JobKey, int, float], Awaitable[Any]],
        view: JobView,
        timeout_s: float,
        left: Left,
    ) -> JobView:
        if is_enough(view) or timeout_s <= 0:
            return view
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        with self._event_log.watching(view.record.owner):
            while not is_enough(view) and (remaining_s := deadline - loop.time()) > 0:
                if self._event_log.is_stopping or await left():
                    break
                await sleep(view.record.key, view.record.version, min(remaining_s, LOOK_AGAIN_S))
                view = await self.view(view.record.id)
        return view


ReaderDependency = Annotated[Reader, owned("reader")]


def _has_ended(view: JobView) -> bool:
    return view.record.state.ended
