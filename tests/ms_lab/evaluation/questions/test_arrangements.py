"""Where the bench's subjects stand: within the picture, as large as asked, overlapping as much as asked."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ms_core.spec import Box
from ms_lab.evaluation.questions.arrangements import Arrangement, Extent, box_at, covered_share, draw_places, fill_box
from ms_lab.evaluation.questions.visibility import shows_order, shows_subjects, shows_treatment
from ms_lab.mini.painting import TREATMENTS, box_around, paint_sprite

WHOLE = Extent(-0.5, -0.5, 0.5, 0.5)


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    left, top = draw(st.floats(0.0, 0.9)), draw(st.floats(0.0, 0.9))
    return Box(left, top, draw(st.floats(left + 0.05, 1.0)), draw(st.floats(top + 0.05, 1.0)))


@st.composite
def extents(draw: st.DrawFn) -> Extent:
    """Of a drawing that fills its square in one direction at least, and is off its centre in the other."""
    low = draw(st.floats(-0.5, 0.2))
    high = draw(st.floats(low + 0.2, 0.5))
    return Extent(-0.5, low, 0.5, high) if draw(st.booleans()) else Extent(low, -0.5, high, 0.5)


def _drawing(extent: Extent, side: int = 96) -> Image.Image:
    picture = Image.new("RGBA", (side, side))
    corners = [round((value + 0.5) * side) for value in (extent.left, extent.top, extent.right, extent.bottom)]
    picture.paste((255, 255, 255, 255), (corners[0], corners[1], corners[2], corners[3]))
    return picture


def test_extent_of_a_drawing_is_measured_from_its_centre() -> None:
    extent = Extent.of(_drawing(Extent(-0.25, -0.5, 0.125, 0.5)))
    assert extent == Extent(-0.25, -0.5, 0.125, 0.5)
    assert extent.aspect_ratio == 0.375


def test_extent_follows_the_pose() -> None:
    drawing = _drawing(Extent(-0.5, -0.5, 0.5, 0.0))
    assert Extent.of(drawing, "upside down") == Extent(-0.5, 0.0, 0.5, 0.5)
    tilted = Extent.of(_drawing(WHOLE), "tilted")
    # A square tilted by 30 degrees is 1.37 times as wide.
    assert tilted.right - tilted.left == pytest.approx(1.37, abs=0.03)


@settings(max_examples=60, deadline=None)
@given(drawn=st.lists(extents(), min_size=1, max_size=3), seed=st.integers(0, 1000), oblong=st.booleans())
def test_places_are_within_the_picture_and_as_large_as_asked(drawn: list[Extent], seed: int, oblong: bool) -> None:
    height, width = (96, 160) if oblong else (128, 128)
    arrangement = Arrangement(((0.2, 0.4),) * len(drawn), max_overlap=0.1)
    places = draw_places(np.random.default_rng(seed), drawn, arrangement, height, width)
    assert places is not None
    placed = [box_at(place, extent, height, width) for place, extent in zip(places, drawn, strict=True)]
    for place, extent, box in zip(places, drawn, placed, strict=True):
        assert 0.2 <= place.size <= 0.4
        side = place.size * min(height, width)
        # Nothing is cut at the border.
        assert (box.x_max - box.x_min) * width == pytest.approx((extent.right - extent.left) * side)
        assert (box.y_max - box.y_min) * height == pytest.approx((extent.bottom - extent.top) * side)
    assert all(covered_share(a, b) <= 0.1 for a, b in itertools.combinations(placed, 2))


def test_every_size_is_given_to_one_subject_in_any_order() -> None:
    arrangement = Arrangement(((0.1, 0.12), (0.5, 0.6)))
    firsts: list[bool] = []
    for seed in range(20):
        places = draw_places(np.random.default_rng(seed), [WHOLE, WHOLE], arrangement, 128, 128)
        assert places is not None
        small, large = sorted(place.size for place in places)
        assert 0.1 <= small <= 0.12
        assert 0.5 <= large <= 0.6
        firsts.append(places[0].size == small)
    assert 0 < sum(firsts) < 20


def test_overlap_can_be_asked_for() -> None:
    arrangement = Arrangement(((0.3, 0.6),) * 2, min_overlap=0.25, max_overlap=0.5)
    for seed in range(20):
        places = draw_places(np.random.default_rng(seed), [WHOLE, WHOLE], arrangement, 128, 128)
        assert places is not None
        first, second = (box_at(place, WHOLE, 128, 128) for place in places)
        assert 0.25 <= covered_share(first, second) <= 0.5


def test_every_pair_of_boxes_overlaps_within_the_bounds_and_those_are_included() -> None:
    # The second one covers a quarter of the first, the third one nothing.
    boxes = [Box(0.0, 0.0, 0.5, 0.5), Box(0.25, 0.25, 0.75, 0.75), Box(0.75, 0.0, 1.0, 0.25)]
    assert Arrangement((), 0.25, 0.25).allows(boxes[:2])
    assert not Arrangement((), 0.26, 0.5).allows(boxes[:2])
    assert not Arrangement((), 0.0, 0.24).allows(boxes[:2])
    assert Arrangement((), 0.0, 0.25).allows(boxes)
    assert not Arrangement((), 0.1, 0.25).allows(boxes)
    assert Arrangement((), 0.1, 0.25).allows(boxes[:1])


@pytest.mark.parametrize("seed", range(5))
def test_many_subjects_are_placed_without_any_overlap(seed: int) -> None:
    places = draw_places(np.random.default_rng(seed), [WHOLE] * 6, Arrangement(((0.2, 0.3),) * 6), 128, 128)
    assert places is not None
    placed = [box_at(place, WHOLE, 128, 128) for place in places]
    assert {covered_share(a, b) for a, b in itertools.combinations(placed, 2)} == {0.0}


def test_no_place_is_found_where_there_is_no_room() -> None:
    assert draw_places(np.random.default_rng(0), [WHOLE, WHOLE], Arrangement(((0.9, 1.0),) * 2), 128, 128) is None


@settings(max_examples=60, deadline=None)
@given(box=boxes(), extent=extents(), oblong=st.booleans())
def test_drawing_fills_a_box_from_its_middle(box: Box, extent: Extent, oblong: bool) -> None:
    height, width = (96, 160) if oblong else (128, 128)
    place = fill_box(box, extent, height, width)
    filled = box_at(place, extent, height, width)
    for own, asked in zip(
        ((filled.x_min + filled.x_max) / 2, (filled.y_min + filled.y_max) / 2),
        ((box.x_min + box.x_max) / 2, (box.y_min + box.y_max) / 2),
        strict=True,
    ):
        assert own == pytest.approx(asked)
    shares = (
        (filled.x_max - filled.x_min) / (box.x_max - box.x_min),
        (filled.y_max - filled.y_min) / (box.y_max - box.y_min),
    )
    assert max(shares) == pytest.approx(1.0)


def test_painted_drawing_stands_where_the_box_says() -> None:
    drawing = _drawing(Extent(-0.5, -0.25, 0.5, 0.125))
    extent = Extent.of(drawing)
    place = fill_box(Box(0.25, 0.5, 0.75, 0.9), extent, 128, 128)
    silhouette = paint_sprite(Image.new("RGB", (128, 128)), drawing, place.centre, place.size)
    painted, expected = box_around(silhouette), box_at(place, extent, 128, 128)
    assert painted.as_tuple() == pytest.approx(expected.as_tuple(), abs=1.5 / 128)


@settings(max_examples=60, deadline=None)
@given(first=boxes(), second=boxes())
def test_covered_share_is_symmetric_and_at_most_one(first: Box, second: Box) -> None:
    share = covered_share(first, second)
    assert 0.0 <= share <= 1.0 + 1e-9
    assert share == pytest.approx(covered_share(second, first))
    assert covered_share(first, first) == pytest.approx(1.0)


def test_covered_share_is_of_the_smaller_box() -> None:
    large, small = Box(0.0, 0.0, 0.5, 0.5), Box(0.4, 0.4, 0.6, 0.5)
    assert covered_share(large, small) == pytest.approx(0.5)
    assert covered_share(large, Box(0.5, 0.0, 1.0, 0.5)) == 0.0


def _picture(level: int) -> Image.Image:
    return Image.new("RGB", (20, 20), (level, level, level))


def _square(left: int) -> np.ndarray:
    mask = np.zeros((20, 20), bool)
    mask[5:15, left : left + 10] = True
    return mask


def test_subject_like_its_background_is_not_shown() -> None:
    assert shows_subjects(_picture(100), _picture(150), [_square(5)])
    assert not shows_subjects(_picture(100), _picture(110), [_square(5)])


def test_subject_behind_another_is_not_shown() -> None:
    assert shows_subjects(_picture(0), _picture(255), [_square(0), _square(6)])
    assert not shows_subjects(_picture(0), _picture(255), [_square(0), _square(3)])


def _squares(first: int, second: int, side: int = 128) -> list[np.ndarray]:
    """Two silhouettes of half the side that begin at these columns."""
    masks = [np.zeros((side, side), bool) for _ in range(2)]
    for mask, left in zip(masks, (first, second), strict=True):
        mask[: side // 2, left : left + side // 2] = True
    return masks


def _grey(level: int, side: int = 128) -> Image.Image:
    return Image.new("RGB", (side, side), (level, level, level))


@pytest.mark.parametrize(
    ("side", "columns", "seen"), [(128, 1, True), (128, 0, False), (256, 1, False), (256, 2, True)]
)
def test_the_order_is_seen_where_the_silhouettes_share_a_latent_cell(side: int, columns: int, seen: bool) -> None:
    """64 pixels of a canvas of 128, 256 of one of 256."""
    silhouettes = _squares(0, side // 2 - columns, side)
    assert shows_order(_grey(100, side), _grey(150, side), silhouettes) is seen
    # One pixel less is too little.
    if seen:
        silhouettes[0][0] = False
        assert not shows_order(_grey(100, side), _grey(150, side), silhouettes)


@pytest.mark.parametrize(("inside", "outside", "seen"), [(120, 100, True), (119, 100, False), (100, 255, False)])
def test_the_order_is_seen_where_it_changes_what_both_cover(inside: int, outside: int, seen: bool) -> None:
    silhouettes = _squares(0, 32)
    common = silhouettes[0] & silhouettes[1]
    picture = Image.fromarray(np.where(common, inside, outside).astype(np.uint8)).convert("RGB")
    assert shows_order(picture, _grey(100), silhouettes) is seen


def test_treatments_show_on_coloured_things_with_an_up_and_a_down() -> None:
    drawing = Image.new("RGBA", (48, 48))
    drawing.paste((230, 40, 40, 255), (0, 0, 48, 20))
    drawing.paste((40, 200, 240, 255), (16, 20, 32, 48))
    assert all(shows_treatment(drawing, treatment) for treatment in TREATMENTS)


def test_treatments_do_not_show_on_what_they_leave_as_it_is() -> None:
    grey, ball = (Image.new("RGBA", (48, 48), colour) for colour in ((90, 90, 90, 255), (230, 40, 40, 255)))
    assert not shows_treatment(grey, "in black and white")
    assert not shows_treatment(ball, "upside down")
    assert shows_treatment(ball, "at night")


def test_lines_that_move_by_their_own_width_do_not_show_that_a_drawing_is_upside_down() -> None:
    drawing = Image.new("RGBA", (96, 96), (240, 240, 240, 255))
    for row in range(0, 96, 8):
        drawing.paste((0, 0, 0, 255), (0, row, 96, row + 4))
    assert not shows_treatment(drawing, "upside down")
