"""All estimates of a run: of each group, in each column, for each metric and what is derived from metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from ms_lab.evaluation.judge.outcome import Outcome
from ms_lab.evaluation.questions.columns import (
    COMPOSITES,
    FAST,
    GENERATED,
    HEADLINE,
    MODEL,
    PASTED,
    SCALE_ZERO,
    SHUFFLED,
    THROUGH_VAE,
)
from ms_lab.evaluation.questions.groups import NUMBER_GROUPS, NUMBERS
from ms_lab.evaluation.questions.scenes import GROUPS
from ms_lab.evaluation.report.collapse import COLLAPSES
from ms_lab.evaluation.report.equivalent import equivalent_mosaic
from ms_lab.evaluation.report.intervals import (
    Design,
    Estimate,
    Values,
    bootstrap_ratio,
    paired_difference,
    unpaired_difference,
)
from ms_lab.evaluation.report.metrics import METRICS, Metric, paired_values

EQUIVALENT = "equivalent_mosaic"
# The groups whose identity is set against the headline's.
MORE_SUBJECTS = ("three", "four")
# The group that those of more subjects are set against, drawing by drawing.
FEWEST = NUMBER_GROUPS[min(NUMBERS)]


@dataclass(frozen=True, slots=True)
class Derived:
    """Something that follows from metrics.

    Attributes:
        title: in tables.
        about: one sentence that says how.
        unit: "%" for shares, or "cells".
    """

    title: str
    about: str
    unit: str = "%"


DERIVED = {
    "identity_power": Derived(
        "identity, hard, ^n",
        "identity, hard, to the power of the number of subjects: what all right would be if each were right by itself",
    ),
    "both_right_share": Derived("all right ÷ identity^n, hard", "all right, hard, as a share of that"),
    "identity_easy_power": Derived(
        "identity, random, ^n",
        "identity, random, to the power of the number of subjects: what all right would be if each were right by itself",
    ),
    "both_right_easy_share": Derived("all right ÷ identity^n, random", "all right, random, as a share of that"),
    EQUIVALENT: Derived(
        "equivalent mosaic, cells",
        "the cells a side at which a mosaic of the true picture answers form as well; 3 stands for fewer, 16 for more",
        unit="cells",
    ),
    "silhouette": Derived("silhouette", "outline IoU as a share of that of the column through VAE"),
    "layout_share": Derived("layout, of the ceiling", "layout IoU as a share of that of the column through VAE"),
    "treatment_gain": Derived("treatment − pasted", "treatment minus that of the column pasted"),
    "identity_drop": Derived("headline − this, hard", "identity, hard, of the headline minus that of this group"),
    "identity_easy_drop": Derived(
        "headline − this, random", "identity, random, of the headline minus that of this group"
    ),
    "number_loss": Derived(
        "number-2 − this, hard", "identity, hard, of the same drawings in scenes of two subjects minus that here"
    ),
    **{
        f"{kind}_excess": Derived(
            f"{METRICS[kind].title} − truth", f"{METRICS[kind].title} minus that of the composites"
        )
        for kind in COLLAPSES
    },
    "identity_loss": Derived("model − fast, hard", "identity, hard, of the column model minus that of the fast preset"),
    "identity_easy_loss": Derived(
        "model − fast, random", "identity, random, of the column model minus that of the fast preset"
    ),
}
# Every row of a table, in order.
ROWS: dict[str, Metric | Derived] = {
    name: (METRICS | DERIVED)[name]
    for name in (
        "identity_easy",
        "identity",
        "both_right_easy",
        "identity_easy_power",
        "both_right_easy_share",
        "both_right",
        "identity_power",
        "both_right_share",
        "identity_easy_drop",
        "identity_drop",
        "number_loss",
        "identity_easy_loss",
        "identity_loss",
        EQUIVALENT,
        "form",
        "upright",
        "outline",
        "silhouette",
        "swap",
        "layout_iou",
        "layout_share",
        "inside",
        "background",
        "place",
        "front",
        "treatment",
        "treatment_gain",
        "neglect",
        "conflict",
        *(row for kind in COLLAPSES for row in (kind, f"{kind}_excess")),
    )
}

T = TypeVar("T")
Estimates = dict[str, Estimate]


@dataclass(frozen=True, slots=True)
class GroupSummary:
    """One group's numbers.

    Attributes:
        cell: what of its subjects was never trained on.
        scenes: how many.
        num_subjects: drawn subjects of each scene; ``None`` where they differ.
        chance: of guessing right, by key of ``METRICS``.
        columns: estimates by column, then by key of ``METRICS`` or ``DERIVED``.
    """

    cell: str
    scenes: int
    num_subjects: int | None
    chance: dict[str, float]
    columns: dict[str, Estimates]


def summarise(outcomes: Mapping[str, Sequence[Outcome]], cells: Mapping[str, str]) -> dict[str, GroupSummary]:
    """The numbers of every group that was measured.

    Args:
        outcomes: by column; the model's and those through the VAE are of the same scenes.
        cells: by group.
    """
    headline = [outcome for outcome in outcomes[MODEL] if outcome.group == HEADLINE]
    groups: dict[str, GroupSummary] = {}
    for group in (group for group in GROUPS if group in cells):
        found = {column: [o for o in rows if o.group == group] for column, rows in outcomes.items()}
        columns = {
            column: _estimate(rows) | _all_right(rows, column) | _ceiling_shares(rows, found[THROUGH_VAE])
            for column, rows in found.items()
            if rows
        }
        for column in (MODEL, FAST, SCALE_ZERO, SHUFFLED, THROUGH_VAE):
            if column in columns:
                columns[column] |= _present({EQUIVALENT: equivalent_mosaic(found, found[column])})
        if MODEL in columns:
            columns[MODEL] |= _difference("treatment_gain", "treatment", found[MODEL], found[PASTED])
        for name in ("identity", "identity_easy"):
            if FAST in columns:
                columns[FAST] |= _difference(f"{name}_loss", name, found[MODEL], found[FAST])
        if group in MORE_SUBJECTS and headline and MODEL in columns:
            columns[MODEL] |= _drops(headline, found[MODEL])
        if group in NUMBER_GROUPS.values():
            for column in columns:
                columns[column] |= _number_loss(outcomes[column], found[column])
                columns[column] |= _excess(found, column)
        groups[group] = _group_summary(cells[group], found, columns)
    return groups


def _group_summary(cell: str, found: Mapping[str, Sequence[Outcome]], columns: dict[str, Estimates]) -> GroupSummary:
    # A model is not asked for more subjects than its card allows; other columns have all scenes.
    rows = max(found.values(), key=len)
    counts = {outcome.num_subjects for outcome in rows}
    return GroupSummary(
        cell=cell,
        scenes=len(rows),
        num_subjects=counts.pop() if len(counts) == 1 else None,
        chance=_present({name: metric.mean_chance(rows) for name, metric in METRICS.items()}),
        columns=columns,
    )


def _number_loss(outcomes: Sequence[Outcome], rows: Sequence[Outcome]) -> Estimates:
    """What identity of the same drawings loses against scenes of the fewest subjects."""
    fewest = [outcome for outcome in outcomes if outcome.group == FEWEST]
    if not fewest or rows[0].group == FEWEST:
        return {}
    # The first subjects of scenes of one number are the same.
    before, here = (
        METRICS["identity"].answers([replace(row, group=FEWEST) for row in each]) for each in (fewest, rows)
    )
    pairs = paired_values(before, here)
    return {"number_loss": paired_difference(*pairs)} if pairs else {}


def _excess(found: Mapping[str, Sequence[Outcome]], column: str) -> Estimates:
    """How much more often slots of a model's pictures collapse than those of the composites."""
    if column not in GENERATED:
        return {}
    estimates: Estimates = {}
    for kind in COLLAPSES:
        estimates |= _difference(f"{kind}_excess", kind, found[column], found.get(COMPOSITES, ()))
    return estimates


