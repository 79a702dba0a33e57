"""What the bundled model is to reach, and whether it does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ms_lab.evaluation.questions.columns import FAST, HEADLINE, MODEL
from ms_lab.evaluation.report.intervals import Estimate
from ms_lab.evaluation.report.summary import EQUIVALENT, GroupSummary

# In the place of a group: seconds of a picture made alone, of the columns ``model`` and ``fast``.
SECONDS = "seconds"


@dataclass(frozen=True, slots=True)
class Goal:
    """One goal.

    Attributes:
        title: what is asked, in words.
        group, metric: what is measured; the group may be ``SECONDS``, the metric then is "alone".
        threshold: a share, a difference of shares, seconds, or cells.
        at_least: whether the threshold is the least that is allowed, or the most.
        column: in which it is measured.
        bound: which number of the estimate is held against the threshold.
        unit: of the threshold: "%" for shares, "points" for their differences, "s" for seconds, "cells".
    """

    title: str
    group: str
    metric: str
    threshold: float
    at_least: bool = True
    column: str = MODEL
    bound: Literal["value", "high"] = "value"
    unit: Literal["%", "points", "s", "cells"] = "%"


@dataclass(frozen=True, slots=True)
class GoalResult:
    """What became of a goal; ``estimate`` is ``None`` where it was not measured."""

    goal: Goal
    outcome: Literal["met", "missed", "not measured"]
    estimate: Estimate | None


def _most(title: str, group: str, metric: str, points: float, column: str = MODEL) -> Goal:
    return Goal(title, group, metric, points, at_least=False, column=column, unit="points")


GOALS = (
    Goal("equivalent mosaic", HEADLINE, EQUIVALENT, 10.0, unit="cells"),
    Goal("form", HEADLINE, "form", 0.93),
    Goal("upright among turned", HEADLINE, "upright", 0.95),
    Goal("silhouette, as a share of the ceiling", HEADLINE, "silhouette", 0.85),
    Goal("identity, random candidates", HEADLINE, "identity_easy", 0.85),
    Goal("identity, hard candidates", HEADLINE, "identity", 0.95),
    Goal("both right, random, as a share of identity squared", HEADLINE, "both_right_easy_share", 0.95),
    Goal("both right, hard, as a share of identity squared", HEADLINE, "both_right_share", 0.95),
    Goal("swap", "twins", "swap", 0.85),
    Goal("layout IoU, as a share of the ceiling", HEADLINE, "layout_share", 0.85),
    Goal("background", HEADLINE, "background", 0.95),
    Goal("treatment", "treatment", "treatment", 0.92),
    Goal("treatment above pasted", "treatment", "treatment_gain", 0.30, unit="points"),
    Goal("neglect, upper bound", HEADLINE, "neglect", 0.05, at_least=False, bound="high"),
    Goal("conflict, upper bound", HEADLINE, "conflict", 0.03, at_least=False, bound="high"),
    _most("three subjects: identity, random, below the headline's", "three", "identity_easy_drop", 0.12),
    _most("three subjects: identity, hard, below the headline's", "three", "identity_drop", 0.12),
    _most("four subjects: identity, random, below the headline's", "four", "identity_easy_drop", 0.12),
    _most("four subjects: identity, hard, below the headline's", "four", "identity_drop", 0.12),
    _most("from two to four subjects: identity, hard, lost", "number-4", "number_loss", 0.03),
    _most("from two to eight subjects: identity, hard, lost", "number-8", "number_loss", 0.08),
    Goal("right one in front, in contact", "contact", "front", 0.90),
    Goal("a picture alone", SECONDS, "alone", 1.2, at_least=False, unit="s"),
    Goal("a picture alone, fast preset", SECONDS, "alone", 0.7, at_least=False, column=FAST, unit="s"),
    _most("fast preset: identity, random, lost", HEADLINE, "identity_easy_loss", 0.08, FAST),
    _most("fast preset: identity, hard, lost", HEADLINE, "identity_loss", 0.08, FAST),
)


def check_goals(groups: Mapping[str, GroupSummary], seconds: Mapping[str, Estimate]) -> list[GoalResult]:
    """What became of every goal.

    Args:
        groups: the numbers of the groups that were measured.
        seconds: of a picture made alone, by column.
    """
    return [_check(goal, _find(goal, groups, seconds)) for goal in GOALS]


def _find(goal: Goal, groups: Mapping[str, GroupSummary], seconds: Mapping[str, Estimate]) -> Estimate | None:
    if goal.group == SECONDS:
        return seconds.get(goal.column)
    return groups[goal.group].columns.get(goal.column, {}).get(goal.metric) if goal.group in groups else None


def _check(goal: Goal, estimate: Estimate | None) -> GoalResult:
    if estimate is None:
        return GoalResult(goal, "not measured", None)
    reached = getattr(estimate, goal.bound)
    met = reached >= goal.threshold if goal.at_least else reached <= goal.threshold
    return GoalResult(goal, "met" if met else "missed", estimate)
