"""Lists the jobs of an owner, in pages."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import Annotated, NamedTuple

import redis

from app.config import Settings
from app.dependencies import given
from app.jobs.eta import Forecast
from app.jobs.manage import Jobs, is_due
from app.jobs.read import JobView
from app.service.errors import HTTPProblem
from app.service.problems import INVALID_PARAMETER
from ms_core.errors import JobNotFoundError, UnreadableJobError
from ms_jobs.job_store import JobStore
from ms_jobs.records import JobRecord, JobState, is_job_id

MAX_PAGE = 100
# Most jobs read for one page, when few have the requested state.
MAX_LOOKS = 500


class Cursor(NamedTuple):
    """The last job of a page; the next page starts with the first older one.

    Attributes:
        created_at: Unix seconds.
    """

    created_at: float
    job_id: str

    def encode(self) -> str:
        """Encode the cursor for clients."""
        return base64.urlsafe_b64encode(f"{self.created_at!r} {self.job_id}".encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> Cursor:
        """Decode what ``encode`` wrote.

        Raises:
            HTTPProblem: the text is not a cursor.
        """
        try:
            decoded = base64.b64decode(text.encode() + b"=" * (-len(text) % 4), altchars=b"-_", validate=True).decode()
            created_at, _, job_id = decoded.partition(" ")
            cursor = cls(float(created_at), job_id)
        except (ValueError, binascii.Error) as error:
            raise _unknown_cursor() from error
        if not math.isfinite(cursor.created_at) or not is_job_id(job_id):
            raise _unknown_cursor()
        return cursor


class Page(NamedTuple):
    """Some jobs, newest first, and the cursor of the next page; ``None``: this is the last."""

    views: list[JobView]
    next: Cursor | None


class JobList:
    """Lists the jobs of one owner by time of creation.

    Raises (every method):
        redis.exceptions.RedisError: Redis cannot be reached.
    """

    def __init__(self, client: redis.Redis, jobs: Jobs, forecast: Forecast, settings: Settings) -> None:
        self._store = JobStore(client, lifetime_s=settings.lifetime_s)
        self._forecast = forecast
        self._jobs = jobs
        self._lifetime_s = settings.lifetime_s

    def page(self, states: Collection[JobState], limit: int, after: Cursor | None) -> Page:
        """Get at most ``limit`` jobs older than ``after``; jobs added meanwhile shift nothing.

        Args:
            states: only jobs in these states; empty: all. With states, a short page need not be the last.
        """
        found: list[JobRecord] = []
        last, more, looks = after, True, 0
        while more and len(found) < limit and looks < MAX_LOOKS:
            batch, more = self._batch(last, MAX_PAGE if states else limit)
            records = self._store.get_many([cursor.job_id for cursor in batch])
            for cursor, record in zip(batch, records, strict=True):
                if len(found) == limit:
                    more = True
                    break
                last, looks = cursor, looks + 1
                found += [shown for shown in self._now(record) if not states or shown.state in states]
        views = [JobView(*pair) for pair in zip(found, self._forecast.outlooks(found), strict=True)]
        return Page(views, last if more else None)

    def _batch(self, after: Cursor | None, size: int) -> tuple[list[Cursor], bool]:
        """Get the next jobs, at most ``size``, and whether there are more."""
        before = "+inf" if after is None else repr(after.created_at)
        # The first may be the cursor's own job; the last one shows whether there are more.
        asked = size + 2
        while True:
            pairs = self._store.ids(before, asked)
            cursors = [Cursor(created_at, job_id) for job_id, created_at in pairs]
            older = [cursor for cursor in cursors if after is None or cursor < after]
            if len(older) > size or len(pairs) < asked:
                return older[:size], len(older) > size
            # After a clock was set back, many jobs may share the cursor's time.
            asked *= 2

    def _now(self, record: JobRecord | UnreadableJobError | None) -> Iterator[JobRecord]:
        """Yield the job after deadlines were applied, if it still exists and can be read."""
        if not isinstance(record, JobRecord):
            return
        if not is_due(record, self._lifetime_s):
            yield record
            return
        with suppress(JobNotFoundError, UnreadableJobError):
            yield self._jobs.find(record.id)


JobListDependency = Annotated[JobList, given("job_list")]


def _unknown_cursor() -> HTTPProblem:
    return HTTPProblem(
        INVALID_PARAMETER, "This cursor is not from GET /jobs; leave it out to start from the first page."
    )
