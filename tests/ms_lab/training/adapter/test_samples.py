"""Samples at one size: the crop, its boxes, and references as serving prepares them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from ms_core.conditions.references import ReferencePreprocessor
from ms_core.config import ReferenceConfig
from ms_core.spec import Box
from ms_lab.data.records import SubjectRecord, TrainingSample
from ms_lab.training.adapter.samples import Size, crop, prepare

SQUARE = Size(64, 64)


def sample(height: int, width: int, *boxes: tuple[float, float, float, float]) -> TrainingSample:
    """A picture whose red value is its column and whose green value is its row, in percent."""
    rows, columns = np.mgrid[:height, :width]
    pixels = np.stack([100 * columns / width, 100 * rows / height, 0 * rows], -1).astype(np.uint8)
    reference = Image.new("RGB", (20, 10), (200, 30, 30))
    subjects = tuple(SubjectRecord(f"thing {n}", (0, 1), Box(*box), (1,), reference, "") for n, box in enumerate(boxes))
    return TrainingSample(Image.fromarray(pixels), "things", height, width, subjects, "s", "CC0-1.0", "train")


def test_a_square_picture_is_only_scaled() -> None:
    cropped, corner = crop(sample(128, 128, (0.1, 0.2, 0.6, 0.9)), SQUARE)
    assert corner == (0, 0)
    assert cropped.image.size == (64, 64)
    assert cropped.subjects[0].box.as_tuple() == pytest.approx((0.1, 0.2, 0.6, 0.9))


def test_a_wide_picture_is_cut_around_its_subjects() -> None:
    # Scaled to 64 x 128; the box is 64 to 115.2 pixels wide, its middle 89.6, so the crop begins at 57.6.
    cropped, corner = crop(sample(128, 256, (0.5, 0.25, 0.9, 0.75)), SQUARE)
    assert corner == (0, 58)
    assert cropped.subjects[0].box.as_tuple() == pytest.approx((6 / 64, 0.25, 57.2 / 64, 0.75))
    pixels = np.asarray(cropped.image).astype(int)
    assert pixels[0, 0, 0] == pytest.approx(100 * 58 / 128, abs=2)
    assert pixels[-1, 0, 1] == pytest.approx(100, abs=3)


def test_a_tall_picture_is_cut_too() -> None:
    cropped, corner = crop(sample(256, 128, (0.2, 0.0, 0.8, 0.2)), SQUARE)
    assert corner == (0, 0)
    assert cropped.subjects[0].box.as_tuple() == pytest.approx((0.2, 0.0, 0.8, 0.4))


def test_a_subject_of_which_little_is_left_is_left_out() -> None:
    # Together they reach from 0 to 0.93; the crop is from 0.219 to 0.719: of the first it holds 12 %, of the last but one
    # 8 %, of the last 54 %.
    boxes = [(0.0, 0.1, 0.25, 0.9), (0.4, 0.1, 0.6, 0.9), (0.7, 0.1, 0.93, 0.9), (0.15, 0.1, 0.3, 0.9)]
    cropped, _ = crop(sample(100, 200, *boxes), SQUARE)
    assert [subject.phrase for subject in cropped.subjects] == ["thing 1", "thing 3"]
    assert cropped.subjects[1].box.as_tuple() == pytest.approx((0.0, 0.1, 2 * (0.3 - 28 / 128), 0.9))


def test_where_the_middle_holds_no_subject_the_largest_is_cut_out() -> None:
    cropped, corner = crop(sample(100, 300, (0.0, 0.1, 0.1, 0.9), (0.8, 0.1, 1.0, 0.9)), SQUARE)
    assert [subject.phrase for subject in cropped.subjects] == ["thing 1"]
    assert corner == (0, 128)


def test_a_subject_larger_than_the_crop_fills_it() -> None:
    cropped, _ = crop(sample(100, 300, (0.0, 0.0, 1.0, 1.0)), SQUARE)
    assert cropped.subjects[0].box.as_tuple() == (0, 0, 1, 1)


def test_a_prepared_sample_says_where_it_was_cut_from() -> None:
    reference = ReferenceConfig(size=32, keep_proportions=True)
    preprocessor = ReferencePreprocessor(reference, 28, 28, (0.5,) * 3, (0.5,) * 3)
    prepared = prepare(sample(128, 256, (0.5, 0.25, 0.9, 0.75)), SQUARE, preprocessor)
    assert prepared.time_ids.tolist() == [128, 256, 0, 58, 64, 64]
    assert prepared.image.shape == (3, 64, 64)
    # 200 / 255 of red, without a change by squashing.
    assert float(prepared.references[0, 0].mean()) == pytest.approx(2 * 200 / 255 - 1, abs=1e-3)
    # The reference is twice as wide as high: its place is as wide as the box and half as high.
    box, place = prepared.boxes[0], prepared.places[0]
    assert torch.equal(place[[0, 2]], box[[0, 2]])
    assert float(place[3] - place[1]) == pytest.approx(float(box[2] - box[0]) / 2, abs=1e-6)
