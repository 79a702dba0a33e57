"""Single references and what their tokens must describe."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from ms_lab.mini.batches import Share, load_batches
from ms_lab.mini.random_scenes import PLAIN_SCENES, SceneOdds
from ms_lab.mini.reference_batches import POINT, POINTS, ReferenceStream, to_points
from ms_lab.mini.sprites import SpritePack
from tests.support.paths import ASSETS


@pytest.fixture(scope="module")
def pack() -> SpritePack:
    return SpritePack.load(ASSETS / "smoke-sprites.zip")


def test_points_are_mean_premultiplied_colours() -> None:
    values = np.random.default_rng(0).integers(0, 256, (POINTS * POINT, POINTS * POINT, 4), dtype=np.uint8)
    points = to_points(Image.fromarray(values, "RGBA"))
    cell = values[4 * POINT : 5 * POINT, 7 * POINT : 8 * POINT].astype(float) / 255
    expected = [*(cell[..., :3] * cell[..., 3:]).mean((0, 1)), cell[..., 3].mean()]
    assert points.shape == (4, POINTS, POINTS)
    assert points[:, 4, 7].tolist() == pytest.approx(expected, abs=0.01)


def test_nothing_stands_outside_the_box(pack: SpritePack) -> None:
    batch = ReferenceStream(pack, PLAIN_SCENES, Share(16, seed=0)).batch(0)
    centres = (torch.arange(POINTS) + 0.5) / POINTS
    for box, placed in zip(batch.boxes, batch.placed, strict=True):
        # A point may reach over the box's edge by half of itself.
        reach = 1.0 / POINTS
        columns = (centres < box[0] - reach) | (centres > box[2] + reach)
        rows = (centres < box[1] - reach) | (centres > box[3] + reach)
        assert float(placed[3][rows].sum() + placed[3][:, columns].sum()) < 0.1
        assert float(placed[3].max()) > 0.5


def test_batch_of_a_number_never_changes(pack: SpritePack) -> None:
    first = ReferenceStream(pack, SceneOdds(), Share(4, seed=1))
    second = next(iter(load_batches(ReferenceStream(pack, SceneOdds(), Share(4, seed=1, first=3)), 0)))
    assert torch.equal(first.batch(3).placed, second.placed)
    assert torch.equal(first.batch(3).references, second.references)
    assert first.batch(3).phrases == second.phrases
