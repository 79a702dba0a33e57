"""Drawings against boxes, backgrounds in every light, and what differs from them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from threadpoolctl import threadpool_limits

from ms_core.spec import Box
from ms_lab.evaluation.judge.backdrops import fit_backdrop
from ms_lab.evaluation.judge.layouts import Layout
from ms_lab.evaluation.judge.matching import Drawing, Frame, Matcher
from ms_lab.evaluation.judge.segmentation import Segmentation, box_iou
from ms_lab.evaluation.judge.views import SIDE, View, box_mask, square_box, square_mask
from ms_lab.mini.backgrounds import BACKGROUNDS
from ms_lab.mini.painting import LIGHTS, PLAIN, light, paint_backdrop

CANVAS = 128
BOX = Box(0.25, 0.25, 0.75, 0.75)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with threadpool_limits(1, "blas"):
        yield


def draw_disc(colour: tuple[int, int, int], side: int = 96) -> Image.Image:
    picture = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    ImageDraw.Draw(picture).ellipse((0, 0, side - 1, side - 1), fill=(*colour, 255))
    return picture


def draw_stripes(upright: bool, stripes: int = 14, side: int = 96) -> Image.Image:
    """Bright and dark stripes in turn: upright or lying, they have much the same colours in coarse cells."""
    bands = np.arange(side) * stripes // side % 2 == 0
    levels = np.where(bands, 230, 20).astype(np.uint8)
    plane = np.broadcast_to(levels if upright else levels[:, None], (side, side))
    return Image.fromarray(np.stack([plane, plane, plane, np.full_like(plane, 255)], -1))


def grey_canvas(drawing: Image.Image | None, left: int = 32, top: int = 32, side: int = 64) -> Image.Image:
    canvas = Image.new("RGB", (CANVAS, CANVAS), (120, 120, 120))
    if drawing is not None:
        small = drawing.resize((side, side))
        canvas.paste(small, (left, top), small)
    return canvas


def match(picture: Image.Image, box: Box = BOX) -> Matcher:
    ground = View.of(grey_canvas(None)).colours
    return Matcher(View.of(picture).colours, ground, Frame(np.ones((CANVAS, CANVAS), np.float32), box))


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    x_min, y_min = (draw(st.floats(0.0, 0.7)) for _ in range(2))
    return Box(x_min, y_min, draw(st.floats(x_min + 0.2, 1.0)), draw(st.floats(y_min + 0.2, 1.0)))


@given(boxes())
def test_a_box_and_its_mask_land_on_the_same_place_of_the_square(box: Box) -> None:
    height, width = 96, 160
    mask = np.zeros((height, width), bool)
    rows, columns = ((np.arange(length) + 0.5) / length for length in (height, width))
    mask |= ((rows >= box.y_min) & (rows <= box.y_max))[:, None] & ((columns >= box.x_min) & (columns <= box.x_max))
    on_square = box_mask([square_box(box, height, width)], 0.0)
    # Half a pixel more or less on each of four sides.
    assert (square_mask(mask) ^ on_square).sum() <= 4 * SIDE


def test_what_lies_beyond_an_oblong_picture_is_unseen() -> None:
    view = View.of(Image.new("RGB", (160, 96)))
    assert view.seen[SIDE // 2].all()
    assert not view.seen[0].any()
    assert view.seen.mean() == pytest.approx(96 / 160, abs=0.02)


@given(boxes(), boxes())
def test_iou_is_symmetric_and_whole_only_for_equal_boxes(first: Box, second: Box) -> None:
    share = box_iou(first, second)
    assert 0.0 <= share <= 1.0
    assert share == pytest.approx(box_iou(second, first))
    assert box_iou(first, first) == pytest.approx(1.0)


@settings(max_examples=15, deadline=None)
@given(st.integers(-3, 3), st.integers(-3, 3), st.integers(58, 66))
def test_small_shifts_and_sizes_do_not_hide_a_drawing(right: int, down: int, side: int) -> None:
    red, blue = draw_disc((220, 40, 40)), draw_disc((40, 40, 220))
    picture = grey_canvas(red, 32 + right, 32 + down, side)
    own, other = match(picture).cosines([Drawing.of(red), Drawing.of(blue)])
    assert own >= 0.95
    assert own > other + 0.3


def test_contrast_counts_for_residuals_and_not_for_cosines() -> None:
    pale, full = (draw_disc(colour) for colour in ((170, 100, 100), (220, 80, 80)))
    matcher = match(grey_canvas(full))
    drawings = [Drawing.of(full), Drawing.of(pale)]
    cosines, residuals = matcher.cosines(drawings), matcher.residuals(drawings)
    assert abs(cosines[0] - cosines[1]) <= 0.03
    assert residuals[0] <= 0.05
    assert residuals[1] >= residuals[0] + 0.1


def test_a_mirrored_drawing_is_the_same_drawing() -> None:
    half = draw_disc((220, 40, 40))
    half.paste((0, 0, 0, 0), (60, 0, 96, 96))
    picture = grey_canvas(half.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    # The disc's left five eighths, mirrored: they fill this box.
    (cosine,) = match(picture, Box(0.44, 0.25, 0.75, 0.75)).cosines([Drawing.of(half)])
    assert cosine >= 0.9


def test_an_empty_box_matches_nothing() -> None:
    assert match(grey_canvas(None)).cosines([Drawing.of(draw_disc((220, 40, 40)))]) == pytest.approx(0.0)


@pytest.mark.parametrize("named", [PLAIN, *LIGHTS])
def test_every_kind_is_recognised_in_its_light(named: str) -> None:
    outside = ~box_mask([BOX])
    for kind in BACKGROUNDS:
        view = View.of(light(paint_backdrop(kind, np.random.default_rng(99), CANVAS), named))
        found = fit_backdrop(view, outside, (PLAIN, *LIGHTS))
        assert (found.name, found.light) == (kind, named)


def test_a_neighbour_and_specks_are_not_part_of_a_subject() -> None:
    """A red square in its box, a blue one over its corner, a dot beside it."""
    backdrop = paint_backdrop("on the beach", np.random.default_rng(7), CANVAS)
    picture = backdrop.copy()
    picture.paste((200, 20, 20), (32, 40, 72, 80))
    picture.paste((20, 20, 200), (64, 72, 104, 112))
    picture.paste((20, 20, 20), (24, 60, 26, 62))
    squares = [np.zeros((CANVAS, CANVAS), bool) for _ in range(2)]
    squares[0][40:80, 32:72] = squares[1][72:112, 64:104] = True
    boxes = (Box(0.25, 0.3125, 0.5625, 0.625), Box(0.5, 0.5625, 0.8125, 0.875))
    layout = Layout(boxes, tuple(square_mask(square) for square in squares), np.ones((SIDE, SIDE), bool))
    view = View.of(picture)
    segmentation = Segmentation(view, fit_backdrop(view, layout.background()), layout)
    for index, box in enumerate(boxes):
        found = segmentation.found_box(index)
        assert found is not None
        assert box_iou(found, box) >= 0.85
    assert segmentation.inside_share() >= 0.95
    empty = Segmentation(View.of(backdrop), fit_backdrop(View.of(backdrop), layout.background()), layout)
    assert [empty.is_present(index) for index in range(2)] == [False, False]


def test_a_silhouette_is_visible_or_hidden() -> None:
    below, above = (box_mask([box], 0.0) for box in (Box(0.2, 0.2, 0.6, 0.6), Box(0.4, 0.4, 0.9, 0.9)))
    seen = np.ones((SIDE, SIDE), bool)
    layout = Layout((Box(0.2, 0.2, 0.6, 0.6), Box(0.4, 0.4, 0.9, 0.9)), (below, above), seen)
    assert (layout.visible(0) ^ layout.hidden(0) == below).all()
    assert (layout.hidden(0) == (below & above)).all()
    assert not layout.hidden(1).any()
    assert not layout.part(0)[above].any()
    assert layout.part(1)[above & ~box_mask([layout.boxes[0]])].all()


def test_what_a_judge_four_times_coarser_hardly_tells_apart_is_told_apart() -> None:
    upright, lying = draw_stripes(upright=True), draw_stripes(upright=False)
    for shown, place in ((upright, 0), (lying, 1)):
        cosines = match(grey_canvas(shown)).cosines([Drawing.of(upright), Drawing.of(lying)])
        # Four times coarser it comes to 0.41.
        assert cosines[place] >= cosines[1 - place] + 0.6
