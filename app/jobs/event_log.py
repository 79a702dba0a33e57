"""What happened to a job, read from its streams in Redis, and waiting for what happens next.

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
from ms_jobs import keys
from ms_jobs.keys import JobKey
from ms_jobs.records import LOCAL_OWNER, JobState

# How long one blocking read may last: a job that was deleted under its watchers is noticed then.
BLOCK_S = 2.0


@dataclass(frozen=True, slots=True)
class Transition:
    """The job changed its state, its attempt, or was asked to end; ``at`` is in Unix seconds."""

    version: int
    event: str
    state: JobState
    attempt: int
    at: float


@dataclass(frozen=True, slots=True)
class Advance:
    """The worker came further; ``has_preview``: it left a picture of how far."""

    version: int
    phase: str | None
    step: int | None
    steps: int | None
    has_preview: bool


Entry = Transition | Advance


class News(NamedTuple):
    """Entries of a log, oldest first, and the newest preview as it stood at that moment."""

    entries: list[Entry]
    preview: bytes | None


class EventLog:
    """The logs of one owner's jobs.

    Every watcher holds at most one connection at a time, and there are at most ``max_watchers``.

    Attributes:
        is_stopping: the process was told to end: waits end soon, as if their time were over.

    Raises (every method):
        redis.exceptions.RedisError: Redis cannot be reached.
    """

    def __init__(self, client: Redis, max_watchers: int, owner: str = LOCAL_OWNER) -> None:
        # Its types are those of a client that may be blocking too.
        self._client: Any = client
        self._max_watchers = max_watchers
        self._owner = owner
        self._watchers = 0
        self.is_stopping = False

    @classmethod
    def connect(cls, settings: Settings) -> Self:
        """A log with connections of its own, made when they are needed; ``close`` it in the end."""
        client = Redis.from_url(
            settings.redis_url,
            # A blocking read is silent for as long as it blocks.
            socket_timeout=BLOCK_S + settings.redis_timeout_s,
            socket_connect_timeout=settings.redis_timeout_s,
            retry=Retry(ConstantBackoff(0.05), retries=1),
            max_connections=settings.max_watchers,
        )
        return cls(client, settings.max_watchers)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    @property
    def watchers(self) -> int:
        """How many are watching now."""
        return self._watchers

    @contextmanager
    def watching(self) -> Iterator[None]:
        """A place among the watchers, for as long as the block runs.

        Raises:
            HTTPProblem: there are as many as there may be.
        """
        if self._watchers >= self._max_watchers:
            detail = "Too many clients are watching jobs; use GET /jobs/{id} without wait, or try again later."
            raise HTTPProblem(TOO_MANY_WATCHERS, detail)
        self._watchers += 1
        try:
            yield
        finally:
            self._watchers -= 1

    async def read(self, job_id: str, after: int, with_preview: bool = False) -> News:
        """What is in the log above the version ``after``; nothing if the job is no more."""
        events, progress = self._streams(job_id)
        # One command reads both streams, and one transaction the preview too: nothing can come in between.
        async with self._client.pipeline(transaction=with_preview) as pipeline:
            pipeline.xread({events: f"{after}-0", progress: f"{after}-0"})
            if with_preview:
                pipeline.get(keys.preview(self._key(job_id)))
            reply, preview = [*await pipeline.execute(), None][:2]
        entries = sorted((_entry(*item) for item in _items(reply)), key=lambda entry: entry.version)
        return News(entries, preview)

    async def wait_for_change(self, job_id: str, after: int, timeout_s: float) -> bool:
        """Wait until the job's version is above ``after``, or the job is no more.

        Returns:
            Whether it is; ``False``: the time is over.

        Raises:
            HTTPProblem: as ``watching``.
        """
        with self.watching():
            return await self.next_change(job_id, after, timeout_s)

    async def next_change(self, job_id: str, after: int, timeout_s: float) -> bool:
        """``wait_for_change`` for one who is ``watching`` already."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while True:
            if await self._has_changed(job_id, after):
                return True
            remaining_s = deadline - loop.time()
            if remaining_s <= 0 or self.is_stopping:
                return False
            await self._block(job_id, after, min(remaining_s, BLOCK_S))
            _raise_lost_cancellation()

    async def next_transition(self, job_id: str, after: int, timeout_s: float) -> None:
        """Return when the log gets a transition above ``after``, progress aside, or a little before the time is over."""
        events, _ = self._streams(job_id)
        block_ms = max(1, round(min(timeout_s, BLOCK_S) * 1000))
        await self._client.xread({events: f"{after}-0"}, count=1, block=block_ms)

    async def _has_changed(self, job_id: str, after: int) -> bool:
        # Asked of the record, for the log of progress is short and goes away.
        version = await self._client.hget(keys.job(self._key(job_id)), "version")
        return version is None or int(version) > after

    async def _block(self, job_id: str, after: int, timeout_s: float) -> None:
        """Return when either stream gets an entry above ``after``, at the latest after ``timeout_s``."""
        events, progress = self._streams(job_id)
        block_ms = max(1, round(timeout_s * 1000))
        await self._client.xread({events: f"{after}-0", progress: f"{after}-0"}, count=1, block=block_ms)

    def _streams(self, job_id: str) -> tuple[str, str]:
        key = self._key(job_id)
        return keys.events(key), keys.progress(key)

    def _key(self, job_id: str) -> JobKey:
        return JobKey(self._owner, job_id)


EventLogDependency = Annotated[EventLog, given("event_log")]


def _raise_lost_cancellation() -> None:
    """End a task that was told to end while redis-py sent a command: ``asyncio.wait_for`` of Python 3.11 can swallow that."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _items(reply: Any) -> Iterator[tuple[bytes, Mapping[bytes, bytes]]]:
    """All entries of a reply to XREAD, which names the streams in a dict or in a list, by the protocol's version."""
    streams = reply.values() if isinstance(reply, dict) else (entries for _, entries in reply or ())
    for entries in streams:
        # With the newer protocol redis-py wraps the entries of a stream once more.
        yield from entries[0] if entries and isinstance(entries[0], list) else entries


def _entry(entry_id: bytes, fields: Mapping[bytes, bytes]) -> Entry:
    version = int(entry_id.partition(b"-")[0])
    event = fields[b"event"].decode()
    if event in ("progress", "preview"):
        phase, step, steps = (json.loads(fields[name]) for name in (b"phase", b"step", b"steps"))
        return Advance(version, phase, step, steps, has_preview=event == "preview")
    state = JobState(fields[b"state"].decode())
    return Transition(version, event, state, int(fields[b"attempt"]), float(fields[b"at"]))
