"""The plot of an ablation: full method minus variant with its intervals, as an SVG file written by hand."""

from __future__ import annotations

from html import escape

from ms_lab.ablation.orders import CONFLICT, IDENTITY, MEASURED, TEXT
from ms_lab.ablation.results import Ablation, seeds_of
from ms_lab.ablation.tables import TITLES
from ms_lab.evaluation.report.intervals import Estimate

SHOWN = (IDENTITY, TEXT, CONFLICT)
# Pixels.
_LEFT, _PANEL, _GAP, _TOP, _ROW, _BOTTOM = 110, 210, 56, 64, 34, 34
_COLOURS = ("#3b6ea5", "#b5482e", "#4c8a4c", "#8a5fa5")


def draw_plot(ablation: Ablation) -> str:
    """One panel for each metric of the paper's orders, one row for each variant, one dot for each seed."""
    names = [name for name in TITLES if name in ablation.differences]
    width = _LEFT + len(SHOWN) * (_PANEL + _GAP)
    height = _TOP + _ROW * len(names) + _BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        _text(_LEFT, 18, "Full method minus variant, points, with 95 % intervals; one colour a seed"),
    ]
    for line, name in enumerate(names):
        parts.append(_text(8, _middle(line) + 4, TITLES[name]))
    for number, metric in enumerate(SHOWN):
        parts += _panel(ablation, names, metric, _LEFT + number * (_PANEL + _GAP))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(ablation: Ablation, names: list[str], metric: str, left: float) -> list[str]:
    seeds = seeds_of(ablation)
    found = {
        (line, seeds.index(seed)): estimates[metric]
        for line, name in enumerate(names)
        for seed, estimates in ablation.differences[name].items()
        if metric in estimates
    }
    reach = max([0.05, *(max(abs(each.low), abs(each.high)) for each in found.values())])
    better = "less is better" if MEASURED[metric].is_rate else "more is better"
    centre, bottom = left + _PANEL / 2, _TOP + _ROW * len(names)
    parts = [
        _text(left, 40, f"{MEASURED[metric].title} ({better})"),
        f'<line x1="{centre}" y1="{_TOP - 10}" x2="{centre}" y2="{bottom}" stroke="#888"/>',
    ]
    for share in (-1, 0, 1):
        label = f"{100 * reach * share:+.0f}" if share else "0"
        parts.append(_text(centre + share * _PANEL / 2 - 8, bottom + 18, label))
    for (line, number), each in found.items():
        parts += _interval(each, centre, _PANEL / 2 / reach, _middle(line) + 8 * number - 4, number)
    return parts


def _interval(each: Estimate, centre: float, unit: float, y: float, number: int) -> list[str]:
    colour = _COLOURS[number % len(_COLOURS)]
    low, middle, high = (round(centre + unit * value, 1) for value in (each.low, each.value, each.high))
    return [
        f'<line x1="{low}" y1="{y}" x2="{high}" y2="{y}" stroke="{colour}" stroke-width="2"/>',
        f'<circle cx="{middle}" cy="{y}" r="3.5" fill="{colour}"/>',
    ]


def _middle(line: int) -> int:
    return _TOP + _ROW * line + _ROW // 2


def _text(x: float, y: float, text: str) -> str:
    return f'<text x="{x}" y="{y}">{escape(text)}</text>'
