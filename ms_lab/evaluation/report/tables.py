"""A run's numbers as they are printed."""

from __future__ import annotations

from collections.abc import Mapping

from rich.box import SIMPLE_HEAD
from rich.table import Column as TableColumn
from rich.table import Table

from ms_lab.evaluation.questions.columns import COLUMNS, HEADLINE, MODEL, THROUGH_VAE
from ms_lab.evaluation.questions.groups import NUMBER_GROUPS
from ms_lab.evaluation.report.collapse import COLLAPSES
from ms_lab.evaluation.report.goals import Goal, GoalResult
from ms_lab.evaluation.report.intervals import Estimate
from ms_lab.evaluation.report.results import Results
from ms_lab.evaluation.report.summary import EQUIVALENT, ROWS, Derived, GroupSummary

# What the table of all groups shows of the model: what several groups have.
_OVERVIEW = {
    EQUIVALENT: "mosaic",
    "identity_easy": "random",
    "identity": "hard",
    "both_right": "all",
    "form": "form",
    "layout_share": "layout",
    "background": "ground",
    "neglect": "negl",
    "conflict": "confl",
}
# Groups whose every column is printed where more than so many were measured; the report has them all.
_FEW = 3
_PRINTED = (HEADLINE, "twins", "place", "contact", "treatment")
# In the place of a number that a model was not asked for.
UNASKED = "–"
# What is told over the number of subjects: title, row, column.
NUMBER_ROWS = (
    ("identity, hard", "identity", MODEL),
    ("the same, through VAE", "identity", THROUGH_VAE),
    *((ROWS[row].title, row, MODEL) for row in ("number_loss", *COLLAPSES, *(f"{kind}_excess" for kind in COLLAPSES))),
)
_STYLES = {"met": "green", "missed": "red", "not measured": "dim"}


def build_tables(results: Results) -> list[Table]:
    """The goals, the model's numbers in all groups, and all columns of few groups or of those that goals speak of."""
    groups = results.groups
    printed = list(groups) if len(groups) <= _FEW else [name for name in _PRINTED if name in groups]
    columns = [build_group_table(name, groups[name]) for name in printed]
    numbers = [build_number_table(groups)] if number_groups(groups) else []
    return [build_goal_table(results), build_overview(results), *numbers, *columns]


def build_goal_table(results: Results) -> Table:
    """Every goal, what was measured, and what became of it."""
    table = _table("Goals", ["goal", "asked", "measured", ""])
    for result in results.goals:
        style = _STYLES[result.outcome]
        table.add_row(
            result.goal.title, format_threshold(result.goal), format_measured(result), f"[{style}]{result.outcome}[/]"
        )
    return table


def build_overview(results: Results) -> Table:
    """The model's numbers in every group, in per cent."""
    title = f"{results.run.model}, all groups, in %: identity (random, hard candidates), all right (hard), ..."
    table = _table(title, ["group", "", *_OVERVIEW.values()])
    for name, group in results.groups.items():
        estimates = group.columns.get(MODEL)
        shown = (UNASKED if estimates is None else _two_lines(row, estimates.get(row)) for row in _OVERVIEW)
        table.add_row(name, str(group.scenes), *shown)
    table.caption = unasked_sentence(results.groups)
    return table


def build_number_table(groups: Mapping[str, GroupSummary]) -> Table:
    """The model's look-alike identity over the number of subjects, beside the ceiling's, and what became of its slots."""
    table = _table("number of subjects, model, in %", ["", *(str(count) for count in number_groups(groups))])
    for title, row, column in NUMBER_ROWS:
        cells: list[str] = []
        for name in number_groups(groups).values():
            estimates = groups[name].columns.get(column)
            cells.append(UNASKED if estimates is None else _two_lines(row, estimates.get(row)))
        table.add_row(title, *cells)
    table.caption = unasked_sentence(groups)
    return table


def number_groups(groups: Mapping[str, GroupSummary]) -> dict[int, str]:
    """The measured groups that differ in number of subjects alone, by number."""
    return {count: name for count, name in NUMBER_GROUPS.items() if name in groups}


def unasked_sentence(groups: Mapping[str, GroupSummary]) -> str | None:
    """Which groups the model was not asked, and why; ``None`` if it was asked all."""
    names = [name for name, group in groups.items() if MODEL not in group.columns]
    if not names:
        return None
    return f"{UNASKED}: not asked, for the model's card allows fewer subjects than {' and '.join(names)} have."


def build_group_table(name: str, group: GroupSummary) -> Table:
    """One group's numbers in every column, in per cent."""
    columns = [column for column in COLUMNS if column in group.columns]
    table = _table(f"{name}, all columns, in %", ["", *(column.replace(" ", "\n") for column in columns), "chance"])
    for row in rows_of(group):
        chance = group.chance.get(row)
        table.add_row(
            ROWS[row].title,
            *(_two_lines(row, group.columns[column].get(row)) for column in columns),
            "" if chance is None else f"{100 * chance:.3g}",
        )
    return table


def rows_of(group: GroupSummary) -> list[str]:
    """The rows of ``ROWS`` that any column of a group has."""
    return [row for row in ROWS if any(row in estimates for estimates in group.columns.values())]


def format_threshold(goal: Goal) -> str:
    """``at least 85 %``."""
    words = "at least" if goal.at_least else "at most"
    return f"{words} {_amount(goal.threshold, goal.unit)} {goal.unit}"


def format_measured(result: GoalResult) -> str:
    """``91.2 (88.0 to 94.1)``, in the goal's unit, or ``3.6 (measured 1.3)`` if it speaks of the upper bound."""
    estimate, unit = result.estimate, result.goal.unit
    if estimate is None:
        return ""
    value, low, high = (_amount(number, unit, 1) for number in (estimate.value, estimate.low, estimate.high))
    if result.goal.bound == "high":
        return f"{high} (measured {value})"
    return f"{value} ({low} to {high})"


def format_row(row: str, estimate: Estimate) -> tuple[str, str]:
    """A row's value and interval, in cells or per cent: ``61.3`` and ``54.0 to 68.1``."""
    value, low, high = _numbers(row, estimate)
    return f"{value:.1f}", f"{low:.1f} to {high:.1f}"


def _numbers(row: str, estimate: Estimate) -> list[float]:
    described = ROWS.get(row)
    factor = 1 if isinstance(described, Derived) and described.unit == "cells" else 100
    return [factor * number for number in (estimate.value, estimate.low, estimate.high)]


def _amount(value: float, unit: str, digits: int | None = None) -> str:
    """A number in a goal's unit; thresholds without digits."""
    if unit == "s":
        return f"{value:.2f}" if digits else f"{value:g}"
    if unit == "cells":
        return f"{value:.1f}" if digits else f"{value:g}"
    return f"{100 * value:.{digits or 0}f}"


def _two_lines(row: str, estimate: Estimate | None) -> str:
    """The value, and the interval below it; short, for a terminal is narrow."""
    if estimate is None:
        return ""
    value, low, high = _numbers(row, estimate)
    return f"{value:.1f}\n{low:.0f}-{high:.0f}"


def _table(title: str, headings: list[str]) -> Table:
    columns = [TableColumn(heading, no_wrap=bool(index)) for index, heading in enumerate(headings)]
    return Table(*columns, title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
