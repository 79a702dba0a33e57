"""A job's log in a real Redis, and waiting for what happens next."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from app.config import Settings
from app.jobs import event_log
from app.jobs.event_log import Advance, EventLog, Transition
from app.service.errors import HTTPProblem
from ms_jobs.keys import JobKey
from ms_jobs.outcomes import Gone
from ms_jobs.records import JobState
from tests.support.job_helpers import Desk

PATIENCE_S = 20.0


@pytest.fixture
def desk(settings: Settings) -> Iterator[Desk]:
    desk = Desk.open(settings.redis_url, settings.data_dir, settings.model)
    yield desk
    desk.client.close()


@pytest.fixture
def running(desk: Desk) -> str:
    """A running job at version 3, of which one progress is known."""
    job_id = desk.submit()
    desk.begin(job_id)
    desk.jobs.progress(job_id, 1, phase="denoise", step=1, steps=4)
    return job_id


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[EventLog]:
    log = EventLog.connect(settings)
    try:
        yield log
    finally:
        await log.close()


def run(settings: Settings, block: Callable[[EventLog], Awaitable[None]]) -> None:
    async def main() -> None:
        async with opened(settings) as log, asyncio.timeout(PATIENCE_S):
            await block(log)

    asyncio.run(main())


def key_of(job_id: str) -> JobKey:
    return JobKey("local", job_id)


async def until_blocked(desk: Desk, count: int = 1) -> None:
    """Wait until so many clients of Redis are in a blocking read."""
    while desk.client.info("clients")["blocked_clients"] < count:  # noqa: ASYNC110 - Redis gives no signal
        await asyncio.sleep(0.01)


def test_both_streams_are_one_log(settings: Settings, desk: Desk, running: str) -> None:
    desk.jobs.request_cancel(running)
    desk.jobs.progress(running, 1, b"webp", phase="denoise", step=2, steps=4)

    async def block(log: EventLog) -> None:
        news = await log.read(key_of(running), 1, with_preview=True)
        assert [type(entry) for entry in news.entries] == [Transition, Advance, Transition, Advance]
        assert [entry.version for entry in news.entries] == [2, 3, 4, 5]
        assert news.entries[3] == Advance(5, "denoise", 2, 4, has_preview=True)
        assert news.preview == b"webp"

    run(settings, block)


def test_a_change_that_was_before_needs_no_wait(settings: Settings, running: str) -> None:
    async def block(log: EventLog) -> None:
        assert await log.wait_for_change(key_of(running), 2, PATIENCE_S)

    run(settings, block)


def test_the_time_passes(settings: Settings, running: str) -> None:
    async def block(log: EventLog) -> None:
        assert not await log.wait_for_change(key_of(running), 3, 0.05)

    run(settings, block)


def test_progress_ends_a_wait(settings: Settings, desk: Desk, running: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_log, "BLOCK_S", 2 * PATIENCE_S)

    async def block(log: EventLog) -> None:
        waiting = asyncio.create_task(log.wait_for_change(key_of(running), 3, 2 * PATIENCE_S))
        await until_blocked(desk)
        desk.jobs.progress(running, 1, phase="denoise", step=2, steps=4)
        assert await waiting

    run(settings, block)


def test_the_end_is_seen_though_the_progress_goes_away(
    settings: Settings, desk: Desk, running: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Only the entry itself can end this wait in time.
    monkeypatch.setattr(event_log, "BLOCK_S", 2 * PATIENCE_S)

    async def block(log: EventLog) -> None:
        waiting = asyncio.create_task(log.wait_for_change(key_of(running), 3, 2 * PATIENCE_S))
        await until_blocked(desk)
        desk.jobs.finish(running, 1, JobState.SUCCEEDED)
        assert await waiting

    run(settings, block)


def test_a_deleted_job_ends_a_wait(settings: Settings, desk: Desk, running: str) -> None:
    async def block(log: EventLog) -> None:
        waiting = asyncio.create_task(log.wait_for_change(key_of(running), 3, PATIENCE_S))
        await until_blocked(desk)
        desk.jobs.erase(running, Gone.DELETED)
        assert await waiting

    run(settings, block)


def test_a_wait_that_is_given_up_leaves_no_connection(settings: Settings, desk: Desk, running: str) -> None:
    async def block(log: EventLog) -> None:
        before = desk.client.info("clients")["connected_clients"]
        waits = [asyncio.create_task(log.wait_for_change(key_of(running), 3, PATIENCE_S)) for _ in range(50)]
        await until_blocked(desk, 50)
        # Redis blocks before redis-py has seen that its commands are sent; a cancellation until then is another test's.
        await asyncio.sleep(0.1)
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
        assert log.watchers == 0
        while desk.client.info("clients")["connected_clients"] > before:  # noqa: ASYNC110 - Redis gives no signal
            await asyncio.sleep(0.01)

    run(settings, block)


def test_a_wait_ends_though_its_cancellation_was_swallowed() -> None:
    class SwallowingClient:
        """Answers as redis-py does when Python 3.11 lost the cancellation of the task that sends."""

        async def hget(self, *_: object) -> bytes:
            return b"3"

        async def xread(self, *_: object, **__: object) -> list[object]:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(PATIENCE_S)
            return []

    async def main() -> None:
        log = EventLog(cast("Any", SwallowingClient()), max_watchers=1)
        wait = asyncio.create_task(log.wait_for_change(JobKey("local", "job"), 3, PATIENCE_S))
        await asyncio.sleep(0)
        wait.cancel()
        done, _ = await asyncio.wait([wait], timeout=1)
        assert wait in done
        assert wait.cancelled()
        assert log.watchers == 0

    asyncio.run(main())


def test_hundreds_wait_and_all_are_told(settings: Settings, desk: Desk, running: str) -> None:
    async def block(log: EventLog) -> None:
        waits = [asyncio.create_task(log.wait_for_change(key_of(running), 3, PATIENCE_S)) for _ in range(300)]
        await until_blocked(desk, 300)
        desk.jobs.finish(running, 1, JobState.SUCCEEDED)
        assert await asyncio.gather(*waits) == [True] * 300

    run(settings, block)


def test_no_more_wait_than_may(settings: Settings, running: str) -> None:
    async def block(log: EventLog) -> None:
        waits = [asyncio.create_task(log.wait_for_change(key_of(running), 3, 0.5)) for _ in range(3)]
        results = await asyncio.gather(*waits, return_exceptions=True)
        assert [isinstance(result, HTTPProblem) for result in results] == [False, False, True]

    run(settings.model_copy(update={"max_watchers": 2}), block)
