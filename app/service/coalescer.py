"""Coalesces concurrent lookups: questions that arrive during one call are answered by the next, together."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import groupby
from queue import Empty, SimpleQueue
from typing import Generic, NamedTuple, TypeVar

Question = TypeVar("Question")
Answer = TypeVar("Answer")

# Bounds the time of one call, for which the next questions wait.
LARGEST_BATCH = 64


class _Asked(NamedTuple, Generic[Question, Answer]):
    """A question, and the future and event loop that wait for its answer."""

    question: Question
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Answer]


class Coalescer(Generic[Question, Answer]):
    """Passes single questions from event loops to a blocking function that answers many at once.

    One thread calls the function, with all questions that arrived during the previous call: batches grow with the load.
    """

    def __init__(self, answer: Callable[[list[Question]], list[Answer | Exception]], name: str) -> None:
        """Start nothing; the first question starts the thread.

        Args:
            answer: returns for each question an answer or the error that it fails with. An error that it raises fails all of
                them, and those that arrived meanwhile, which would wait as long for the same.
            name: name of the thread.
        """
        self._answer = answer
        self._name = name
        self._asked: SimpleQueue[_Asked[Question, Answer] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    async def ask(self, question: Question) -> Answer:
        """Get the answer to one question; raises the error that ``answer`` returned or raised."""
        loop = asyncio.get_running_loop()
        asked = _Asked[Question, Answer](question, loop, loop.create_future())
        self._require_thread()
        self._asked.put(asked)
        return await asked.future

    def close(self) -> None:
        """Answer the questions asked so far, and stop the thread."""
        with self._lock:
            if self._thread is not None:
                self._asked.put(None)
                self._thread.join()
                self._thread = None

    def _require_thread(self) -> None:
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                    self._thread.start()

    def _run(self) -> None:
        while (first := self._asked.get()) is not None:
            batch = [first]
            is_last = self._gather(batch, LARGEST_BATCH)
            try:
                answers = self._answer([asked.question for asked in batch])
            except Exception as error:  # whatever it is, the askers get it, and the thread goes on
                is_last = is_last or self._gather(batch, None)
                answers = [error] * len(batch)
            _deliver(zip(batch, answers, strict=True))
            if is_last:
                return

    def _gather(self, batch: list[_Asked[Question, Answer]], most: int | None) -> bool:
        """Add the questions waiting now to the batch; returns whether ``close`` was called after them."""
        with suppress(Empty):
            while most is None or len(batch) < most:
                asked = self._asked.get_nowait()
                if asked is None:
                    return True
                batch.append(asked)
        return False


def _deliver(answered: Iterable[tuple[_Asked[Question, Answer], Answer | Exception]]) -> None:
    """Deliver the answers, waking each event loop once."""
    for _, group in groupby(answered, key=lambda pair: id(pair[0].loop)):
        pairs = list(group)
        # On a loop closed meanwhile, nobody waits.
        with suppress(RuntimeError):
            pairs[0][0].loop.call_soon_threadsafe(_set_results, pairs)


def _set_results(pairs: list[tuple[_Asked[Question, Answer], Answer | Exception]]) -> None:
    for asked, answer in pairs:
        # The client may have gone away.
        if asked.future.done():
            continue
        if isinstance(answer, Exception):
            asked.future.set_exception(answer)
        else:
            asked.future.set_result(answer)
