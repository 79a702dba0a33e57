"""Intervals: the textbook's where there is one, and what any interval must hold where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ms_lab.evaluation.report.intervals import (
    Estimate,
    bootstrap,
    bootstrap_ratio,
    paired_difference,
    unpaired_difference,
    wilson,
)

SHARES = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=2, max_size=40).map(np.asarray)
PAIRS = st.lists(st.tuples(*[st.sampled_from([0.0, 0.5, 1.0])] * 2), min_size=2, max_size=40)


@pytest.mark.parametrize(("successes", "low", "high"), [(0, 0.0, 0.0370), (50, 0.4038, 0.5962), (100, 0.9630, 1.0)])
def test_wilsons_interval_is_the_textbooks(successes: int, low: float, high: float) -> None:
    estimate = wilson(successes / 100, 100)
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=1e-4)


def test_the_bootstrap_is_repeatable_and_near_the_normal_interval() -> None:
    values = np.random.default_rng(0).choice([0.0, 0.5, 1.0], 100)
    estimate = bootstrap(values)
    half = 1.96 * values.std() / 10
    assert estimate == bootstrap(values)
    assert (estimate.low, estimate.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.015)


@given(SHARES)
def test_an_interval_holds_its_value_and_is_never_a_point(values: np.ndarray) -> None:
    estimate = bootstrap(values)
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
    assert estimate.low < estimate.high
    assert estimate.count == len(values)


@given(PAIRS)
def test_a_difference_is_that_of_the_means_and_its_reverse_is_its_negative(pairs: list[tuple[float, float]]) -> None:
    first, second = np.asarray(pairs).T
    difference, reverse = paired_difference(first, second), paired_difference(second, first)
    assert difference.value == pytest.approx(first.mean() - second.mean())
    assert (-reverse.high, -reverse.low) == pytest.approx((difference.low, difference.high), abs=0.02)
    assert difference.low <= difference.value <= difference.high
    assert difference.low < difference.high


def test_scenes_that_agree_still_leave_the_difference_an_interval() -> None:
    estimate = paired_difference(np.ones(20), np.zeros(20))
    assert estimate.value == 1.0
    assert estimate.low < 0.95


def test_what_rises_and_falls_together_is_told_apart_better_in_pairs() -> None:
    first = np.random.default_rng(0).random(60)
    second = first - 0.05
    paired, unpaired = paired_difference(first, second), unpaired_difference(first, second)
    assert paired.value == pytest.approx(unpaired.value)
    assert paired.high - paired.low < (unpaired.high - unpaired.low) / 2


def test_a_ratio_is_that_of_the_means() -> None:
    numerators, denominators = np.asarray([0.0, 1.0, 1.0, 0.0]), np.asarray([0.5, 1.0, 1.0, 0.5])
    estimate = bootstrap_ratio(numerators, denominators, power=2)
    assert estimate is not None
    assert estimate.value == pytest.approx(0.5 / 0.75**2)
    assert estimate.low < estimate.value < estimate.high


def test_a_share_of_itself_is_everything_in_every_resample() -> None:
    values = np.asarray([0.2, 0.9, 0.5])
    estimate = bootstrap_ratio(values, values)
    assert estimate is not None
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((1.0, 1.0, 1.0))


def test_there_is_no_share_of_nothing() -> None:
    assert bootstrap_ratio(np.zeros(5), np.zeros(5)) is None


def test_a_power_takes_the_interval_along() -> None:
    assert Estimate(0.5, 0.4, 0.6, 10).to_power(2) == Estimate(0.25, 0.4**2, 0.6**2, 10)
