"""Owners take turns for decoding, however many requests each of them sends."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from app.requests.body import Decoders
from app.requests.turns import Turn, Turns
from tests.support.job_helpers import wait_until


@contextmanager
def holding(turns: Turns, owner: str, pixels: int = 0) -> Iterator[None]:
    """A picture of an owner is decoded during the block."""
    is_held, may_end = threading.Event(), threading.Event()

    def hold() -> None:
        with Turn(turns, owner).take(pixels):
            is_held.set()
            may_end.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert is_held.wait(10)
        yield
    finally:
        may_end.set()
        thread.join()


def served(turns: Turns, *wanted: tuple[Turn, int]) -> list[int]:
    """In what order pictures are decoded that were asked for in this order, each by its index."""
    order: list[int] = []

    def take(index: int, turn: Turn, pixels: int) -> None:
        with turn.take(pixels):
            order.append(index)

    with ThreadPoolExecutor(len(wanted)) as pool, holding(turns, "somebody"):
        for index, (turn, pixels) in enumerate(wanted):
            pool.submit(take, index, turn, pixels)
            wait_until(lambda index=index: turns.waiting > index, "the request to wait", 10)
    return order


def owners_of(turns: Turns, *wanted: tuple[str, int]) -> str:
    """The same of requests of one picture each, as the first letters of their owners."""
    order = served(turns, *((Turn(turns, owner), pixels) for owner, pixels in wanted))
    return "".join(wanted[index][0][0] for index in order)


def test_an_owner_with_many_requests_has_the_share_of_one_owner() -> None:
    wanted = [("ann", 10)] * 6 + [("bob", 10)] * 3
    assert owners_of(Turns(1), *wanted) == "abababaaa"


def test_shares_are_of_pixels() -> None:
    wanted = [("ann", 20)] * 3 + [("bob", 10)] * 6
    assert owners_of(Turns(1), *wanted) == "abbabbabb"


def test_who_was_away_saved_nothing() -> None:
    turns = Turns(1)
    assert owners_of(turns, *[("ann", 10)] * 6) == "aaaaaa"
    assert owners_of(turns, *[("ann", 10)] * 4, *[("bob", 10)] * 4) == "babababa"


def test_who_was_just_served_comes_after_who_was_not() -> None:
    """Else one that sends its requests one after the other would always be first."""
    turns = Turns(1)
    assert owners_of(turns, ("ann", 100)) == "a"
    assert owners_of(turns, ("ann", 10), ("bob", 60), ("bob", 60), ("bob", 60)) == "bbab"


def test_pictures_that_cost_nothing_hold_nobody_up() -> None:
    """Such as broken ones: of owners that stand the same, who came first goes first."""
    turns = Turns(1)
    assert owners_of(turns, ("ann", 0)) == "a"
    assert owners_of(turns, ("bob", 10), *[("ann", 0)] * 4) == "baaaa"


def test_an_owner_who_is_busy_meanwhile_changes_nothing_among_the_requests_of_another() -> None:
    """Ann's second request begins where her first is, not where Bob is."""
    turns = Turns(1)
    first, second = Turn(turns, "ann"), Turn(turns, "ann")
    assert served(turns, (first, 10)) == [0]
    assert owners_of(turns, *[("bob", 100)] * 4) == "bbbb"
    assert served(turns, (second, 10), (first, 10)) == [0, 1]
    assert served(turns, (second, 10), (first, 10), (Turn(turns, "ann"), 10)) == [0, 1, 2]


def test_one_owner_leaves_a_turn_to_others() -> None:
    """Of two in each lane."""
    turns = Decoders(by_owner=True).large.turns
    with holding(turns, "ann"), ThreadPoolExecutor(1) as pool:

        def take() -> None:
            with Turn(turns, "ann").take(1):
                pass

        more = pool.submit(take)
        wait_until(lambda: turns.waiting == 1, "her second request to wait", 10)
        with holding(turns, "bob"):
            assert not more.done()
    assert more.exception() is None


def test_a_single_owner_has_all_turns() -> None:
    turns = Turns(2)
    with holding(turns, "local"), holding(turns, "local"):
        assert turns.waiting == 0
