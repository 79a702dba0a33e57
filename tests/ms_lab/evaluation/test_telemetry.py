"""Forms as telemetry: the validation half, another seed than the bench's, and numbers that follow the pictures."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from PIL import Image

from ms_lab.evaluation.questions.mosaics import mosaic
from ms_lab.evaluation.questions.scenes import BENCH_SEED, BenchScene
from ms_lab.evaluation.telemetry import TELEMETRY_SEED, FormScenes
from ms_lab.mini.halves import VALIDATION, half_of
from tests.support.paths import ASSETS


@pytest.fixture(scope="module")
def forms() -> FormScenes:
    return FormScenes.draw(ASSETS, count=8)


def composites(batch: Sequence[BenchScene]) -> list[Image.Image]:
    return [scene.original.image for scene in batch]


def six_cells(batch: Sequence[BenchScene]) -> list[Image.Image]:
    return [mosaic(scene.original, 2, 6) for scene in batch]


def test_it_shows_validation_artwork_in_other_scenes_than_the_bench(forms: FormScenes) -> None:
    assert TELEMETRY_SEED != BENCH_SEED
    phrases = {subject.phrase for scene in forms.scenes for subject in scene.original.subjects}
    assert {half_of(phrase) for phrase in phrases} == {VALIDATION}


def test_composites_have_their_form_and_six_cells_are_worth_at_most_six(forms: FormScenes) -> None:
    perfect = forms.judge(composites, composites)
    assert perfect["form"] >= 0.9
    assert perfect["silhouette"] == 1.0
    coarse = forms.judge(six_cells, composites)
    assert coarse["equivalent_mosaic"] <= 6.01 < perfect["equivalent_mosaic"]
    assert coarse["form"] < perfect["form"]
    assert coarse["silhouette"] < 1.0
