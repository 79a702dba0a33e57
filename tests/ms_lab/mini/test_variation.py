"""Variations of drawings: as if another artist had drawn them, and nothing lost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from ms_lab.mini.variation import Variation, draw_variation, vary


@pytest.fixture(scope="module")
def drawing() -> Image.Image:
    """A red triangle with its right angle at the lower left."""
    picture = Image.new("RGBA", (96, 96))
    ImageDraw.Draw(picture).polygon([(0, 0), (0, 95), (95, 95)], fill=(200, 30, 30, 255))
    return picture


def _opaque(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.getchannel("A")) > 128


def test_without_a_variation_it_is_the_drawing_itself(drawing: Image.Image) -> None:
    assert vary(drawing, None) is drawing


def test_mirroring_exchanges_left_and_right(drawing: Image.Image) -> None:
    mirrored = vary(drawing, Variation(mirrored=True, stretch=1.0, degrees=0.0))
    assert (_opaque(mirrored) == _opaque(drawing)[:, ::-1]).mean() > 0.98


def test_a_quarter_turn_is_anticlockwise(drawing: Image.Image) -> None:
    turned = vary(drawing, Variation(mirrored=False, stretch=1.0, degrees=90.0))
    assert (_opaque(turned) == np.rot90(_opaque(drawing))).mean() > 0.97


def test_stretching_changes_the_width_beside_the_height(drawing: Image.Image) -> None:
    rows, columns = np.nonzero(_opaque(vary(drawing, Variation(mirrored=False, stretch=0.5, degrees=0.0))))
    assert np.ptp(columns) / np.ptp(rows) == pytest.approx(0.5, abs=0.03)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_variation_fills_its_square_and_keeps_its_colour(drawing: Image.Image, seed: int) -> None:
    varied = vary(drawing, draw_variation(np.random.default_rng(seed)))
    assert varied.size == drawing.size
    rows, columns = np.nonzero(_opaque(varied))
    assert max(np.ptp(rows), np.ptp(columns)) >= 91
    assert np.abs(np.asarray(varied)[_opaque(varied)][:, :3].mean(0) - [200, 30, 30]).max() < 12
