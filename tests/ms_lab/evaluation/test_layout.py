"""Layout of pictures whose answers are known: composed, exchanged, shifted, and without subjects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from PIL import Image

from cli.eval import ASSETS
from ms_core.config import ModelCard
from ms_core.spec import GenerationSpec
from ms_lab.evaluation.layout import (
    COLUMNS,
    EXCHANGED_BOXES,
    FOUND,
    MIOU,
    ROWS,
    LayoutResults,
    asked_of,
    build_table,
    composites,
    summarise,
)
from ms_lab.evaluation.questions.columns import COMPOSITES, MODEL, SCALE_ZERO, Requests, Settings
from ms_lab.evaluation.questions.packs import BenchPack
from ms_lab.evaluation.report.intervals import Estimate
from ms_lab.evaluation.run.columns import judge_columns, make_columns
from ms_lab.evaluation.run.making import Maker
from ms_lab.mini.halves import TEST
from tests.ms_lab.evaluation.small_bench import Painter, draw_few
from tests.support.paths import MINI


def test_a_perfect_model_is_told_from_its_controls() -> None:
    pack = BenchPack.read(ASSETS, TEST)
    scenes = draw_few(pack, {"headline": 4})
    painter = Painter(scenes, pack)
    requests = Requests(scenes, True, ModelCard.load(MINI), Settings())
    maker = Maker(painter.paint, lambda pictures: [picture.copy() for picture in pictures], batch_size=3)
    steps: list[int] = []
    pictures = make_columns(requests, maker, asked_of(requests), steps.append) | composites(scenes)
    assert sum(steps) == 4 * len(scenes)
    assert {column: len(shown) for column, shown in pictures.items()} == dict.fromkeys(COLUMNS, len(scenes))
    columns = {
        column: {row: estimate.value for row, estimate in summarise(scenes, found).items()}
        for column, found in judge_columns(pictures, scenes, pack, lambda _: None).items()
    }
    assert columns[MODEL][FOUND] >= 0.75
    assert columns[COMPOSITES][FOUND] >= 0.75
    assert columns[COMPOSITES][MIOU] > 0.6
    for row in ROWS:
        assert columns[EXCHANGED_BOXES][row] <= 0.3 * columns[MODEL][row], row
        assert columns[SCALE_ZERO][row] <= 0.3 * columns[MODEL][row], row


def test_boxes_are_exchanged_and_nothing_else() -> None:
    pack = BenchPack.read(ASSETS, TEST)
    scenes = draw_few(pack, {"headline": 1})
    asked: list[GenerationSpec] = []

    def paint(specs: Sequence[GenerationSpec]) -> list[Image.Image]:
        asked.extend(specs)
        return [Image.new("RGB", (64, 64)) for _ in specs]

    requests = Requests(scenes, True, ModelCard.load(MINI), Settings())
    make_columns(requests, Maker(paint, list, 1), asked_of(requests), lambda _: None)
    own, exchanged, without = asked
    assert [subject.box for subject in exchanged.subjects] == [subject.box for subject in reversed(own.subjects)]
    back = tuple(replace(s, box=o.box) for s, o in zip(exchanged.subjects, own.subjects, strict=True))
    assert replace(exchanged, subjects=back) == own
    assert without.scale == 0


def test_the_table_has_all_columns() -> None:
    columns = {column: {row: Estimate(0.5, 0.4, 0.6, 3) for row in ROWS} for column in COLUMNS}
    table = build_table(LayoutResults("mini", 2, 3, 1, TEST, 3, columns))
    assert [column.header for column in table.columns] == ["", *COLUMNS]
    assert table.row_count == len(ROWS)
