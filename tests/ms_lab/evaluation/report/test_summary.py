"""What verdicts are counted as, and which goals that meets."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import lru_cache

import pytest

from ms_lab.evaluation.judge.forms import FormVerdict
from ms_lab.evaluation.judge.outcome import Outcome
from ms_lab.evaluation.questions.columns import COMPOSITES, FAST, MODEL, MOSAICS, PASTED, THROUGH_VAE
from ms_lab.evaluation.report.goals import GOALS, Goal, check_goals
from ms_lab.evaluation.report.intervals import Estimate
from ms_lab.evaluation.report.metrics import METRICS
from ms_lab.evaluation.report.summary import ROWS, GroupSummary, summarise
from tests.ms_lab.evaluation.report.bench_outcomes import columns_of, found, outcome

WRONG = found(identity=False)


def numbers(outcomes: list[Outcome], group: str = "headline") -> dict[str, Estimate]:
    """The model's numbers in one group."""
    return summarise(columns_of(outcomes), {o.group: "both" for o in outcomes})[group].columns[MODEL]


def test_identity_is_the_mean_over_subjects_and_all_right_the_share_of_scenes() -> None:
    estimates = numbers([outcome([found(), WRONG], number=0), outcome(number=1), outcome(number=2), outcome(number=3)])
    assert estimates["identity"].value == 7 / 8
    assert estimates["both_right"].value == 3 / 4
    assert estimates["identity_power"].value == pytest.approx((7 / 8) ** 2)
    assert estimates["both_right_share"].value == pytest.approx((3 / 4) / (7 / 8) ** 2)
    assert estimates["identity_easy"].value == 1.0


def test_the_power_is_the_number_of_subjects() -> None:
    rows = [outcome([found(), found(), WRONG], "three", number) for number in range(3)]
    assert numbers(rows, "three")["identity_power"].value == pytest.approx((2 / 3) ** 3)


def test_a_scene_of_one_subject_is_neither_all_right_nor_in_conflict() -> None:
    estimates = numbers([outcome([found()], "one", number) for number in range(3)], "one")
    assert "identity" in estimates
    assert not {"both_right", "both_right_share", "identity_power", "conflict"} & set(estimates)


def test_neglect_and_conflict_are_counted_over_subjects_with_wilsons_interval() -> None:
    rows = [outcome([found(present=False), found(intruded=True)], number=0)]
    rows += [outcome(number=number) for number in range(1, 50)]
    estimates = numbers(rows)
    for name in ("neglect", "conflict"):
        assert (estimates[name].value, estimates[name].count) == (0.01, 100)
        assert estimates[name].high == pytest.approx(0.0545, abs=1e-4)


def test_treated_scenes_count_for_treatment_and_background_only() -> None:
    treated = found(shape=None)
    rows = [
        outcome([treated, treated], "treatment", number, treated=True, treatment=number < 3, background=number < 2)
        for number in range(4)
    ]
    estimates = numbers(rows, "treatment")
    assert {name for name in estimates if name in METRICS} == {"treatment", "background"}
    assert (estimates["treatment"].value, estimates["background"].value) == (0.75, 0.5)


def test_what_is_pasted_is_taken_from_the_treatment() -> None:
    rows = [outcome(group="treatment", number=n, treated=True, treatment=n < 3) for n in range(4)]
    columns = columns_of(rows)
    columns[PASTED] = [outcome(group="treatment", number=n, treated=True, treatment=n < 1) for n in range(4)]
    gain = summarise(columns, {"treatment": "both"})["treatment"].columns[MODEL]["treatment_gain"]
    assert gain.value == pytest.approx(0.5)


def test_a_scene_with_a_place_names_no_background() -> None:
    estimates = numbers([outcome(group="place", number=n, place=n == 0, background=False) for n in range(2)], "place")
    assert estimates["place"].value == 0.5
    assert "background" not in estimates


