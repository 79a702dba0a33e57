"""What only the client for asyncio does: tasks that are canceled, callbacks that are awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import anyio
import pytest

from msd_client import AsyncClient, Job, ProgressEvent, Subject
from tests.support.scripted_service import JOB_ID, Script, answer, job, step, stream

CAT = [Subject("cat", "data:image/png;base64,", box=(0, 0, 1, 1))]


@pytest.fixture
def running(script: Script) -> Script:
    """A job that runs on and on."""
    script.plays = {
        "generate": [answer(job("queued", 1), 202)],
        "job": [answer(job("running", 2))],
        "events": [stream(step(3, 1))],
        "cancel": [answer(job("canceled", 4))],
    }
    return script


async def generate(script: Script, at_first_step: Callable[[], None]) -> None:
    async def on_progress(now: Job) -> None:
        await asyncio.sleep(0)
        if now.step:
            at_first_step()

    async with AsyncClient(script.url) as client:
        await client.generate("a cat", CAT, on_progress=on_progress)


def test_a_canceled_task_cancels_the_job(running: Script) -> None:
    async def main() -> None:
        seen = asyncio.Event()
        task = asyncio.create_task(generate(running, seen.set))
        await seen.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert running.kinds.count("cancel") == 1


def test_a_scope_that_cancels_again_and_again_cancels_the_job_too(running: Script) -> None:
    """As web frameworks do when their client leaves."""

    async def main() -> None:
        with anyio.CancelScope() as scope:
            await generate(running, scope.cancel)
        assert scope.cancelled_caught

    asyncio.run(main())
    assert running.kinds.count("cancel") == 1


def test_who_watches_may_leave(running: Script) -> None:
    async def main() -> None:
        async with AsyncClient(running.url) as client:
            async for event in client.watch(JOB_ID):
                assert isinstance(event, ProgressEvent)
                break

    asyncio.run(main())
    assert running.kinds == ["events"]


def test_jobs_run_beside_each_other(running: Script) -> None:
    running.plays["job"] = [answer(job("queued", 1))] * 3 + [answer(job("failed", 2))]

    async def main() -> list[Job]:
        async with AsyncClient(running.url) as client:
            return await asyncio.gather(client.wait(JOB_ID), client.wait(JOB_ID))

    assert [ended.status for ended in asyncio.run(main())] == ["failed", "failed"]
