"""When an order counts: on every seed, beyond its interval, and only with a budget that the full method needs little more of."""

from __future__ import annotations

import pytest

from ms_lab.ablation.orders import (
    APPEARS,
    CONFLICT,
    IDENTITY,
    MEASURED,
    NOT_MEASURED,
    NOT_SHOWN,
    ONE_SEED,
    REVERSED,
    TEXT,
    TOO_SMALL,
    Estimates,
    differences,
    estimate,
    is_enough,
    judge_orders,
    side_of,
)
from ms_lab.ablation.variants import NO_GROUNDING, NO_MASKS
from ms_lab.evaluation.report.intervals import Estimate
from tests.ms_lab.evaluation.report.bench_outcomes import found, outcome

AHEAD, BEHIND = Estimate(0.2, 0.1, 0.3, 50), Estimate(-0.2, -0.3, -0.1, 50)
MAYBE, TOUCHES = Estimate(0.1, -0.1, 0.3, 50), Estimate(0.1, 0.0, 0.2, 50)


@pytest.mark.parametrize(
    ("name", "by_seed", "expected"),
    [
        (IDENTITY, [AHEAD, AHEAD], APPEARS),
        (IDENTITY, [AHEAD, MAYBE], NOT_SHOWN),
        (IDENTITY, [MAYBE, AHEAD], NOT_SHOWN),
        (IDENTITY, [AHEAD, TOUCHES], NOT_SHOWN),
        (IDENTITY, [AHEAD, BEHIND], NOT_SHOWN),
        (IDENTITY, [BEHIND, BEHIND], REVERSED),
        # The fewer conflicts the better.
        (CONFLICT, [BEHIND, BEHIND], APPEARS),
        (CONFLICT, [AHEAD, AHEAD], REVERSED),
        (IDENTITY, [], NOT_SHOWN),
    ],
)
def test_an_order_is_on_one_side_of_zero_on_every_seed(name: str, by_seed: list[Estimate], expected: str) -> None:
    assert side_of(name, by_seed) == expected


def orders(by_seed: dict[int, Estimates], enough: bool = True) -> dict[tuple[str, str], str]:
    judged = judge_orders({NO_MASKS: by_seed}, enough)
    return {(order.variant, order.metric): order.verdict for order in judged}


def test_the_papers_orders_are_judged_one_by_one() -> None:
    both = {1: {TEXT: AHEAD, CONFLICT: BEHIND}, 2: {TEXT: MAYBE, CONFLICT: BEHIND}}
    assert orders(both) == {
        (NO_MASKS, TEXT): NOT_SHOWN,
        (NO_MASKS, CONFLICT): APPEARS,
        (NO_GROUNDING, IDENTITY): NOT_MEASURED,
    }


def test_one_seed_is_not_enough() -> None:
    assert orders({1: {TEXT: AHEAD, CONFLICT: BEHIND}})[NO_MASKS, TEXT] == ONE_SEED


def test_nothing_is_said_of_a_budget_that_is_too_small() -> None:
    both = {seed: {TEXT: AHEAD, CONFLICT: BEHIND} for seed in (1, 2)}
    assert orders(both, enough=False)[NO_MASKS, TEXT] == TOO_SMALL


@pytest.mark.parametrize(
    ("by_seed", "enough"), [([AHEAD, AHEAD], True), ([AHEAD, TOUCHES], False), ([AHEAD, BEHIND], False), ([], False)]
)
def test_the_full_method_must_beat_a_scale_of_zero_on_every_seed(by_seed: list[Estimate], enough: bool) -> None:
    assert is_enough({seed: {IDENTITY: each} for seed, each in enumerate(by_seed)}) == enough


def test_text_is_the_background_and_the_treatment_where_one_is_named() -> None:
    untreated, treated = outcome(), outcome(number=1, treated=True, treatment=False)
    answers = MEASURED[TEXT].answers([untreated, treated])
    assert sorted(answers.values()) == [0.5, 0.5, 1.0, 1.0]


def test_the_difference_of_a_rate_is_that_of_its_two_values() -> None:
    """Rates count over subjects: four in one scene weigh twice as much as two in another."""
    right, wrong = found(), found(intruded=True)
    full = [outcome([right] * 2, number=0), outcome([right] * 4, number=1)]
    variant = [outcome([wrong] * 2, number=0), outcome([right] * 4, number=1)]
    values = [estimate(each)[CONFLICT].value for each in (full, variant)]
    assert values == [0, pytest.approx(1 / 3)]
    assert differences(full, variant)[CONFLICT].value == pytest.approx(values[0] - values[1])
    assert differences(full, variant)[IDENTITY].value == 0


def test_differences_are_taken_scene_by_scene() -> None:
    wrong = [found(identity=False), found()]
    first = [outcome(number=number) for number in range(8)]
    second = [outcome(wrong if number % 2 else None, number=number) for number in range(8)]
    difference = differences(first, [*second, outcome(number=99)])[IDENTITY]
    assert difference.value == pytest.approx(0.25)
    assert difference.count == 8
    assert 0 < difference.low < 0.25 < difference.high
    assert differences(second, first)[IDENTITY].value == pytest.approx(-0.25)
