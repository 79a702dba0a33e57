"""Many questions, one answer: who asks gets what is theirs, and trouble reaches those whom it concerns."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from app.service.coalescer import LARGEST_BATCH, Coalescer


class Clerk:
    """Doubles numbers, one batch at a time, each as soon as it is let; remembers the batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.began = threading.Semaphore(0)
        self.may_answer = threading.Semaphore(0)
        self.trouble: Exception | None = None
        self.desk = Coalescer[int, int](self._answer, "clerk")

    def _answer(self, numbers: list[int]) -> list[int | Exception]:
        self.batches.append(numbers)
        self.began.release()
        assert self.may_answer.acquire(timeout=10)
        if self.trouble is not None:
            raise self.trouble
        return [ValueError(f"{number} is negative") if number < 0 else 2 * number for number in numbers]

    async def busy_with(self, number: int) -> asyncio.Task[int]:
        """A question that the clerk is at work on."""
        task = asyncio.create_task(self.desk.ask(number))
        await asyncio.to_thread(self.began.acquire)
        return task

    async def queue(self, *numbers: int) -> list[asyncio.Task[int]]:
        """Questions that wait for the clerk."""
        tasks = [asyncio.create_task(self.desk.ask(number)) for number in numbers]
        await asyncio.sleep(0)
        return tasks


@pytest.fixture
def clerk() -> Iterator[Clerk]:
    clerk = Clerk()
    yield clerk
    clerk.may_answer.release(100)
    clerk.desk.close()


def test_each_question_gets_its_own_answer(clerk: Clerk) -> None:
    async def ask() -> list[int]:
        clerk.may_answer.release(10)
        return await asyncio.gather(*map(clerk.desk.ask, range(10)))

    assert asyncio.run(ask()) == [2 * number for number in range(10)]


def test_what_is_asked_meanwhile_is_answered_together(clerk: Clerk) -> None:
    async def ask() -> None:
        tasks = [await clerk.busy_with(0), *await clerk.queue(1, 2, 3)]
        clerk.may_answer.release(2)
        await asyncio.gather(*tasks)

    asyncio.run(ask())
    assert clerk.batches == [[0], [1, 2, 3]]


def test_no_batch_is_larger_than_the_largest(clerk: Clerk) -> None:
    async def ask() -> None:
        tasks = [await clerk.busy_with(0), *await clerk.queue(*range(LARGEST_BATCH + 1))]
        clerk.may_answer.release(3)
        await asyncio.gather(*tasks)

    asyncio.run(ask())
    assert [len(batch) for batch in clerk.batches] == [1, LARGEST_BATCH, 1]


def test_an_error_fails_only_the_question_it_is_about(clerk: Clerk) -> None:
    async def ask() -> list[int | BaseException]:
        tasks = [await clerk.busy_with(0), *await clerk.queue(1, -1, 2)]
        clerk.may_answer.release(2)
        return await asyncio.gather(*tasks, return_exceptions=True)

    zero, one, minus_one, two = asyncio.run(ask())
    assert (zero, one, two) == (0, 2, 4)
    assert isinstance(minus_one, ValueError)


def test_trouble_fails_those_who_came_meanwhile_too(clerk: Clerk) -> None:
    async def ask() -> list[int | BaseException]:
        tasks = [await clerk.busy_with(0), *await clerk.queue(1, 2)]
        clerk.trouble = ConnectionError("Redis is away")
        clerk.may_answer.release()
        return await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(answer) for answer in asyncio.run(ask())] == [ConnectionError] * 3


def test_after_trouble_questions_are_answered_again(clerk: Clerk) -> None:
    async def ask() -> int:
        task = await clerk.busy_with(0)
        clerk.trouble = ConnectionError("Redis is away")
        clerk.may_answer.release()
        await asyncio.gather(task, return_exceptions=True)
        clerk.trouble = None
        clerk.may_answer.release()
        return await clerk.desk.ask(21)

    assert asyncio.run(ask()) == 42


def test_who_gives_up_holds_up_nobody(clerk: Clerk) -> None:
    async def ask() -> int:
        first = await clerk.busy_with(0)
        given_up, other = await clerk.queue(1, 2)
        given_up.cancel()
        clerk.may_answer.release(2)
        await first
        return await other

    assert asyncio.run(ask()) == 4


def test_several_event_loops_may_ask(clerk: Clerk) -> None:
    clerk.may_answer.release(10)
    answers: list[int] = []
    threads = [threading.Thread(target=lambda: answers.append(asyncio.run(clerk.desk.ask(21)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [42] * 4


def test_closing_ends_the_thread(clerk: Clerk) -> None:
    clerk.may_answer.release()
    asyncio.run(clerk.desk.ask(1))
    clerk.desk.close()
    assert "clerk" not in {thread.name for thread in threading.enumerate()}
