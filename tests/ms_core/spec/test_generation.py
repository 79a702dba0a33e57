"""What a user may ask for, and where phrases are found in a prompt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ms_core.errors import LayoutError, PhraseNotFoundError, UnsupportedSchedulerError
from ms_core.spec import AutoLayout, Box, GenerationSpec, Subject

PICTURE = Image.new("RGB", (4, 4))
CAT = Subject("cat", PICTURE, Box(0.0, 0.0, 1.0, 1.0))
SPEC = GenerationSpec("a cat", (CAT,))


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=4, max_size=4))
def test_a_box_lies_inside_and_has_an_area_or_is_refused(numbers: list[float]) -> None:
    x_min, y_min, x_max, y_max = numbers
    good = all(0.0 <= number <= 1.0 for number in numbers) and x_min < x_max and y_min < y_max
    if good:
        assert Box(*numbers).as_tuple() == tuple(numbers)
    else:
        with pytest.raises(LayoutError):
            Box(*numbers)


@given(st.integers(1, 3000), st.integers(1, 3000), st.data())
def test_pixel_boxes_are_normalised(height: int, width: int, data: st.DataObject) -> None:
    x_min, y_min = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    x_max, y_max = data.draw(st.integers(x_min + 1, width)), data.draw(st.integers(y_min + 1, height))
    box = Box.from_pixels((x_min, y_min, x_max, y_max), height, width)
    assert box.as_tuple() == (x_min / width, y_min / height, x_max / width, y_max / height)


@pytest.mark.parametrize("pixel_box", [(0, 0, 101, 50), (0, 0, 100, 51)])
def test_a_pixel_box_larger_than_the_picture_is_refused(pixel_box) -> None:
    with pytest.raises(LayoutError, match="100 x 50"):
        Box.from_pixels(pixel_box, height=50, width=100)


@pytest.mark.parametrize(
    "box",
    [
        lambda: Box(-1e-7, 0.1, 1.0000000000000002, 1.0000005),
        lambda: Box.from_xywh(-1e-7, 0.1, 1.0000003, 0.9000001),
        lambda: Box.from_pixels((-1e-5, 6.4, 128.00000000000003, 64.00001), height=64, width=128),
    ],
    ids=["xyxy", "xywh", "pixels"],
)
def test_an_edge_may_miss_the_frame_by_rounding(box: Callable[[], Box]) -> None:
    assert box().as_tuple() == pytest.approx((0.0, 0.1, 1.0, 1.0), abs=1e-9)


@pytest.mark.parametrize("pixel_box", [(-1, 0, 10, 10), (0, 0, 100.01, 50)])
def test_a_pixel_box_outside_the_picture_is_spoken_of_in_pixels(pixel_box) -> None:
    with pytest.raises(LayoutError, match="pixel box .* reaches outside"):
        Box.from_pixels(pixel_box, height=50, width=100)


@pytest.mark.parametrize(
    ("box", "ends"),
    [
        ((0.8, 0.2, 0.2, 0.8), "below y_max; x_min and x_max look exchanged."),
        ((0.8, 0.8, 0.2, 0.2), "below y_max; x_min and x_max, and y_min and y_max look exchanged."),
        ((0.2, 0.2, 0.2, 0.8), "y_min below y_max."),
    ],
)
def test_a_box_without_area_is_told_which_edges_look_exchanged(
    box: tuple[float, float, float, float], ends: str
) -> None:
    with pytest.raises(LayoutError) as caught:
        Box(*box)
    assert caught.value.detail.endswith(ends)


def test_an_unknown_scheduler_is_refused() -> None:
    with pytest.raises(UnsupportedSchedulerError, match="ddim, .*, unipc"):
        replace(SPEC, scheduler="dpm")


def test_without_auto_layout_every_subject_needs_a_box() -> None:
    with pytest.raises(LayoutError) as caught:
        replace(SPEC, subjects=(CAT, replace(CAT, box=None)))
    assert caught.value.pointer == "/subjects/1/box"


def test_with_auto_layout_a_box_may_be_absent() -> None:
    assert replace(SPEC, subjects=(replace(CAT, box=None),), layout=AutoLayout()).layout == AutoLayout()


def test_auto_layout_needs_every_phrase_in_the_prompt() -> None:
    with pytest.raises(PhraseNotFoundError) as caught:
        replace(SPEC, subjects=(CAT, replace(CAT, phrase="dog")), layout=AutoLayout())
    assert caught.value.pointer == "/subjects/1/phrase"
