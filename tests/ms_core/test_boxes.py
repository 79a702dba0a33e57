"""Boxes to masks, against a check that walks every cell."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ms_core.boxes import attention_grids, boxes_to_masks

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
