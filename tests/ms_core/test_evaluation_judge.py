"""The judge on composed pictures: it finds what is there, sharp or soft, and nothing where nothing is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from ms_core.evaluation.backdrops import fit_backdrop, to_opponent
from ms_core.evaluation.metrics import judge_scene, layout_share, summarise
from ms_core.evaluation.scenes import EvaluationScene, draw_scenes
from ms_core.mini.backgrounds import BACKGROUNDS
from ms_core.mini.sprites import SpritePack

PACK = Path(__file__).parents[2] / "assets" / "heldout-sprites.zip"
COUNT = 14
# Not the evaluation's own seed: the judge was tuned on other scenes than it judges.
SEED = 77


@pytest.fixture(scope="module")
def pack() -> SpritePack:
    return SpritePack.load(PACK)


@pytest.fixture(scope="module")
def scenes(pack: SpritePack) -> list[EvaluationScene]:
    return draw_scenes(pack, COUNT, SEED)


def empty_picture(background: str, seed: int) -> Image.Image:
    canvas = BACKGROUNDS[background](np.random.default_rng(seed), 128)
    return Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))


@pytest.mark.slow
@pytest.mark.parametrize(("sigma", "least"), [(0.0, 0.95), (2.0, 0.95), (4.0, 0.9)])
def test_true_composites_are_recognised_even_when_soft(
    scenes: list[EvaluationScene], pack: SpritePack, sigma: float, least: float
) -> None:
    soften = ImageFilter.GaussianBlur(sigma)
    estimates = summarise(
        [judge_scene(s, pack, s.original.image.filter(soften), s.exchanged.image.filter(soften)) for s in scenes]
    )
    assert estimates["identity"].value >= least
    assert estimates["swap"].value >= least - 0.1
    assert estimates["layout"].value >= 0.95
    assert estimates["background"].value >= 0.95


@pytest.mark.slow
def test_pictures_without_subjects_are_chance(scenes: list[EvaluationScene], pack: SpritePack) -> None:
    outcomes = [
        judge_scene(s, pack, empty_picture(s.scene.background, i), empty_picture(s.scene.background, COUNT + i))
        for i, s in enumerate(scenes)
    ]
    estimates = summarise(outcomes)
    assert estimates["identity"].value <= 0.25
    assert estimates["swap"].value <= 0.25
    assert estimates["background"].value >= 0.95


@pytest.mark.slow
def test_wrong_subjects_are_not_recognised(scenes: list[EvaluationScene], pack: SpritePack) -> None:
    """Each box holds the other's subject, and the exchanged picture exchanges nothing."""
    estimates = summarise([judge_scene(s, pack, s.exchanged.image, s.exchanged.image) for s in scenes])
    assert estimates["identity"].value <= 0.1
    assert estimates["swap"].value == 0.0


def test_subjects_outside_their_boxes_lower_the_layout(scenes: list[EvaluationScene]) -> None:
    """The picture of one scene against the boxes of the next, which hold some 57 % of it by chance."""
    shares = []
    for scene, following in zip(scenes, scenes[1:], strict=False):
        seen = to_opponent(scene.original.image)
        shares.append(layout_share(seen, fit_backdrop(seen, following.boxes), following.boxes))
    assert np.mean(shares) <= 0.8


def free_corner(scene: EvaluationScene, side: float) -> tuple[float, float] | None:
    """The left and upper end of a square outside both boxes, if there is one in the picture's corners."""
    for left in (0.0, 1 - side):
        for top in (0.0, 1 - side):
            if all(
                left >= box.x_max or left + side <= box.x_min or top >= box.y_max or top + side <= box.y_min
                for box in scene.boxes
            ):
                return left, top
    return None


def test_a_third_thing_outside_the_boxes_lowers_the_layout(scenes: list[EvaluationScene]) -> None:
    side = 0.3
    scene, (left, top) = next((s, corner) for s in scenes if (corner := free_corner(s, side)) is not None)
    picture = scene.original.image.copy()
    picture.paste((250, 20, 20), tuple(round(128 * value) for value in (left, top, left + side, top + side)))
    shares = [
        layout_share(seen, fit_backdrop(seen, scene.boxes), scene.boxes)
        for seen in map(to_opponent, (scene.original.image, picture))
    ]
    assert shares[1] <= shares[0] - 0.15
