"""Redraws of places are compared with redraws of pictures in as many draws."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.redraws import WEAKEST, WHOLE, Outcome, at_equal_time


def outcome(right: list[int], draws: list[int]) -> Outcome:
    return Outcome(np.asarray(right, float), np.asarray(draws, float), 1.0, 0)


def test_drawing_whole_pictures_is_given_as_many_draws() -> None:
    # Two draws a picture: between those of one retry, 1.5, and of two, 2.5.
    weakest = outcome([1, 1, 1, 0], [2, 2, 2, 2])
    whole = [
        outcome([0, 0, 0, 0], [1, 1, 1, 1]),
        outcome([1, 0, 0, 0], [1, 2, 2, 1]),
        outcome([1, 1, 1, 0], [1, 3, 3, 3]),
    ]
    found = at_equal_time(weakest, whole)
    assert (found[WEAKEST], found[WHOLE], found["difference"]) == (0.75, 0.5, 0.25)
    low, high = found["difference_interval"]
    assert low <= 0.25 <= high
    assert low < high


def test_the_same_pictures_differ_by_nothing() -> None:
    same = outcome([1, 0, 1, 0, 1], [1, 2, 1, 3, 1])
    found = at_equal_time(same, [outcome([0, 0, 0, 0, 0], [1, 1, 1, 1, 1]), same])
    assert found["difference"] == pytest.approx(0.0)
    assert found["difference_interval"] == [0.0, 0.0]
