"""An ablation as tables in Markdown, for the terminal and for ``docs/ablation.md``."""

from __future__ import annotations

from collections.abc import Sequence

from ms_lab.ablation.orders import APPEARS, MEASURED, NOT_SHOWN, Estimates, side_of
from ms_lab.ablation.results import SCALE_ZERO, Ablation, column_of, seeds_of
from ms_lab.ablation.variants import FULL, VARIANTS
from ms_lab.evaluation.report.intervals import Estimate

TITLES = {FULL: VARIANTS[FULL].title, SCALE_ZERO: "scale 0"} | {name: each.title for name, each in VARIANTS.items()}
_NOTHING = "–"


def markdown(ablation: Ablation) -> str:
    """Verdicts, values of every column, and differences with their intervals."""
    return "\n\n".join([_verdicts(ablation), _values(ablation), _differences(ablation)]) + "\n"


def _verdicts(ablation: Ablation) -> str:
    budget = "The budget is too small: the full method does not beat a scale of 0 in identity on every seed."
    if ablation.enough:
        budget = "The full method beats a scale of 0 in identity on every seed."
    elif not ablation.differences.get(SCALE_ZERO):
        budget = "Whether the budget is enough is not known: the full method is not measured yet."
    rows = [(f"{TITLES[order.variant]} costs {order.metric}", order.verdict) for order in ablation.orders]
    return f"{budget}\n\n{_table(('the paper says', 'here'), rows)}"


def _values(ablation: Ablation) -> str:
    seeds = seeds_of(ablation)
    header = ["percent, by seed", *(metric.title for metric in MEASURED.values()), "minutes"]
    rows = [
        _row(TITLES[name], [column_of(name, seed) for seed in seeds], ablation)
        for name in TITLES
        if any(column_of(name, seed) in ablation.columns for seed in seeds)
    ]
    trained = {column_of(name, seed) for name in TITLES for seed in seeds}
    rows += [_row(name.replace("-", " "), [name], ablation) for name in ablation.columns if name not in trained]
    return _table(header, rows)


def _row(title: str, columns: Sequence[str], ablation: Ablation) -> list[str]:
    found = [ablation.columns.get(column, {}) for column in columns]
    cells = [" / ".join(_percent(each.get(name)) for each in found) for name in MEASURED]
    minutes = [ablation.training[column]["minutes"] for column in columns if column in ablation.training]
    return [title, *cells, " / ".join(f"{each:.0f}" for each in minutes) or _NOTHING]


def _differences(ablation: Ablation) -> str:
    header = ["full method minus …, points", *(metric.title for metric in MEASURED.values())]
    names = [name for name in TITLES if name in ablation.differences]
    return _table(header, [[TITLES[name], *_cells(list(ablation.differences[name].values()))] for name in names])


def _cells(by_seed: Sequence[Estimates]) -> list[str]:
    """Bold where the full method is ahead on every seed, slanted where it is behind."""
    cells: list[str] = []
    for name in MEASURED:
        each = [estimates[name] for estimates in by_seed if name in estimates]
        text = " / ".join(map(_with_interval, each)) or _NOTHING
        side = side_of(name, each)
        cells.append(text if side == NOT_SHOWN else f"**{text}**" if side == APPEARS else f"*{text}*")
    return cells


def _percent(value: Estimate | None) -> str:
    return _NOTHING if value is None else f"{100 * value.value:.0f}"


def _with_interval(value: Estimate) -> str:
    return f"{100 * value.value:+.0f} ({100 * value.low:+.0f} to {100 * value.high:+.0f})"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
