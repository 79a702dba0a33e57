"""Pictures are decoded by few threads, which let all others go first."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Iterator
from contextvars import ContextVar

import pytest

from app.requests.body import NICENESS, THREADS, Decoders

REQUEST_ID: ContextVar[str] = ContextVar("request_id")


@pytest.fixture
def decoders() -> Iterator[Decoders]:
    decoders = Decoders()
    yield decoders
    decoders.close()


def test_what_the_work_returns_is_returned(decoders: Decoders) -> None:
    assert asyncio.run(decoders.run(lambda: 42)) == 42


def test_what_the_work_raises_is_raised(decoders: Decoders) -> None:
    def fail() -> None:
        raise KeyError("no picture")

    with pytest.raises(KeyError):
        asyncio.run(decoders.run(fail))


def test_the_work_knows_the_request(decoders: Decoders) -> None:
    async def ask() -> str:
        REQUEST_ID.set("abc")
        return await decoders.run(REQUEST_ID.get)

    assert asyncio.run(ask()) == "abc"


def test_no_more_are_at_work_than_there_are_threads(decoders: Decoders) -> None:
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
        await asyncio.gather(*(decoders.run(work) for _ in range(3 * THREADS)))

    asyncio.run(ask())
    assert most == THREADS


@pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities of their own on Linux only")
def test_the_work_has_a_lower_priority_than_the_event_loop(decoders: Decoders) -> None:
    theirs = asyncio.run(decoders.run(lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id())))
    assert theirs == NICENESS
