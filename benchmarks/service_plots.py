"""Plots of the service's figures, as SVG files written by hand: bars need no library."""

from __future__ import annotations

import json
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

WIDTH, LEFT, ROW, TOP = 760, 250, 34, 54
BAR = "#3b6ea5"
MISSED = "#b5482e"


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar; ``goal`` is drawn as a line across it."""

    label: str
    value: float
    goal: float | None = None
    most: bool = False

    @property
    def met(self) -> bool:
        """Whether the goal is kept; with ``most`` the value must not be above it."""
        return self.goal is None or (self.value <= self.goal if self.most else self.value >= self.goal)


def draw(results: Path) -> list[Path]:
    """Draw what a results file holds, each plot beside it; returns their paths."""
    figures: dict[str, Any] = json.loads(results.read_text())["figures"]
    plots = {"rates": ("Requests a second (more is better)", _rates(figures))}
    plots["latencies"] = ("Milliseconds (less is better)", _latencies(figures))
    plots["growth"] = ("Jobs of 0.2 s done a second, by workers", _growth(figures))
    written: list[Path] = []
    for name, (title, bars) in plots.items():
        if bars:
            path = results.with_name(f"{results.stem}-{name}.svg")
            path.write_text(_svg(title, bars), encoding="utf-8")
            written.append(path)
    return written


def _rates(figures: dict[str, Any]) -> list[Bar]:
    bars: list[Bar] = []
    if "submits" in figures:
        bars.append(Bar("POST, photo-like pictures", figures["submits"]["accepted_per_s"], 15))
    if "flat-submits" in figures:
        bars.append(Bar("POST, flat pictures", figures["flat-submits"]["accepted_per_s"], 60))
    if "polls" in figures:
        bars.append(Bar("GET a job, 32 connections", figures["polls"]["polls_per_s"], 1500))
        by_state = figures["polls"]["by_state"].items()
        bars += [Bar(f"GET a job that is {state}", row["polls_per_s"]) for state, row in by_state]
    return bars


def _latencies(figures: dict[str, Any]) -> list[Bar]:
    bars: list[Bar] = []
    if "start" in figures:
        found = figures["start"]["enqueue_to_start_ms"]
        bars.append(Bar("Enqueue to start, p50", found["p50"], 5, most=True))
        bars.append(Bar("Enqueue to start, p99", found["p99"], 20, most=True))
    if "overhead" in figures:
        found = figures["overhead"]["accept_to_end_less_sleep_ms"]
        bars.append(Bar("Accept to end of a 1 s job, less 1 s", found["p50"], 15, most=True))
    if "polls" in figures:
        bars.append(Bar("GET a job, p99", figures["polls"]["latency_ms"]["p99"], 80, most=True))
    if "polls-and-submits" in figures:
        found = figures["polls-and-submits"]["latency_ms"]
        bars.append(Bar("GET a job while submits run, p99", found["p99"], 100, most=True))
    if "backlog" in figures:
        for jobs, found in figures["backlog"]["submit_ms"].items():
            bars.append(Bar(f"POST with {int(jobs):,} jobs queued, p50", found["p50"]))
    return bars


def _growth(figures: dict[str, Any]) -> list[Bar]:
    rates = figures.get("growth", {}).get("jobs_per_s", {})
    return [
        Bar(f"{workers} worker{'' if workers == '1' else 's'}", rate, float(workers) * rates["1"])
        for workers, rate in rates.items()
    ]


def _svg(title: str, bars: list[Bar]) -> str:
    largest = max(max(bar.value, bar.goal or 0.0) for bar in bars)
    scale = (WIDTH - LEFT - 90) / largest
    height = TOP + ROW * len(bars) + 34
    note = "Grey lines: the goal." if "workers" not in title else "Grey lines: one worker's rate times their number."
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" '
        f'font-size="13"><rect width="100%" height="100%" fill="white"/>',
        f'<text x="12" y="28" font-size="16">{escape(title)}</text>',
    ]
    for index, bar in enumerate(bars):
        y = TOP + ROW * index
        colour = BAR if bar.met or "workers" in title else MISSED
        lines.append(f'<text x="{LEFT - 8}" y="{y + 15}" text-anchor="end">{escape(bar.label)}</text>')
        lines.append(f'<rect x="{LEFT}" y="{y}" width="{bar.value * scale:.1f}" height="20" fill="{colour}"/>')
        lines.append(f'<text x="{LEFT + bar.value * scale + 6:.1f}" y="{y + 15}">{bar.value:g}</text>')
        if bar.goal is not None:
            x = f"{LEFT + bar.goal * scale:.1f}"
            lines.append(f'<path d="M{x} {y - 4}V{y + 24}" stroke="#777" stroke-width="2"/>')
    lines.append(f'<text x="12" y="{height - 12}" fill="#555">{note}</text></svg>')
    return "\n".join(lines) + "\n"
