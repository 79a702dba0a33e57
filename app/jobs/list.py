"""Lists jobs, in pages."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from typing import Annotated, NamedTuple

import redis

from app.config import Settings
from app.dependencies import owned
from app.jobs.eta import Forecast
from app.jobs.manage import Jobs, is_due
from app.jobs.read import JobView
from app.service.pages import MAX_PAGE, Cursor
from ms_core.errors import JobNotFoundError, UnreadableJobError
from ms_jobs.job_store import JobStore
from ms_jobs.keys import JobKey
from ms_jobs.records import JobRecord, JobState

# Most jobs read for one page, when few have the requested state.
MAX_LOOKS = 500


class Page(NamedTuple):
    """Some jobs, newest first, and the cursor of the next page; ``None``: this is the last."""

    views: list[JobView]
    next: Cursor | None


class JobList:
    """Lists the jobs of some owners by time of creation.

    Raises (every method):
        redis.exceptions.RedisError: Redis cannot be reached.
    """

    def __init__(
        self, client: redis.Redis, owners: Callable[[], Iterable[Jobs]], forecast: Forecast, settings: Settings
    ) -> None:
        """``owners`` tells whose jobs are listed now."""
        self._store = JobStore(client, lifetime_s=settings.lifetime_s)
        self._owners = owners
        self._forecast = forecast
        self._lifetime_s = settings.lifetime_s

    def page(self, states: Collection[JobState], limit: int, after: Cursor | None) -> Page:
        """Get at most ``limit`` jobs older than ``after``; jobs added meanwhile shift nothing.

        Args:
            states: only jobs in these states; empty: all. With states, a short page need not be the last.
        """
        jobs = {each.owner: each for each in self._owners()}
        found: list[JobRecord] = []
        last, more, looks = after, True, 0
        while more and len(found) < limit and looks < MAX_LOOKS:
            batch, more = self._batch(jobs, last, MAX_PAGE if states else limit)
            records = self._store.get_all([JobKey(owner, cursor.id) for cursor, owner in batch])
            for (cursor, owner), record in zip(batch, records, strict=True):
                if len(found) == limit:
                    more = True
                    break
                last, looks = cursor, looks + 1
                found += [shown for shown in self._now(jobs[owner], record) if not states or shown.state in states]
        views = [JobView(*pair) for pair in zip(found, self._forecast.outlooks(found), strict=True)]
        return Page(views, last if more else None)

    def _batch(self, owners: Iterable[str], after: Cursor | None, size: int) -> tuple[list[tuple[Cursor, str]], bool]:
        """Get the next jobs with their owners, at most ``size``, and whether there are more."""
        batches = {owner: self._batch_of(owner, after, size) for owner in owners}
        found = sorted(((cursor, owner) for owner, (batch, _) in batches.items() for cursor in batch), reverse=True)
        return found[:size], len(found) > size or any(more for _, more in batches.values())

    def _batch_of(self, owner: str, after: Cursor | None, size: int) -> tuple[list[Cursor], bool]:
        store = self._store.for_owner(owner)
        before = "+inf" if after is None else repr(after.created_at)
        # The first may be the cursor's own job; the last one shows whether there are more.
        asked = size + 2
        while True:
            pairs = store.ids(before, asked)
            cursors = [Cursor(created_at, job_id) for job_id, created_at in pairs]
            older = [cursor for cursor in cursors if after is None or cursor < after]
            if len(older) > size or len(pairs) < asked:
                return older[:size], len(older) > size
            # After a clock was set back, many jobs may share the cursor's time.
            asked *= 2

    def _now(self, jobs: Jobs, record: JobRecord | UnreadableJobError | None) -> Iterator[JobRecord]:
        """Yield the job after deadlines were applied, if it still exists and can be read."""
        if not isinstance(record, JobRecord):
            return
        if not is_due(record, self._lifetime_s):
            yield record
            return
        with suppress(JobNotFoundError, UnreadableJobError):
            yield jobs.find(record.id)


JobListDependency = Annotated[JobList, owned("job_list")]
