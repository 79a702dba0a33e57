"""How a job stands, and waiting for it: no thread for each client, and one question to Redis for all that come at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, NamedTuple

import redis
from fastapi.concurrency import run_in_threadpool

from app.dependencies import given
from app.jobs.coalescer import Coalescer
from app.jobs.eta import Forecast, Outlook
from app.jobs.event_log import EventLog
from app.jobs.headers import is_match
from app.jobs.manage import Jobs, is_due
from app.service.errors import HTTPProblem
from ms_jobs import keys
from ms_jobs.keys import JobKey
from ms_jobs.records import LOCAL_OWNER, JobRecord, is_job_id

# Places in the queue change, deadlines pass and clients go away without an entry in the job's log.
LOOK_AGAIN_S = 2.0

Left = Callable[[], Awaitable[bool]]


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


class Reader:
    """Reads the jobs of one owner, and waits for them, on the event loop: a hundred waiters take no thread.

    ``left`` tells whether the client has gone away, such as ``Request.is_disconnected``: then nobody waits any more.

    Raises (every method):
        redis.exceptions.RedisError: Redis cannot be reached.
    """

    def __init__(
        self, client: redis.Redis, jobs: Jobs, forecast: Forecast, event_log: EventLog, lifetime_s: float
    ) -> None:
        self._client = client
        self._jobs = jobs
        self._forecast = forecast
        self._event_log = event_log
        self._lifetime_s = lifetime_s
        self._coalescer = Coalescer[str | JobRecord, JobView | None](self._look_up, "lookup")

    async def view(self, job_id: str) -> JobView:
        """The job as it stands now.

        Raises:
            JobNotFoundError: there is no such job.
            JobGoneError: there was one, and it was deleted or is over its lifetime.
        """
        view = await self._coalescer.ask(job_id) if is_job_id(job_id) else None
        if view is not None:
            return view
        # Rare, and takes more than reading.
        return await self.view_of(await run_in_threadpool(self._jobs.find, job_id))

    async def view_of(self, record: JobRecord) -> JobView:
        """The job of a record just read."""
        if record.state.ended:
            return JobView(record, Outlook())
        view = await self._coalescer.ask(record)
        return view or JobView(record, Outlook())

    async def wait_for_end(self, view: JobView, timeout_s: float, left: Left) -> JobView:
        """The job when it has ended, at the latest after ``timeout_s``.

        Raises:
            HTTPProblem: too many wait already.
            JobGoneError: the job was deleted meanwhile.
        """
        return await self._until(_has_ended, self._event_log.next_transition, view, timeout_s, left)

    async def wait_for_change(self, view: JobView, known: str, timeout_s: float, left: Left) -> JobView:
        """The job when it has ended, or when none of the entity tags of an ``If-None-Match`` fits; else as ``wait_for_end``."""

        def is_news(view: JobView) -> bool:
            return _has_ended(view) or not is_match(known, view.etag)

        return await self._until(is_news, self._event_log.next_change, view, timeout_s, left)

    async def wait_for_accepted(self, record: JobRecord, timeout_s: float, left: Left) -> JobView:
        """As ``wait_for_end``, for a job just accepted: the answer must name it, whatever comes between."""
        view = JobView(record, Outlook())
        try:
            view = await self.view_of(record)
            return await self.wait_for_end(view, timeout_s, left)
        except (HTTPProblem, redis.RedisError):
            return view

    def close(self) -> None:
        """Look up no more."""
        self._coalescer.close()

    async def _until(
        self,
        is_enough: Callable[[JobView], bool],
        sleep: Callable[[str, int, float], Awaitable[Any]],
        view: JobView,
        timeout_s: float,
        left: Left,
    ) -> JobView:
        if is_enough(view) or timeout_s <= 0:
            return view
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        with self._event_log.watching():
            while not is_enough(view) and (remaining_s := deadline - loop.time()) > 0:
                if self._event_log.is_stopping or await left():
                    break
                await sleep(view.record.id, view.record.version, min(remaining_s, LOOK_AGAIN_S))
                view = await self.view(view.record.id)
        return view

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


ReaderDependency = Annotated[Reader, given("reader")]


def _has_ended(view: JobView) -> bool:
    return view.record.state.ended
