"""Counts as bars of a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

_BINS = 20


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: its label, its count, and its length in per cent of the longest."""

    label: str
    count: int
    length: float


@dataclass(frozen=True, slots=True)
class Histogram:
    """A title and bars."""

    title: str
    bars: list[Bar]


def count_bins(title: str, values: Sequence[float], low: float, high: float) -> Histogram:
    """Values in 20 equal bins from ``low`` to ``high``; those outside are in the outermost ones."""
    counts = [0] * _BINS
    for value in values:
        place = int((value - low) / (high - low) * _BINS)
        counts[min(max(place, 0), _BINS - 1)] += 1
    width = (high - low) / _BINS
    return _histogram(title, [(f"{low + number * width:.3g}", count) for number, count in enumerate(counts)])


def count_names(title: str, counts: Counter[str], by_name: bool) -> Histogram:
    """Names with their counts, in the order of the names or the most frequent first."""
    return _histogram(title, sorted(counts.items()) if by_name else counts.most_common())


def _histogram(title: str, counts: Sequence[tuple[str, int]]) -> Histogram:
    most = max((count for _, count in counts), default=0) or 1
    return Histogram(title, [Bar(label, count, 100 * count / most) for label, count in counts])
