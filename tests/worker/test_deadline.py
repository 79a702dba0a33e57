from __future__ import annotations

import time
from contextlib import suppress

import pytest

from worker.deadline import Deadline, JobTimeout


def count_forever() -> None:
    with Deadline(0.05):
        while True:
            time.sleep(0.001)


def test_the_signal_ends_a_busy_loop() -> None:
    with pytest.raises(JobTimeout):
        count_forever()


def test_no_library_swallows_it() -> None:
    assert not issubclass(JobTimeout, Exception)


def test_the_flag_tells_even_if_the_exception_was_swallowed() -> None:
    with Deadline(0.02) as deadline:
        with suppress(JobTimeout):
            time.sleep(5)
        with pytest.raises(JobTimeout):
            deadline.check()


def test_work_in_time_is_left_alone() -> None:
    with Deadline(0.05) as deadline:
        deadline.check()
    time.sleep(0.1)