def _estimate(rows: Sequence[Outcome]) -> Estimates:
    return _present({name: metric.estimate(rows) for name, metric in METRICS.items()})


def _all_right(rows: Sequence[Outcome], column: str) -> Estimates:
    """Identity to the power of the number of subjects, where all scenes of two or more have equally many.

    All right as a share of it is told of the model only: of a control that gets next to nothing right it says nothing.
    """
    several = [outcome for outcome in rows if outcome.num_subjects >= 2]
    counts = {outcome.num_subjects for outcome in several}
    if len(counts) != 1:
        return {}
    power = counts.pop()
    estimates: dict[str, Estimate | None] = {}
    for single, together in (("identity", "both_right"), ("identity_easy", "both_right_easy")):
        identity = METRICS[single].estimate(several)
        if identity is not None:
            estimates[f"{single}_power"] = identity.to_power(power)
            if column in (MODEL, FAST):
                pairs = _pairs(together, several, several, of=single)
                estimates[f"{together}_share"] = pairs and bootstrap_ratio(*pairs, power)
    return _present(estimates)


def _ceiling_shares(rows: Sequence[Outcome], ceiling: Sequence[Outcome]) -> Estimates:
    estimates: dict[str, Estimate | None] = {}
    for share, metric in (("layout_share", "layout_iou"), ("silhouette", "outline")):
        pairs = _pairs(metric, rows, ceiling)
        estimates[share] = pairs and bootstrap_ratio(*pairs)
    return _present(estimates)


def _difference(name: str, metric: str, first: Sequence[Outcome], second: Sequence[Outcome]) -> Estimates:
    pairs = _pairs(metric, first, second)
    return {name: paired_difference(*pairs)} if pairs else {}


def _pairs(
    metric: str, first: Sequence[Outcome], second: Sequence[Outcome], of: str | None = None
) -> tuple[Values, Values, Design] | None:
    """A metric's values in the first outcomes, and the same one's (or another one's) in the second."""
    return paired_values(METRICS[metric].answers(first), METRICS[of or metric].answers(second))


def _drops(headline: Sequence[Outcome], rows: Sequence[Outcome]) -> Estimates:
    estimates: dict[str, Estimate | None] = {}
    for name in ("identity", "identity_easy"):
        before, after = METRICS[name].estimate(headline), METRICS[name].estimate(rows)
        estimates[f"{name}_drop"] = before and after and unpaired_difference(before, after)
    return _present(estimates)


def _present(values: Mapping[str, T | None]) -> dict[str, T]:
    return {name: value for name, value in values.items() if value is not None}
