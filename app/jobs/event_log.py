"""Reads a job's event log from its streams in Redis, and waits for new entries.

``ms_jobs.keys`` lists the streams. Both are numbered by the job's version, so they merge into one log.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, Self

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff

from app.config import Settings
from app.dependencies import given
from app.service.errors import HTTPProblem
from app.service.problems import TOO_MANY_WATCHERS
from app.service.shares import Shares
from ms_jobs import keys
from ms_jobs.keys import JobKey
from ms_jobs.records import JobState

# Longest blocking read; after it, the deletion of a watched job is noticed.
BLOCK_S = 2.0


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of the job's state or attempt, or a cancel request; ``at`` is in Unix seconds."""

    version: int
    event: str
    state: JobState
    attempt: int
    at: float


@dataclass(frozen=True, slots=True)
class Advance:
    """Progress of the worker; ``has_preview``: with a new preview."""

    version: int
    phase: str | None
    step: int | None
    steps: int | None
    has_preview: bool


Entry = Transition | Advance


class News(NamedTuple):
    """Entries of a log, oldest first, and the newest preview at that moment."""

    entries: list[Entry]
    preview: bytes | None


class EventLog:
    """Event logs of jobs, of all owners: which of them a client may see is for the caller to say.

    A watcher holds at most one connection, and there are at most ``max_watchers``, of which each owner's jobs have a share.

    Attributes:
        is_stopping: the process was told to stop, so waits end soon, as if timed out.

    Raises (every method):
        redis.exceptions.RedisError: Redis cannot be reached.
    """

    def __init__(self, client: Redis, max_watchers: int, *, by_owner: bool = False) -> None:
        # redis-py types it as blocking or asynchronous.
        self._client: Any = client
        self._watchers = Shares(max_watchers, by_owner=by_owner)
        self.is_stopping = False

    @classmethod
    def connect(cls, settings: Settings) -> Self:
        """Make a log with its own connections, opened when needed; ``close`` it at the end."""
        client = Redis.from_url(
            settings.redis_url,
            # A blocking read gets no answer while it blocks.
            socket_timeout=BLOCK_S + settings.redis_timeout_s,
            socket_connect_timeout=settings.redis_timeout_s,
            retry=Retry(ConstantBackoff(0.05), retries=1),
            max_connections=settings.max_watchers,
        )
        return cls(client, settings.max_watchers, by_owner=settings.auth == "on")

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    @property
    def watchers(self) -> int:
        """Number of current watchers."""
        return self._watchers.held

    @contextmanager
    def watching(self, owner: str) -> Iterator[None]:
        """Count as a watcher of an owner's jobs while the block runs.

        Raises:
            HTTPProblem: there are as many already as may be.
        """
        if not self._watchers.has(owner):
            detail = "Too many clients are watching jobs; use GET /jobs/{id} without wait, or try again later."
            raise HTTPProblem(TOO_MANY_WATCHERS, detail)
        self._watchers.take(owner)
        try:
            yield
        finally:
            self._watchers.give_back(owner)

    async def read(self, job: JobKey, after: int, with_preview: bool = False) -> News:
        """Read the entries above version ``after``; none if the job is gone."""
        events, progress = keys.events(job), keys.progress(job)
        # One command reads both streams, and one transaction also the preview: nothing comes in between.
        async with self._client.pipeline(transaction=with_preview) as pipeline:
            pipeline.xread({events: f"{after}-0", progress: f"{after}-0"})
            if with_preview:
                pipeline.get(keys.preview(job))
            reply, preview = [*await pipeline.execute(), None][:2]
        entries = sorted((_entry(*item) for item in _items(reply)), key=lambda entry: entry.version)
        return News(entries, preview)

    async def wait_for_change(self, job: JobKey, after: int, timeout_s: float) -> bool:
        """Wait until the job's version is above ``after``, or the job is gone.

        Returns:
            Whether that happened; ``False``: timed out.

        Raises:
            HTTPProblem: as ``watching``.
        """
        with self.watching(job.owner):
            return await self.next_change(job, after, timeout_s)

    async def next_change(self, job: JobKey, after: int, timeout_s: float) -> bool:
        """Do what ``wait_for_change`` does, for a caller inside ``watching``."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while True:
            if await self._has_changed(job, after):
                return True
            remaining_s = deadline - loop.time()
            if remaining_s <= 0 or self.is_stopping:
                return False
            await self._block(job, after, min(remaining_s, BLOCK_S))
            _raise_lost_cancellation()

    async def next_transition(self, job: JobKey, after: int, timeout_s: float) -> None:
        """Return when a transition above ``after`` is logged, progress aside, or after at most ``BLOCK_S``."""
        block_ms = max(1, round(min(timeout_s, BLOCK_S) * 1000))
        await self._client.xread({keys.events(job): f"{after}-0"}, count=1, block=block_ms)

    async def _has_changed(self, job: JobKey, after: int) -> bool:
        # Read from the record, since the progress stream is short and is deleted.
        version = await self._client.hget(keys.job(job), "version")
        return version is None or int(version) > after

    async def _block(self, job: JobKey, after: int, timeout_s: float) -> None:
        """Return when either stream gets an entry above ``after``, or after ``timeout_s``."""
        events, progress = keys.events(job), keys.progress(job)
        block_ms = max(1, round(timeout_s * 1000))
        await self._client.xread({events: f"{after}-0", progress: f"{after}-0"}, count=1, block=block_ms)


EventLogDependency = Annotated[EventLog, given("event_log")]


def _raise_lost_cancellation() -> None:
    """Raise a task's cancellation that ``asyncio.wait_for`` of Python 3.11 swallowed inside redis-py."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _items(reply: Any) -> Iterator[tuple[bytes, Mapping[bytes, bytes]]]:
    """Iterate over the entries of a reply to XREAD: a dict or a list of streams, by protocol version."""
    streams = reply.values() if isinstance(reply, dict) else (entries for _, entries in reply or ())
    for entries in streams:
        # With the newer protocol, redis-py wraps the entries in one more list.
        yield from entries[0] if entries and isinstance(entries[0], list) else entries


def _entry(entry_id: bytes, fields: Mapping[bytes, bytes]) -> Entry:
    version = int(entry_id.partition(b"-")[0])
    event = fields[b"event"].decode()
    if event in ("progress", "preview"):
        phase, step, steps = (json.loads(fields[name]) for name in (b"phase", b"step", b"steps"))
        return Advance(version, phase, step, steps, has_preview=event == "preview")
    state = JobState(fields[b"state"].decode())
    return Transition(version, event, state, int(fields[b"attempt"]), float(fields[b"at"]))