def test_swap_is_asked_of_twins_only() -> None:
    rows = [outcome(group="twins", number=n, swapped=n == 0) for n in range(2)] + [outcome()]
    summary = summarise(columns_of(rows), {"twins": "concept", "headline": "both"})
    assert summary["twins"].columns[MODEL]["swap"].value == 0.5
    assert summary["twins"].chance["swap"] == 1 / 16
    assert "swap" not in summary["headline"].columns[MODEL]


def test_the_same_drawings_are_compared_between_numbers() -> None:
    rows = [outcome(group="number-2", number=n) for n in range(4)]
    # The first two are those of the smaller scene: one of them is lost, and what else is wrong counts nothing.
    rows += [outcome([WRONG, found(), WRONG, WRONG], "number-4", n) for n in range(4)]
    loss = numbers(rows, "number-4")["number_loss"]
    assert loss.value == 0.5
    assert loss.count == 4
    assert "number_loss" not in numbers(rows, "number-2")


def test_slots_collapse_beyond_what_composites_do() -> None:
    own, other, none = (found(likeness=row) for row in ((0.9, 0.1), (0.1, 0.9), (0.1, 0.2)))
    rows = [outcome([own, own if n else none], "number-2", n) for n in range(4)]
    columns = columns_of(rows)
    columns[COMPOSITES] = [outcome([own, other], "number-2", n) for n in range(4)]
    summary = summarise(columns, {"number-2": "both"})["number-2"]
    estimates = summary.columns[MODEL]
    assert (estimates["dominance"].value, estimates["drift"].value) == (3 / 8, 1 / 8)
    assert (estimates["dominance_excess"].value, estimates["drift_excess"].value) == (3 / 8, 1 / 8)
    assert summary.columns[COMPOSITES]["drift"].value == 0.0
    assert "drift_excess" not in summary.columns[COMPOSITES]


def test_what_the_model_was_not_asked_has_the_other_columns() -> None:
    rows = [outcome([found()] * 6, "number-6", n) for n in range(3)]
    columns = columns_of(rows)
    columns[MODEL] = []
    summary = summarise(columns, {"number-6": "both"})["number-6"]
    assert MODEL not in summary.columns
    assert (summary.scenes, summary.num_subjects) == (3, 6)
    assert summary.chance["identity"] == pytest.approx(0.1)


def test_who_is_in_front_is_counted_once_a_scene() -> None:
    rows = [outcome(group="contact", number=n, front=n < 3) for n in range(4)]
    group = summarise(columns_of(rows), {"contact": "both"})["contact"]
    assert (group.columns[MODEL]["front"].value, group.chance["front"]) == (0.75, 0.5)


def test_forms_are_counted_where_they_are_asked() -> None:
    asked = found(shape=FormVerdict(False, None, 0, 0.4))
    rows = [outcome([found(), asked], number=number) for number in range(3)]
    ceiling = [outcome([found(shape=FormVerdict(True, True, 1, 0.8))] * 2, number=number) for number in range(3)]
    group = summarise(columns_of(rows, ceiling), {"headline": "both"})["headline"]
    estimates = group.columns[MODEL]
    assert (estimates["form"].value, estimates["upright"].value) == (0.5, 1.0)
    assert estimates["outline"].value == pytest.approx(0.7)
    assert estimates["silhouette"].value == pytest.approx(0.7 / 0.8)
    assert (group.chance["form"], group.chance["upright"]) == (0.25, 0.25)


def test_layout_is_shared_by_the_ceiling_of_the_same_scenes() -> None:
    rows = [outcome([found(iou=0.4)] * 2, number=0), outcome([found(iou=0.6)] * 2, number=1)]
    ceiling = [outcome([found(iou=0.8)] * 2, number=number) for number in range(2)]
    summary = summarise(columns_of(rows, ceiling), {"headline": "both"})["headline"]
    assert summary.columns[MODEL]["layout_share"].value == pytest.approx(0.5 / 0.8)
    assert summary.columns[THROUGH_VAE]["layout_share"].value == 1.0


