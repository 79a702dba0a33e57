"""The equivalent mosaic: where a rising curve is as good as the model."""

from __future__ import annotations

import numpy as np
import pytest

from ms_lab.evaluation.judge.forms import FormVerdict
from ms_lab.evaluation.judge.outcome import Outcome
from ms_lab.evaluation.questions.columns import MODEL, MOSAICS
from ms_lab.evaluation.report.equivalent import CELLS, equivalent_mosaic, interpolate_cells
from ms_lab.evaluation.report.summary import EQUIVALENT, summarise
from ms_lab.evaluation.report.tables import format_row
from tests.ms_lab.evaluation.report.bench_outcomes import columns_of, found, outcome

# Right answers of a hundred in mosaics of 3, 4, 6, 8, 12 and 16 cells.
CURVE = (30, 45, 65, 85, 95, 100)


def right(count: int) -> list[Outcome]:
    """A hundred scenes of one subject, of which so many are right."""
    verdicts = [FormVerdict(number < count, None, 0, 1.0) for number in range(100)]
    return [outcome([found(shape=verdict)], number=number) for number, verdict in enumerate(verdicts)]


MOSAIC_ROWS = {f"mosaic {cells}": right(count) for cells, count in zip(CELLS, CURVE, strict=True)}


@pytest.mark.parametrize(("count", "cells"), [(65, 6.0), (75, 48**0.5), (30, 3.0), (10, 3.0), (100, 16.0), (95, 12.0)])
def test_it_is_read_off_the_mosaics_in_the_logarithm_of_their_cells(count: int, cells: float) -> None:
    estimate = equivalent_mosaic(MOSAIC_ROWS, right(count))
    assert estimate is not None
    assert estimate.value == pytest.approx(cells)
    assert estimate.low <= estimate.value <= estimate.high


def test_its_interval_holds_what_other_scenes_would_give() -> None:
    rng = np.random.default_rng(0)
    scenes = [
        outcome([found(shape=FormVerdict(bool(rng.random() < 0.75), None, 0, 1.0))], number=n) for n in range(100)
    ]
    estimate = equivalent_mosaic(MOSAIC_ROWS, scenes)
    assert estimate is not None
    # Three of four stand midway between 6 and 8 cells.
    assert estimate.low < 48**0.5 < estimate.high
    assert 1 < estimate.high - estimate.low < 4


def test_a_curve_that_falls_is_levelled() -> None:
    curve = np.asarray([[0.3, 0.5, 0.4, 0.8, 0.8, 1.0]])
    # 4 and 6 cells count as 0.45 each.
    assert interpolate_cells(np.asarray([0.45]), curve)[0] == pytest.approx(4.0)
    assert interpolate_cells(np.asarray([0.625]), curve)[0] == pytest.approx(48**0.5)
    assert interpolate_cells(np.asarray([0.8]), curve)[0] == pytest.approx(8.0)


def test_only_scenes_of_both_are_compared() -> None:
    few = {column: rows[:50] for column, rows in MOSAIC_ROWS.items()}
    assert equivalent_mosaic({**MOSAIC_ROWS, "mosaic 3": []}, right(65)) is None
    estimate = equivalent_mosaic(few, right(65))
    assert estimate is not None
    assert estimate.count == 50


def test_it_stands_in_the_summary_in_cells() -> None:
    model = right(65)
    summary = summarise(columns_of(model) | MOSAIC_ROWS, {"headline": "both"})["headline"]
    estimate = summary.columns[MODEL][EQUIVALENT]
    assert format_row(EQUIVALENT, estimate)[0] == "6.0"
    assert format_row("form", summary.columns[MODEL]["form"])[0] == "65.0"
    assert set(MOSAICS) <= set(summary.columns)
