"""The judge of forms: it sees detail, and coarse patches of the right colours do not deceive it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ms_lab.evaluation.judge.forms import FormVerdict, judge_forms
from ms_lab.evaluation.judge.outlines import outline_iou
from ms_lab.evaluation.questions.mosaics import mosaic
from ms_lab.evaluation.questions.packs import BenchPack
from ms_lab.evaluation.questions.scenes import BenchScene
from ms_lab.mini.halves import VALIDATION
from ms_lab.mini.scenes import SceneComposer
from tests.ms_lab.evaluation.small_bench import draw_few
from tests.support.paths import ASSETS

CELLS = (3, 6, 12)
SCENES = 16


@pytest.fixture(scope="module")
def pack() -> BenchPack:
    return BenchPack.read(ASSETS, VALIDATION)


@pytest.fixture(scope="module")
def scenes(pack: BenchPack) -> list[BenchScene]:
    return draw_few(pack, {"headline": SCENES})


@pytest.fixture(scope="module")
def found(pack: BenchPack, scenes: list[BenchScene]) -> list[list[FormVerdict]]:
    """Verdicts on composites, then on mosaics of ever more cells, of all subjects of all scenes."""
    columns: list[list[FormVerdict]] = [[] for _ in range(1 + len(CELLS))]
    for scene in scenes:
        pictures = [scene.original.image, *(mosaic(scene.original, 2, cells) for cells in CELLS)]
        for column, verdicts in zip(columns, judge_forms(pictures, scene, pack), strict=True):
            column += verdicts
    return columns


def share(verdicts: list[FormVerdict], part: str) -> float:
    return float(np.mean([value for verdict in verdicts if (value := getattr(verdict, part)) is not None]))


def test_composites_pass_and_three_cells_do_not(found: list[list[FormVerdict]]) -> None:
    """A judge that is four times coarser takes patches for forms: it fails here."""
    composites, three, six, twelve = (share(column, "form") for column in found)
    assert composites >= 0.96
    assert twelve >= 0.9
    assert three <= 0.6
    assert three < six < twelve


def test_which_way_up_is_seen_in_composites_and_hardly_in_three_cells(found: list[list[FormVerdict]]) -> None:
    composites, three, six, twelve = (share(column, "upright") for column in found)
    assert min(composites, twelve) >= 0.93
    assert three <= 0.75
    assert three < six <= twelve


def test_outlines_of_composites_are_found(found: list[list[FormVerdict]]) -> None:
    composites, three, *_ = (share(column, "outline") for column in found)
    assert composites >= 0.8
    assert three < composites - 0.03


def test_what_is_not_there_has_no_outline(pack: BenchPack, scenes: list[BenchScene]) -> None:
    scene = scenes[0]
    one = replace(scene.scene, placements=scene.scene.placements[1:])
    (verdicts,) = judge_forms([SceneComposer(pack).sample(one).image], scene, pack)
    assert verdicts[0].outline == 0.0
    assert verdicts[1].outline > 0.5


def _disc(row: float, column: float, radius: float, stretch: float = 1.0) -> np.ndarray:
    rows, columns = np.mgrid[:64, :64]
    return ((rows - row) / stretch) ** 2 + (columns - column) ** 2 <= radius**2


def test_shift_and_scale_cost_nothing_and_another_form_does() -> None:
    true = _disc(20, 20, 12)
    assert outline_iou(true, true) == 1.0
    assert outline_iou(_disc(40, 35, 12), true) == pytest.approx(1.0)
    assert outline_iou(_disc(40, 35, 14.5), true) >= 0.93
    assert outline_iou(_disc(32, 32, 12, stretch=2.0), true) <= 0.7
    ring = true & ~_disc(20, 20, 8)
    assert outline_iou(ring, true) >= 0.97
    assert outline_iou(np.zeros((64, 64), bool), true) == 0.0
