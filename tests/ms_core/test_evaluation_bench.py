"""The bench with painters in the model's place: one that does what a request asks, one that paints backgrounds only."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ms_core.config import ModelCard
from ms_core.evaluation.bench import (
    COLUMNS,
    COMPOSITES,
    MODEL,
    SCALE_ZERO,
    SHUFFLED,
    THROUGH_VAE,
    Column,
    Maker,
    build_spec,
    check_gate,
    run_columns,
)
from ms_core.evaluation.metrics import METRICS, bootstrap, wilson
from ms_core.evaluation.report import Evaluation, build_results, build_table, draw_sheet
from ms_core.evaluation.scenes import EvaluationScene, candidate_picture, draw_scenes, fingerprint
from ms_core.mini.backgrounds import BACKGROUNDS
from ms_core.mini.sprites import SpritePack
from ms_core.spec import GenerationSpec

PACK = Path(__file__).parents[2] / "assets" / "heldout-sprites.zip"
COUNT = 10


class Painter:
    """A perfect model: it reads the background in the prompt and sets each reference's drawing into its box."""

    def __init__(self, scenes: Sequence[EvaluationScene], pack: SpritePack) -> None:
        self.drawings: dict[bytes, Image.Image] = {}
        for scene in scenes:
            for subject, question in zip(scene.original.subjects, scene.questions, strict=True):
                drawing = candidate_picture(pack, question.candidates[question.true])
                self.drawings[subject.reference.tobytes()] = drawing

    def paint(self, specs: Sequence[GenerationSpec]) -> list[Image.Image]:
        return [self._paint(spec) for spec in specs]

    def _paint(self, spec: GenerationSpec) -> Image.Image:
        canvas = paint_background(spec)
        if spec.scale == 0.0:
            return canvas
        for subject in spec.subjects:
            assert subject.box is not None
            left, top, right, bottom = (round(128 * value) for value in subject.box.as_tuple())
            drawing = self.drawings[subject.image.tobytes()]
            drawing = drawing.crop(drawing.getchannel("A").getbbox())
            ratio = min((right - left) / drawing.width, (bottom - top) / drawing.height)
            drawing = drawing.resize((round(drawing.width * ratio), round(drawing.height * ratio)))
            corner = ((left + right - drawing.width) // 2, (top + bottom - drawing.height) // 2)
            canvas.paste(drawing, corner, drawing)
        return canvas


def paint_background(spec: GenerationSpec) -> Image.Image:
    name = next(name for name in BACKGROUNDS if spec.prompt.endswith(name))
    canvas = BACKGROUNDS[name](np.random.default_rng(spec.seed), 128)
    return Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def pack() -> SpritePack:
    return SpritePack.load(PACK)


@pytest.fixture(scope="module")
def scenes(pack: SpritePack) -> list[EvaluationScene]:
    return draw_scenes(pack, COUNT)


@pytest.fixture(scope="module")
def columns(scenes: list[EvaluationScene], pack: SpritePack) -> dict[str, Column]:
    """All columns of the perfect painter; the batch does not divide the number of scenes."""
    maker = Maker(Painter(scenes, pack).paint, list, batch_size=4)
    made: list[int] = []
    columns = run_columns(scenes, pack, maker, made.append)
    assert sum(made) == 2 * COUNT * len(COLUMNS)
    return columns


@pytest.fixture
def evaluation(scenes: list[EvaluationScene], pack: SpritePack, columns: dict[str, Column]) -> Evaluation:
    return Evaluation(ModelCard(name="painter"), scenes, fingerprint(scenes, pack), columns, 1.5, batch_size=4)


@pytest.mark.slow
@pytest.mark.parametrize("name", [MODEL, COMPOSITES, THROUGH_VAE])
def test_what_obeys_is_recognised(columns: dict[str, Column], name: str) -> None:
    estimates = columns[name].estimates
    assert estimates["identity"].value >= 0.9
    assert estimates["swap"].value >= 0.8
    assert estimates["layout"].value >= 0.9
    assert estimates["background"].value >= 0.9


@pytest.mark.slow
def test_shuffled_references_are_not_the_scenes_own(columns: dict[str, Column]) -> None:
    """An obedient painter sets the same wrong things in turn: it flips more often than 1/16."""
    assert columns[SHUFFLED].estimates["identity"].value <= 0.2
    assert columns[SHUFFLED].estimates["swap"].value <= 0.5


def test_at_scale_zero_nothing_flips(columns: dict[str, Column]) -> None:
    column = columns[SCALE_ZERO]
    assert column.originals == column.exchanged
    assert column.estimates["swap"].value == 0.0


def test_what_obeys_passes_the_gate(columns: dict[str, Column]) -> None:
    assert [gate.condition for gate in check_gate(columns) if not gate.passed] == []


@pytest.mark.slow
def test_a_model_that_paints_backgrounds_only_misses_all_but_the_background(
    scenes: list[EvaluationScene], pack: SpritePack
) -> None:
    maker = Maker(lambda specs: [paint_background(spec) for spec in specs], list, batch_size=8)
    gates = check_gate(run_columns(scenes, pack, maker, lambda count: None))
    assert [gate.passed for gate in gates] == [False] * 5 + [True]


def test_the_exchanged_request_keeps_prompt_seed_and_boxes(scenes: list[EvaluationScene]) -> None:
    original, exchanged = (build_spec(scenes[0], scenes[0], flag, None) for flag in (False, True))
    assert (exchanged.prompt, exchanged.seed) == (original.prompt, original.seed)
    assert [s.box for s in exchanged.subjects] == [s.box for s in original.subjects]
    assert [s.phrase for s in exchanged.subjects] == [s.phrase for s in reversed(original.subjects)]
    assert [s.image for s in exchanged.subjects] == [s.image for s in reversed(original.subjects)]


def test_the_shuffled_request_keeps_phrases_and_boxes(scenes: list[EvaluationScene]) -> None:
    original, shuffled = (build_spec(scenes[0], scenes[i], False, None) for i in (0, 1))
    assert [s.phrase for s in shuffled.subjects] == [s.phrase for s in original.subjects]
    assert [s.box for s in shuffled.subjects] == [s.box for s in original.subjects]
    assert [s.image for s in shuffled.subjects] == [s.reference for s in scenes[1].original.subjects]


def test_every_phrase_is_found_in_its_prompt(scenes: list[EvaluationScene]) -> None:
    for scene in scenes:
        first, second = build_spec(scene, scene, True, None).phrase_spans
        assert first is not None
        assert second is not None
        assert first != second


@pytest.mark.parametrize(("successes", "low", "high"), [(0, 0.0, 0.0370), (50, 0.4038, 0.5962), (100, 0.9630, 1.0)])
def test_wilsons_interval_is_the_textbooks(successes: int, low: float, high: float) -> None:
    estimate = wilson(np.asarray([1.0] * successes + [0.0] * (100 - successes)))
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=1e-4)


