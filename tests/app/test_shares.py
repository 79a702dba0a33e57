"""No owner takes all of what owners share."""

from __future__ import annotations

import asyncio
import threading
from contextlib import ExitStack

import pytest

from app.config import Settings
from app.jobs.event_log import EventLog
from app.requests import fetching
from app.requests.body import OWNERS_PART, SMALL_BODY_BYTES, Lane, Uploads
from app.requests.fetching import Fetcher
from app.service.errors import HTTPProblem
from app.service.shares import Shares


def held(shares: Shares, owner: str) -> int:
    """How much an owner can take."""
    count = 0
    while shares.has(owner):
        shares.take(owner)
        count += 1
    return count


def test_each_later_owner_gets_as_much_as_it_leaves() -> None:
    shares = Shares(32, by_owner=True)
    assert [held(shares, owner) for owner in ("ann", "bob", "cleo", "dora", "emil")] == [16, 8, 4, 2, 1]


def test_a_single_owner_gets_all() -> None:
    assert held(Shares(32, by_owner=False), "local") == 32


def test_one_is_shared_by_whoever_comes_first() -> None:
    shares = Shares(1, by_owner=True)
    assert (held(shares, "ann"), held(shares, "bob")) == (1, 0)
    shares.give_back("ann")
    assert held(shares, "bob") == 1


def test_what_is_given_back_can_be_taken() -> None:
    shares = Shares(8, by_owner=True)
    for _ in range(3):
        assert held(shares, "ann") == 4
        shares.give_back("ann", 4)
    assert shares.held == 0


@pytest.fixture
def keyed(settings: Settings) -> Settings:
    """With keys, and so with several owners."""
    return settings.model_copy(update={"auth": "on", "max_watchers": 4})


def test_an_owner_who_watches_leaves_places_to_others(keyed: Settings) -> None:
    log = EventLog.connect(keyed)
    with ExitStack() as watchers:
        for _ in range(2):
            watchers.enter_context(log.watching("ann"))
        with pytest.raises(HTTPProblem, match="watching"):
            watchers.enter_context(log.watching("ann"))
        watchers.enter_context(log.watching("bob"))
        assert log.watchers == 3
    assert log.watchers == 0


def test_an_owner_who_sends_large_bodies_leaves_memory_to_others() -> None:
    piece = 2 * SMALL_BODY_BYTES
    uploads = Uploads(4 * piece, by_owner=True)
    with ExitStack() as bodies:
        for _ in range(2):
            uploads.grow(bodies.enter_context(uploads.open("ann")), piece)
        with pytest.raises(HTTPProblem, match="large"):
            uploads.grow(bodies.enter_context(uploads.open("ann")), piece)
        uploads.grow(bodies.enter_context(uploads.open("bob")), piece)


def test_an_owner_who_fetches_leaves_places_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "MOST_REQUESTS", 4)
    fetcher = Fetcher(Settings(fetch_hosts=("*",), auth="on"))
    is_released = asyncio.Event()

    async def hang(host: str, port: int) -> list[str]:
        await is_released.wait()
        return []

    async def fetch(owner: str) -> None:
        found = fetcher.of_request()
        assert found is not None
        found.wanted["https://pictures.example/cat.png"] = fetching.Address("pictures.example", 443, "/cat.png")
        await fetcher.fetch(found, owner, lambda by: None)

    async def block() -> None:
        fetcher.network.lookup = hang
        tasks = [asyncio.create_task(fetch("ann")) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(HTTPProblem, match="try again"):
            await fetch("ann")
        tasks.append(asyncio.create_task(fetch("bob")))
        await asyncio.sleep(0)
        is_released.set()
        await asyncio.gather(*tasks)

    asyncio.run(block())


def test_an_owner_whose_pictures_are_slow_leaves_threads_to_others() -> None:
    """Also one whose clients leave, for their threads go on for a while."""
    lane = Lane(2 * OWNERS_PART, by_owner=True)
    may_end, begun = threading.Event(), threading.Semaphore(0)

    def work() -> None:
        begun.release()
        may_end.wait(10)

    async def block() -> None:
        for _ in range(3):
            tasks = [asyncio.create_task(lane.run("ann", work)) for _ in range(4 * OWNERS_PART)]
            await asyncio.sleep(0.1)
            for task in tasks:
                task.cancel()
        assert await asyncio.wait_for(lane.run("bob", lambda: "served"), 5) == "served"
        may_end.set()
        # Those who left are not served after all, and their places are free again.
        assert await asyncio.wait_for(lane.run("ann", lambda: "served"), 5) == "served"

    try:
        asyncio.run(block())
    finally:
        may_end.set()
        lane.close()
    assert [begun.acquire(timeout=0.1) for _ in range(3)] == [True, True, False]
