"""Boxes to masks, against a check that walks every cell."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from ms_core.method.boxes import attention_grids, boxes_to_masks, fit_boxes

GRIDS = [(64, 64), (32, 32), (25, 33), (13, 17), (7, 9), (1, 1), (1, 8), (52, 76)]


def slow_mask(box: tuple[float, ...], height: int, width: int) -> list[list[bool]]:
    """The official rule, one cell at a time, in numpy's float32."""
    x_min, y_min, x_max, y_max = (np.float32(number) for number in box)
    first_column, end_column = math.floor(x_min * np.float32(width)), math.ceil(x_max * np.float32(width))
    first_row, end_row = math.floor(y_min * np.float32(height)), math.ceil(y_max * np.float32(height))
    return [
        [first_column <= column < end_column and first_row <= row < end_row for column in range(width)]
        for row in range(height)
    ]


@st.composite
def boxes(draw: st.DrawFn) -> tuple[float, float, float, float]:
    """Boxes with an area, many of them on round numbers."""
    number = st.one_of(
        st.floats(0.0, 1.0, width=32),
        st.integers(0, 100).map(lambda n: n / 100),
        st.integers(0, 64).map(lambda n: n / 64),
    )
    x_min, x_max = sorted((draw(number), draw(number)))
    y_min, y_max = sorted((draw(number), draw(number)))
    return x_min, y_min, x_max, y_max


@given(box=boxes(), grid=st.sampled_from(GRIDS))
def test_masks_equal_the_slow_check(box: tuple[float, ...], grid: tuple[int, int]) -> None:
    assert boxes_to_masks(torch.tensor(box), *grid).tolist() == slow_mask(box, *grid)


@pytest.mark.parametrize("grid", GRIDS)
def test_the_whole_picture_covers_every_cell(grid: tuple[int, int]) -> None:
    assert boxes_to_masks(torch.tensor([0.0, 0.0, 1.0, 1.0]), *grid).all()


def test_four_zeros_cover_nothing() -> None:
    assert not boxes_to_masks(torch.zeros(2, 3, 4), 25, 33).any()


def test_a_box_smaller_than_a_cell_covers_that_cell() -> None:
    mask = boxes_to_masks(torch.tensor([0.51, 0.26, 0.515, 0.265]), 32, 32)
    assert mask.nonzero().tolist() == [[8, 16]]


def test_masks_keep_the_leading_dimensions() -> None:
    assert boxes_to_masks(torch.rand(2, 3, 4).sort(-1).values, 5, 7).shape == (2, 3, 5, 7)


def test_half_precision_boxes_are_computed_in_float32() -> None:
    box = torch.tensor([0.25, 0.25, 0.5, 0.5])
    assert torch.equal(boxes_to_masks(box.half(), 25, 33), boxes_to_masks(box, 25, 33))


def test_grids_of_200_by_264_pixels_halve_upward() -> None:
    assert list(attention_grids(25, 33).values()) == [(25, 33), (13, 17), (7, 9), (4, 5), (2, 3), (1, 2), (1, 1)]


@given(height=st.integers(1, 300), width=st.integers(1, 300))
def test_grids_are_those_of_stride_two_convolutions(height: int, width: int) -> None:
    grids = list(attention_grids(height, width).values())
    convolution = torch.nn.Conv2d(1, 1, 3, stride=2, padding=1, device="meta")
    for smaller, larger in zip(grids[1:], grids[:-1], strict=True):
        assert tuple(convolution(torch.empty(1, *larger, device="meta")).shape[1:]) == smaller


positive = st.floats(0.1, 10.0)


@given(boxes(), positive, positive)
def test_a_fitted_box_lies_in_the_middle_has_its_proportions_and_fills_one_direction(
    box: tuple[float, float, float, float], aspect: float, picture_aspect: float
) -> None:
    x_min, y_min, x_max, y_max = box
    assume(min(x_max - x_min, y_max - y_min) > 0.01 and box != (0, 0, 1, 1))
    [fitted] = fit_boxes(torch.tensor([box]), torch.tensor([aspect]), picture_aspect).tolist()
    width, height = fitted[2] - fitted[0], fitted[3] - fitted[1]
    assert width / height * picture_aspect == pytest.approx(aspect, rel=1e-3)
    assert fitted[0] + fitted[2] == pytest.approx(x_min + x_max, abs=1e-5)
    assert fitted[1] + fitted[3] == pytest.approx(y_min + y_max, abs=1e-5)
    filled = width / (x_max - x_min), height / (y_max - y_min)
    assert max(filled) == pytest.approx(1.0, rel=1e-4)


def test_what_is_the_whole_picture_or_nowhere_is_not_fitted() -> None:
    kept = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    assert torch.equal(fit_boxes(kept, torch.tensor([0.5, 2.0]), 1.6), kept)
