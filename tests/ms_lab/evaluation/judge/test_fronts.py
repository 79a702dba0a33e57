"""Who is in front: right on the true composite, wrong on the other order."""

from __future__ import annotations

import pytest
from PIL import Image, ImageFilter

from ms_lab.evaluation.judge.judge import judge_pictures
from ms_lab.evaluation.questions.columns import WRONG_ORDER, PictureKey, composed_picture
from ms_lab.evaluation.questions.packs import BenchPack
from ms_lab.evaluation.questions.scenes import BenchScene
from tests.ms_lab.evaluation.small_bench import draw_few
from tests.support.paths import ASSETS


@pytest.fixture(scope="module")
def pack() -> BenchPack:
    return BenchPack.read(ASSETS)


@pytest.fixture(scope="module")
def scenes(pack: BenchPack) -> list[BenchScene]:
    return draw_few(pack, {"contact": 4})


def dim(picture: Image.Image) -> Image.Image:
    """A picture as a model may paint it: soft, and a little darker."""
    return picture.filter(ImageFilter.GaussianBlur(1.5)).point(lambda level: level * 0.9)


def test_the_true_composite_is_right_and_the_other_order_wrong(scenes: list[BenchScene], pack: BenchPack) -> None:
    for scene in scenes:
        other = composed_picture(PictureKey(WRONG_ORDER, "contact", scene.number), scene)
        pictures = [scene.original.image, dim(scene.original.image), scene.pasted, other, dim(other)]
        found = [verdict.front for verdict in judge_pictures(pictures, scene, pack)]
        assert found == [True, True, True, False, False]


def test_both_are_recognised_in_either_order(scenes: list[BenchScene], pack: BenchPack) -> None:
    for scene in scenes:
        (verdict,) = judge_pictures([scene.original.image], scene, pack)
        assert all(subject.identity for subject in verdict.subjects)


def test_other_scenes_are_not_asked(pack: BenchPack) -> None:
    (scene,) = draw_few(pack, {"headline": 1})
    (verdict,) = judge_pictures([scene.original.image], scene, pack)
    assert verdict.front is None