def test_the_bootstrap_is_repeatable_and_near_the_normal_interval() -> None:
    values = np.random.default_rng(0).choice([0.0, 0.5, 1.0], 100)
    estimate = bootstrap(values)
    half = 1.96 * values.std() / 10
    assert estimate == bootstrap(values)
    assert (estimate.low, estimate.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.015)


def test_equal_values_still_have_an_interval() -> None:
    estimate = bootstrap(np.ones(20))
    assert estimate.value == estimate.high == 1.0
    assert estimate.low < 0.9


def test_the_results_are_json_with_every_number(evaluation: Evaluation) -> None:
    results = json.loads(json.dumps(build_results(evaluation)))
    assert set(results["columns"]) == set(COLUMNS)
    for column in results["columns"].values():
        assert set(column) == set(METRICS)
        assert all(e["low"] <= e["value"] <= e["high"] and e["scenes"] == COUNT for e in column.values())
    assert len(results["gate"]) == 6
    assert len(results["outcomes"][MODEL]) == COUNT


def test_the_table_has_a_row_for_each_metric(evaluation: Evaluation) -> None:
    table = build_table(evaluation)
    assert table.row_count == len(METRICS)
    assert [column.header for column in table.columns][1:-1] == list(COLUMNS)


def test_the_sheet_shows_what_was_made(evaluation: Evaluation) -> None:
    sheet = draw_sheet(evaluation)
    made = evaluation.columns[MODEL].originals[0]
    corner = next(
        (left, top)
        for left in range(sheet.width - 127)
        for top in range(60)
        if sheet.getpixel((left, top)) == made.getpixel((0, 0))
        and sheet.crop((left, top, left + 128, top + 128)).tobytes() == made.tobytes()
    )
    assert corner[0] > 0
