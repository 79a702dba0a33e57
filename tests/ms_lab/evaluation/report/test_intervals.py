"""Intervals: the textbook's where there is one, and what any interval must hold where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ms_lab.evaluation.report.intervals import (
    Design,
    Estimate,
    bootstrap,
    bootstrap_ratio,
    paired_difference,
    rate,
    unpaired_difference,
    wilson,
)

SHARES = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=2, max_size=40).map(np.asarray)
PAIRS = st.lists(st.tuples(*[st.sampled_from([0.0, 0.5, 1.0])] * 2), min_size=2, max_size=40)


def each(values: np.ndarray) -> Design:
    return Design.of_scenes(len(values))


def width(estimate: Estimate) -> float:
    return estimate.high - estimate.low


@pytest.mark.parametrize(("successes", "low", "high"), [(0, 0.0, 0.0370), (50, 0.4038, 0.5962), (100, 0.9630, 1.0)])
def test_wilsons_interval_is_the_textbooks(successes: int, low: float, high: float) -> None:
    estimate = wilson(successes / 100, 100)
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=1e-4)


def test_the_bootstrap_is_repeatable_and_near_the_normal_interval() -> None:
    values = np.random.default_rng(0).choice([0.0, 0.5, 1.0], 100)
    estimate = bootstrap(values, each(values))
    half = 1.96 * values.std() / 10
    assert estimate == bootstrap(values, each(values))
    assert (estimate.low, estimate.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.015)


def crossed(scene_effect: float, drawing_effect: float) -> tuple[np.ndarray, Design, float]:
    """Sixty scenes of two of twenty drawings each; the values, and the textbook's two-way deviation of their mean."""
    rng = np.random.default_rng(3)
    scenes = np.repeat(np.arange(60), 2)
    drawings = np.concatenate([rng.choice(20, 2, replace=False) for _ in range(60)])
    noise = 0.02 * rng.standard_normal(120)
    values = 0.5 + scene_effect * rng.standard_normal(60)[scenes] + drawing_effect * rng.standard_normal(20)[drawings]
    values = values + noise
    residuals = values - values.mean()
    sums = [np.bincount(numbers, residuals) for numbers in (scenes, drawings, np.arange(120))]
    squares = [float((total**2).sum()) / 120**2 for total in sums]
    design = Design(tuple(scenes.tolist()), tuple(drawings.tolist()), (0.5,) * 120)
    return values, design, float(np.sqrt(squares[0] + squares[1] - squares[2]))


@pytest.mark.parametrize(("scene_effect", "drawing_effect"), [(0.1, 0.0), (0.0, 0.1), (0.14, 0.08)])
def test_the_interval_is_that_of_scenes_and_drawings_together(scene_effect: float, drawing_effect: float) -> None:
    values, design, deviation = crossed(scene_effect, drawing_effect)
    assert width(bootstrap(values, design)) == pytest.approx(2 * 1.96 * deviation, rel=0.12)


def test_drawings_that_come_back_make_the_interval_wider() -> None:
    values = np.repeat([0.0, 1.0, 1.0, 1.0], 10)
    alike = Design(tuple(range(40)), tuple(np.repeat(range(4), 10).tolist()), (1.0,) * 40)
    assert width(bootstrap(values, alike)) > 2 * width(bootstrap(values, each(values)))


def test_a_scene_with_more_answers_counts_no_more_than_another() -> None:
    design = Design((0, 0, 1), (0, 1, 2), (0.5, 0.5, 1.0))
    assert bootstrap(np.asarray([1.0, 0.0, 1.0]), design).value == 0.75


@given(SHARES)
def test_an_interval_holds_its_value_and_is_never_a_point(values: np.ndarray) -> None:
    estimate = bootstrap(values, each(values))
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
    assert estimate.low < estimate.high
    assert estimate.count == len(values)


@given(PAIRS)
def test_a_difference_is_that_of_the_means_and_its_reverse_is_its_negative(pairs: list[tuple[float, float]]) -> None:
    first, second = np.asarray(pairs).T
    difference = paired_difference(first, second, each(first))
    reverse = paired_difference(second, first, each(first))
    assert difference.value == pytest.approx(first.mean() - second.mean())
    assert (-reverse.high, -reverse.low) == pytest.approx((difference.low, difference.high), abs=0.02)
    assert difference.low <= difference.value <= difference.high
    assert difference.low < difference.high


def test_scenes_that_agree_still_leave_the_difference_an_interval() -> None:
    estimate = paired_difference(np.ones(20), np.zeros(20), Design.of_scenes(20))
    assert estimate.value == 1.0
    assert estimate.low < 0.95


def test_what_rises_and_falls_together_is_told_apart_better_in_pairs() -> None:
    first = np.random.default_rng(0).random(60)
    second = first - 0.05
    design = each(first)
    paired = paired_difference(first, second, design)
    unpaired = unpaired_difference(bootstrap(first, design), bootstrap(second, design))
    assert paired.value == pytest.approx(unpaired.value)
    assert width(paired) < width(unpaired) / 2


def test_a_rate_has_the_wider_of_both_intervals() -> None:
    values = np.zeros(100)
    values[:2] = 1
    assert rate(values, each(values)).high == wilson(0.02, 100).high
    clustered = Design((*([0] * 20), *range(1, 81)), tuple(range(100)), (1.0,) * 100)
    values[:20] = 1
    assert rate(values, clustered).high > wilson(0.2, 100).high + 0.1


def test_a_ratio_is_that_of_the_means() -> None:
    numerators, denominators = np.asarray([0.0, 1.0, 1.0, 0.0]), np.asarray([0.5, 1.0, 1.0, 0.5])
    estimate = bootstrap_ratio(numerators, denominators, each(numerators), power=2)
    assert estimate is not None
    assert estimate.value == pytest.approx(0.5 / 0.75**2)
    assert estimate.low < estimate.value < estimate.high


def test_a_share_of_itself_is_everything_in_every_resample() -> None:
    values = np.asarray([0.2, 0.9, 0.5])
    estimate = bootstrap_ratio(values, values, each(values))
    assert estimate is not None
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((1.0, 1.0, 1.0))


def test_there_is_no_share_of_nothing() -> None:
    assert bootstrap_ratio(np.zeros(5), np.zeros(5), Design.of_scenes(5)) is None


def test_a_power_takes_the_interval_along() -> None:
    assert Estimate(0.5, 0.4, 0.6, 10).to_power(2) == Estimate(0.25, 0.4**2, 0.6**2, 10)
