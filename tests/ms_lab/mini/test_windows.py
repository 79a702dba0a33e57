"""Windows that hold all subjects and show them large."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ms_core.spec import Box
from ms_lab.data.records import SubjectRecord, TrainingSample
from ms_lab.mini.windows import cut_to_window, draw_window

FAR_APART = [Box(0.1, 0.1, 0.3, 0.2), Box(0.5, 0.6, 0.7, 0.9)]


def test_all_boxes_are_within_the_window_and_it_within_the_picture() -> None:
    for seed in range(200):
        window = draw_window(np.random.default_rng(seed), 320, 240, FAR_APART, least=64)
        assert window is not None
        left, top, side = window
        assert 0 <= left <= 0.1 * 320
        assert 0 <= top <= 0.1 * 240
        assert 0.7 * 320 <= left + side <= 320
        assert 0.9 * 240 <= top + side <= 240


def test_the_largest_subject_takes_up_a_third_to_four_fifths() -> None:
    shares = [
        64 / window[2]
        for seed in range(200)
        if (window := draw_window(np.random.default_rng(seed), 256, 256, [Box(0.2, 0.3, 0.45, 0.4)], least=1))
    ]
    assert len(shares) == 200
    assert 0.34 <= min(shares) < 0.45
    assert 0.7 < max(shares) <= 0.8


def test_nothing_is_enlarged() -> None:
    window = draw_window(np.random.default_rng(1), 256, 256, [Box(0.2, 0.2, 0.3, 0.3)], least=128)
    assert window is not None
    assert window[2] == 128


def test_no_square_holds_what_is_wider_than_the_picture_is_high() -> None:
    assert draw_window(np.random.default_rng(1), 320, 100, [Box(0, 0, 0.2, 0.2), Box(0.8, 0, 1, 1)], least=64) is None


def test_boxes_stay_on_what_they_name() -> None:
    image = Image.new("RGB", (100, 80))
    image.paste((255, 0, 0), (30, 40, 50, 60))
    subject = SubjectRecord("square", (2, 8), Box(0.3, 0.5, 0.5, 0.75), (1, 2), image, "made")
    sample = TrainingSample(image, "a square", 80, 100, (subject,), "made", "CC0-1.0", "train")
    cut = cut_to_window(sample, (20, 35, 40))
    assert cut.image.size == (cut.width, cut.height) == (40, 40)
    assert cut.subjects[0].box.as_tuple() == pytest.approx((0.25, 0.125, 0.75, 0.625))
    assert cut.subjects[0].mask is None
    assert cut.image.getbbox() == (10, 5, 30, 25)
