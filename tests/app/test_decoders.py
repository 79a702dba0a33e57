"""Pictures are decoded by few threads, which let all others go first."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Iterator
from contextvars import ContextVar

import pytest

from app.requests.body import NICENESS, SMALL_PIXELS, THREADS, Decoders, Lane

REQUEST_ID: ContextVar[str] = ContextVar("request_id")


@pytest.fixture
def decoders() -> Iterator[Decoders]:
    decoders = Decoders()
    yield decoders
    decoders.close()


@pytest.fixture
def lane(decoders: Decoders) -> Lane:
    return decoders.large


def test_what_the_work_returns_is_returned(lane: Lane) -> None:
    assert asyncio.run(lane.run("local", lambda: 42)) == 42


def test_what_the_work_raises_is_raised(lane: Lane) -> None:
    def fail() -> None:
        raise KeyError("no picture")

    with pytest.raises(KeyError):
        asyncio.run(lane.run("local", fail))


def test_the_work_knows_the_request(lane: Lane) -> None:
    async def ask() -> str:
        REQUEST_ID.set("abc")
        return await lane.run("local", REQUEST_ID.get)

    assert asyncio.run(ask()) == "abc"


def test_no_more_are_at_work_than_there_are_threads(lane: Lane) -> None:
    at_work, most, lock = 0, 0, threading.Lock()
    all_in = threading.Barrier(THREADS)

    def work() -> None:
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
        all_in.wait(timeout=10)
        with lock:
            at_work -= 1

    async def ask() -> None:
        await asyncio.gather(*(lane.run("local", work) for _ in range(3 * THREADS)))

    asyncio.run(ask())
    assert most == THREADS


@pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities of their own on Linux only")
def test_the_work_has_a_lower_priority_than_the_event_loop(lane: Lane) -> None:
    theirs = asyncio.run(lane.run("local", lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id())))
    assert theirs == NICENESS


def test_the_lane_of_small_requests_has_threads_and_turns_of_its_own(decoders: Decoders) -> None:
    assert decoders.lane_for(SMALL_PIXELS) is decoders.small
    assert decoders.lane_for(SMALL_PIXELS + 1) is decoders.large
    assert decoders.small.turns is not decoders.large.turns
