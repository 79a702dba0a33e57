"""GrabCut with a guess of our own: what it finds on backgrounds of all kinds, and when it says that there is nothing."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw

from ms_core.conditions.grabcut import MAX_SIDE, find_subject
from tests.support.paths import ASSETS

DEMO = ASSETS / "demo"
SIZE = (240, 200)


def plain() -> Image.Image:
    return Image.new("RGB", SIZE, (120, 150, 90))


def noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(60, 200, (SIZE[1], SIZE[0], 3), dtype=np.uint8))


def gradient() -> Image.Image:
    ramp = np.linspace(120, 230, SIZE[1]).astype(np.uint8)
    return Image.fromarray(np.broadcast_to(ramp[:, None, None], (SIZE[1], SIZE[0], 3)).copy())


def slope() -> Image.Image:
    """Nothing but a gradient from green to red."""
    ramp = np.linspace(0, 255, SIZE[0]).astype(np.uint8)
    row = np.stack([ramp, ramp[::-1], np.full_like(ramp, 80)], axis=-1)
    return Image.fromarray(np.broadcast_to(row, (SIZE[1], *row.shape)).copy())


def badge(box: tuple[int, int, int, int], ground: Image.Image) -> tuple[Image.Image, np.ndarray]:
    """A red disc with a yellow middle on ``ground``, and where it is."""
    left, top, right, bottom = box
    draw, truth = ImageDraw.Draw(ground), Image.new("1", ground.size)
    draw.ellipse(box, fill=(190, 40, 60))
    draw.ellipse((left + 25, top + 25, right - 25, bottom - 25), fill=(240, 220, 60))
    ImageDraw.Draw(truth).ellipse(box, fill=1)
    return ground, np.array(truth)


def agreement(mask: Image.Image | None, truth: np.ndarray) -> float:
    """Intersection over union."""
    assert mask is not None
    found = np.array(mask) >= 128
    return float((found & truth).sum() / (found | truth).sum())


@pytest.mark.parametrize("ground", [plain, noise, gradient])
def test_a_subject_is_told_from_its_background(ground: Callable[[], Image.Image]) -> None:
    picture, truth = badge((70, 40, 170, 160), ground())
    assert agreement(find_subject(picture), truth) > 0.95


@pytest.mark.parametrize("name", ["tomato", "leafy-green"])
def test_a_drawing_on_white_is_found(name: str) -> None:
    drawing = Image.open(DEMO / f"{name}.png")
    picture = Image.new("RGBA", drawing.size, "white")
    picture.alpha_composite(drawing)
    truth = np.array(drawing.getchannel("A")) >= 128
    assert agreement(find_subject(picture.convert("RGB")), truth) > 0.93


def test_a_subject_that_reaches_over_the_border_is_found() -> None:
    picture, truth = badge((50, 70, 190, 210), plain())
    assert agreement(find_subject(picture), truth) > 0.95


def test_a_neighbour_that_the_border_cuts_off_is_left_out() -> None:
    picture, truth = badge((80, 20, 160, 120), plain())
    picture, _ = badge((100, 165, 160, 225), picture)
    assert agreement(find_subject(picture), truth) > 0.93


def test_what_an_outline_encloses_belongs_to_it() -> None:
    picture, truth = Image.new("RGB", SIZE, "white"), Image.new("1", SIZE)
    ImageDraw.Draw(picture).ellipse((60, 40, 180, 160), outline="black", width=4)
    ImageDraw.Draw(truth).ellipse((60, 40, 180, 160), fill=1)
    assert agreement(find_subject(picture), np.array(truth)) > 0.95


def test_a_large_picture_is_cut_at_its_own_size() -> None:
    picture, truth = badge((70, 40, 170, 160), plain())
    size = (SIZE[0] * 5, SIZE[1] * 5)
    assert max(size) > 3 * MAX_SIDE
    large_truth = np.array(Image.fromarray(truth).resize(size))
    assert agreement(find_subject(picture.resize(size)), large_truth) > 0.93


def test_the_edge_is_soft() -> None:
    mask = find_subject(badge((70, 40, 170, 160), plain())[0])
    assert mask is not None
    partly = sum(mask.histogram()[1:255])
    assert 100 < partly < 3000


def test_the_same_picture_gives_the_same_mask() -> None:
    picture, _ = badge((70, 40, 170, 160), noise())
    first = find_subject(picture)
    cv2.setRNGSeed(12345)
    second = find_subject(picture)
    assert first is not None
    assert second is not None
    assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize("picture", [plain, noise, gradient, slope])
def test_where_nothing_stands_out_nothing_is_found(picture: Callable[[], Image.Image]) -> None:
    assert find_subject(picture()) is None


@pytest.mark.parametrize("size", [(1, 1), (3, 3), (15, 15), (4000, 20), (2, 500)])
def test_nothing_is_found_in_tiny_pictures(size: tuple[int, int]) -> None:
    assert find_subject(Image.effect_noise(size, 80).convert("RGB")) is None


def test_a_speck_is_no_subject() -> None:
    picture = plain()
    ImageDraw.Draw(picture).ellipse((118, 98, 124, 104), fill="red")
    assert find_subject(picture) is None


def test_the_picture_itself_is_left_alone() -> None:
    picture, _ = badge((70, 40, 170, 160), plain())
    before = picture.tobytes()
    find_subject(picture)
    assert (picture.size, picture.tobytes()) == (SIZE, before)
