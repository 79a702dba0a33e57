"""One subject: its pictures, its place, and painted masks of every kind."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image

from ms_core.errors import InvalidInputError, LayoutError
from ms_core.spec import SCENE_SCALE, WHOLE_PICTURE, Box, Subject, grey_mask, mask_bounds

PICTURE = Image.new("RGB", (4, 4))
HALF = Box(0.5, 0.0, 1.0, 1.0)


def painted(mode: str, size: tuple[int, int], pixel_box: tuple[int, int, int, int], colour: Any) -> Image.Image:
    mask = Image.new(mode, size)
    mask.paste(colour, pixel_box)
    return mask


def greys(mask: Image.Image) -> list[int]:
    return [int(value) for value in grey_mask(mask).tobytes()]


def half_transparent() -> Image.Image:
    mask = Image.new("RGBA", (2, 1), (255, 255, 255, 0))
    mask.putpixel((1, 0), (255, 255, 255, 128))
    return mask


def sixteen_bits(mode: str) -> Image.Image:
    mask = Image.new(mode, (3, 1))
    mask.putpixel((1, 0), 32768)
    mask.putpixel((2, 0), 65535)
    return mask


def palette() -> Image.Image:
    mask = Image.new("P", (2, 1))
    mask.putpalette([255, 255, 255, 100, 100, 100])
    mask.putpixel((1, 0), 1)
    mask.info["transparency"] = 0
    return mask


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (painted("L", (2, 1), (1, 0, 2, 1), 77), [0, 77]),
        (painted("1", (2, 1), (1, 0, 2, 1), 1), [0, 255]),
        (painted("RGB", (2, 1), (1, 0, 2, 1), (255, 255, 255)), [0, 255]),
        (half_transparent(), [0, 128]),
        (palette(), [0, 100]),
        (sixteen_bits("I;16"), [0, 128, 255]),
        (sixteen_bits("I;16B"), [0, 128, 255]),
    ],
    ids=["grey", "one bit", "colour", "transparent", "palette", "16 bits", "16 bits, big end first"],
)
def test_a_mask_of_any_kind_is_read_as_grey(mask: Image.Image, expected: list[int]) -> None:
    assert greys(mask) == expected


def test_a_mask_is_turned_by_its_exif_tag() -> None:
    """Tag 6: the camera was turned, the first row is the right column."""
    mask = painted("L", (6, 2), (0, 0, 3, 1), 255)
    mask.getexif()[0x0112] = 6
    assert grey_mask(mask).size == (2, 6)
    assert mask_bounds(mask) == Box(0.5, 0.0, 1.0, 0.5)


@pytest.mark.parametrize(
    "mask",
    [
        Image.new("L", (5, 5)),
        Image.new("RGB", (5, 5)),
        Image.new("RGBA", (5, 5), (255, 255, 255, 0)),
        Image.new("LA", (5, 5), (255, 0)),
        Image.new("L", (0, 5)),
    ],
    ids=["black", "black in colour", "all transparent", "all transparent grey", "no pixel"],
)
def test_an_empty_mask_is_refused(mask: Image.Image) -> None:
    with pytest.raises(LayoutError, match="paint white where the subject should stand") as caught:
        Subject("cat", PICTURE, mask=mask)
    assert caught.value.pointer == "/mask"


def test_a_mask_is_refused_for_being_empty_even_beside_a_box() -> None:
    with pytest.raises(LayoutError):
        Subject("cat", PICTURE, HALF, mask=Image.new("L", (5, 5)))


def test_a_mask_gives_its_bounds_where_no_box_is_given() -> None:
    mask = painted("L", (10, 4), (3, 1, 6, 4), 1)
    assert Subject("cat", PICTURE, mask=mask).place == Box(0.3, 0.25, 0.6, 1.0)
    assert Subject("cat", PICTURE, HALF, mask=mask).box == HALF


def test_a_scene_fills_the_picture_with_the_authors_scale() -> None:
    scene = Subject("beach", PICTURE, scene=True)
    assert (scene.place, scene.own_scale) == (WHOLE_PICTURE, SCENE_SCALE)
    assert Subject("beach", PICTURE, WHOLE_PICTURE, scale=0.0, scene=True).scale == 0.0


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [({"box": HALF}, "/box"), ({"mask": Image.new("L", (2, 2), 255)}, "/mask")],
)
def test_a_scene_has_no_other_place(fields: dict[str, Any], pointer: str) -> None:
    with pytest.raises(LayoutError, match="whole picture") as caught:
        Subject("beach", PICTURE, scene=True, **fields)
    assert caught.value.pointer == pointer


def test_a_subject_needs_a_picture_or_words() -> None:
    with pytest.raises(InvalidInputError, match="or words alone as prompt") as caught:
        Subject("tree", box=HALF)
    assert caught.value.pointer == "/image"
    words = Subject("tree", box=HALF, prompt="a tree in the rain")
    assert (words.images, words.image_fields, words.place) == ((), (), HALF)
    assert Subject("tree", PICTURE, HALF, prompt="a tree").images == (PICTURE,)


@pytest.mark.parametrize("prompt", ["", " ", "a\0tree", "a" * 20_001])
def test_words_of_a_subject_are_checked_as_a_prompt(prompt: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        Subject("tree", PICTURE, HALF, prompt=prompt)
    assert caught.value.pointer == "/prompt"
