"""Composites made coarse: means in cells of a silhouette's box, and nothing else changed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from ms_core.spec import Box
from ms_lab.data.records import SubjectRecord, TrainingSample
from ms_lab.data.run_lengths import run_lengths
from ms_lab.evaluation.questions.mosaics import blurred, mosaic, silhouette_boxes

HEIGHT, WIDTH = 96, 128
# Rows and columns of two silhouettes; a third subject is not drawn.
PLACES = ((slice(10, 70), slice(20, 56)), (slice(20, 60), slice(80, 120)), (slice(0, 96), slice(0, 128)))


@pytest.fixture
def sample() -> TrainingSample:
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    subjects = []
    for place in PLACES:
        mask = np.zeros((HEIGHT, WIDTH), bool)
        mask[place] = True
        # A looser box must not matter: cells are of the silhouette's.
        subjects.append(SubjectRecord("cat", (0, 3), Box(0, 0, 1, 1), run_lengths(mask), Image.new("RGB", (8, 8)), "x"))
    return TrainingSample(Image.fromarray(noise), "a cat", HEIGHT, WIDTH, tuple(subjects), "s", "l", "heldout")


def inside(pixels: np.ndarray) -> list[np.ndarray]:
    return [pixels[place] for place in PLACES[:2]]


@pytest.mark.parametrize("cells", [3, 4, 6])
def test_each_cell_has_its_mean_colour(sample: TrainingSample, cells: int) -> None:
    shown, own = (inside(np.asarray(picture, float)) for picture in (mosaic(sample, 2, cells), sample.image))
    for box, before in zip(shown, own, strict=True):
        assert len(np.unique(box.reshape(-1, 3), axis=0)) == cells**2
        rows, columns = (np.array_split(np.arange(length), cells) for length in box.shape[:2])
        if box.shape[0] % cells == 0 and box.shape[1] % cells == 0:
            for row in rows:
                for column in columns:
                    cell = np.ix_(row, column)
                    assert np.abs(box[cell] - before[cell].mean((0, 1))).max() <= 0.51


@pytest.mark.parametrize("change", ["mosaic", "blur"])
def test_nothing_changes_outside_the_silhouettes_boxes(sample: TrainingSample, change: str) -> None:
    picture = mosaic(sample, 2, 4) if change == "mosaic" else blurred(sample, 2, 5.0)
    changed = (np.asarray(picture) != np.asarray(sample.image)).any(-1)
    assert all(box.mean() > 0.9 for box in inside(changed))
    for place in PLACES[:2]:
        changed[place] = False
    assert not changed.any()


def test_cells_cannot_be_smaller_than_pixels(sample: TrainingSample) -> None:
    assert mosaic(sample, 2, 500).tobytes() == sample.image.tobytes()


def test_blur_spreads_a_point_by_its_pixels_of_a_canvas_of_128(sample: TrainingSample) -> None:
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[20:60, 100:] = 255
    row = np.asarray(blurred(replace(sample, image=Image.fromarray(pixels)), 2, 5.0), float)[40, 80:120, 0]
    slope = np.diff(row)
    centre = np.average(np.arange(len(slope)), weights=slope)
    assert np.sqrt(np.average((np.arange(len(slope)) - centre) ** 2, weights=slope)) == pytest.approx(5.0, abs=0.3)


def test_boxes_are_those_of_the_drawn_silhouettes(sample: TrainingSample) -> None:
    first, second = silhouette_boxes(sample, 2)
    assert first.as_tuple() == pytest.approx((20 / 128, 10 / 96, 56 / 128, 70 / 96))
    assert second.as_tuple() == pytest.approx((80 / 128, 20 / 96, 120 / 128, 60 / 96))
