"""Waiting for a job: until it has ended, or until it is no longer as a client knows it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import redis

from app.errors import HTTPProblem
from app.eta import Outlook
from app.event_log import EventLog
from app.headers import is_match
from app.lookup import JobView, Lookup
from ms_jobs.records import JobRecord

# Places in the queue change, deadlines pass and clients go away without an entry in the job's log.
LOOK_AGAIN_S = 2.0

Left = Callable[[], Awaitable[bool]]


class Waiting:
    """Waits on the event loop: a hundred waiters take no thread.

    ``left`` tells whether the client has gone away, such as ``Request.is_disconnected``: then nobody waits any more.
    """

    def __init__(self, lookup: Lookup, event_log: EventLog) -> None:
        self._lookup = lookup
        self._event_log = event_log

    async def for_end(self, view: JobView, timeout_s: float, left: Left) -> JobView:
        """The job when it has ended, at the latest after ``timeout_s``.

        Raises:
            HTTPProblem: too many wait already.
            JobGoneError: the job was deleted meanwhile.
        """
        return await self._until(_has_ended, self._event_log.next_transition, view, timeout_s, left)

    async def for_change(self, view: JobView, known: str, timeout_s: float, left: Left) -> JobView:
        """The job when it has ended, or when none of the entity tags of an ``If-None-Match`` fits; else as ``for_end``."""

        def is_news(view: JobView) -> bool:
            return _has_ended(view) or not is_match(known, view.etag)

        return await self._until(is_news, self._event_log.next_change, view, timeout_s, left)

    async def for_end_of_accepted(self, record: JobRecord, timeout_s: float, left: Left) -> JobView:
        """As ``for_end``, for a job just accepted: the answer must name it, whatever comes between."""
        view = JobView(record, Outlook())
        try:
            view = await self._lookup.view_of(record)
            return await self.for_end(view, timeout_s, left)
        except (HTTPProblem, redis.RedisError):
            return view

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
                view = await self._lookup.view(view.record.id)
        return view


def _has_ended(view: JobView) -> bool:
    return view.record.state.ended
