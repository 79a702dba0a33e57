"""What is logged while Redis is away or refuses."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import pytest
from redis.exceptions import ConnectionError

from ms_jobs.connection import ReasonLog


@pytest.fixture
def _threads_take_turns_often() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("_threads_take_turns_often")
def test_threads_that_tell_reasons_at_once_tell_each_once(caplog: pytest.LogCaptureFixture) -> None:
    reasons = ReasonLog()
    words = ["".join(letters) for letters in product("abcdefgh", repeat=3)]
    with caplog.at_level(logging.WARNING, "ms_jobs.connection"), ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda word: reasons.tell(ConnectionError(word)), words * 2))
    assert sorted(record.getMessage() for record in caplog.records) == [f"Redis does not answer: {w}" for w in words]
