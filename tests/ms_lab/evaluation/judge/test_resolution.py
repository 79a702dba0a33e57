"""The judge sees fine enough: of ten drawings with the same colours and outline it picks the one whose lines lie right."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from ms_lab.evaluation.judge.judge import judge_picture
from ms_lab.mini.scenes import Placement
from ms_lab.mini.sprites import Sprite, SpritePack
from tests.ms_lab.evaluation.judge.judged_scenes import compose

ANGLES = tuple(range(0, 100, 10))
SIDE, PERIODS = 96, 4.5


def striped_disc(degrees: int) -> Image.Image:
    """A disc of red and blue stripes; seen from far enough, all are of the same purple."""
    middle = (np.arange(SIDE) + 0.5) / SIDE - 0.5
    across = middle[None] * math.cos(math.radians(degrees)) + middle[:, None] * math.sin(math.radians(degrees))
    red = (np.sin(2 * np.pi * PERIODS * across) > 0).astype(np.uint8) * 220
    opaque = (middle[None] ** 2 + middle[:, None] ** 2 < 0.25).astype(np.uint8) * 255
    return Image.fromarray(np.stack([red, np.zeros_like(red), 220 - red, opaque], -1), "RGBA")


@pytest.fixture(scope="module")
def pack() -> SpritePack:
    sprites = [Sprite("own", f"{angle}.png", f"own:{angle}", "disc", f"{angle:04d}", "CC0-1.0") for angle in ANGLES]
    return SpritePack(sprites, [striped_disc(angle) for angle in ANGLES])


def test_drawings_that_differ_in_detail_alone_are_told_apart(pack: SpritePack) -> None:
    right = []
    for index in range(len(ANGLES)):
        scene = compose(pack, [Placement(index, 0.0, centre=(0.5, 0.5), size=0.5)])
        right.append(judge_picture(scene.original.image, scene, pack).subjects[0].identity_easy)
    assert all(right)
