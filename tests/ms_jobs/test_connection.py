"""What is logged while Redis is away or refuses."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import pytest
from redis.exceptions import ConnectionError, ResponseError

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


def test_a_refusal_that_commands_and_scripts_meet_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    reasons = ReasonLog()
    for behind in ("", " script: on @user_script:4.", " script: f_0a1b, on @user_script:2."):
        reasons.tell(ResponseError(f"NOREPLICAS Not enough good replicas to write.{behind}"))
    reasons.tell(ResponseError("MISCONF Redis is configured to save RDB snapshots"))
    told = [record.getMessage().split()[2] for record in caplog.records]
    assert told == ["NOREPLICAS", "MISCONF"]