def test_three_subjects_are_set_against_the_headline() -> None:
    rows = [outcome(number=n) for n in range(4)]
    rows += [outcome([found(), found(), WRONG], "three", n) for n in range(4)]
    assert numbers(rows, "three")["identity_drop"].value == pytest.approx(1 / 3)
    assert numbers(rows, "three")["identity_easy_drop"].value == 0.0


def test_the_fast_preset_is_set_against_the_model_scene_by_scene() -> None:
    columns = columns_of([outcome(number=n) for n in range(4)])
    columns[FAST] = [outcome([found(), WRONG], number=n) for n in range(4)]
    fast = summarise(columns, {"headline": "both"})["headline"].columns[FAST]
    assert fast["identity_loss"].value == 0.5
    assert fast["identity_easy_loss"].value == 0.0


def test_chance_is_that_of_the_scenes_that_are_asked() -> None:
    rows = [outcome([found()], "place", 0, place=True), outcome(group="place", number=1, place=True)]
    chance = summarise(columns_of(rows), {"place": "both"})["place"].chance
    assert chance["identity"] == 0.1
    assert chance["both_right"] == pytest.approx(0.01)
    assert "neglect" not in chance


def perfect() -> dict[str, GroupSummary]:
    """A copy of one's own, for tests that change it."""
    return copy.deepcopy(_perfect())


@lru_cache(maxsize=1)
def _perfect() -> dict[str, GroupSummary]:
    groups = {
        "headline": 2,
        "twins": 2,
        "three": 3,
        "four": 4,
        "treatment": 2,
        "contact": 2,
        "number-2": 2,
        "number-4": 4,
        "number-8": 8,
    }
    rows = [
        outcome(
            [found()] * subjects,
            group,
            number,
            treated=group == "treatment",
            treatment=True if group == "treatment" else None,
            swapped=True if group == "twins" else None,
            front=True if group == "contact" else None,
        )
        for group, subjects in groups.items()
        for number in range(75)
    ]
    columns = columns_of(rows)
    columns[FAST] = [row for row in rows if row.group == "headline"]
    formless = found(shape=FormVerdict(False, False, 3, 0.5))
    columns |= {mosaic: [outcome([formless] * o.num_subjects, o.group, o.number) for o in rows] for mosaic in MOSAICS}
    columns[PASTED] = [replace(o, verdict=replace(o.verdict, treatment=o.verdict.treatment and False)) for o in rows]
    return summarise(columns, dict.fromkeys(groups, "both"))


SECONDS = {MODEL: Estimate(1.1, 1.0, 1.15, 5), FAST: Estimate(0.6, 0.5, 0.8, 5)}


def test_what_is_perfect_meets_every_goal() -> None:
    assert [result.outcome for result in check_goals(perfect(), SECONDS)] == ["met"] * len(GOALS)


def test_every_goal_speaks_of_a_row() -> None:
    assert {goal.metric for goal in GOALS} <= {*ROWS, "alone"}


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    assert {result.outcome for result in check_goals({}, {})} == {"not measured"}


@pytest.mark.parametrize("goal", GOALS, ids=lambda goal: f"{goal.column}-{goal.group}-{goal.metric}")
def test_a_goal_is_missed_on_the_wrong_side_of_its_threshold(goal: Goal) -> None:
    groups, seconds = perfect(), dict(SECONDS)
    over = goal.threshold + (-0.01 if goal.at_least else 0.01)
    # Only the number that counts is on the wrong side.
    right = 99.0 if goal.at_least else 0.0
    estimate = replace(Estimate(right, right, right, 75), **{goal.bound: over})
    if goal.group == "seconds":
        seconds[goal.column] = estimate
    else:
        groups[goal.group].columns[goal.column][goal.metric] = estimate
    assert [result.goal for result in check_goals(groups, seconds) if result.outcome == "missed"] == [goal]
