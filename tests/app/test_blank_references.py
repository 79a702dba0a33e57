"""References that show nothing: refused if fully transparent, told of if they have one colour."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from ms_core.config import ModelCard
from ms_core.errors import PictureError
from ms_core.spec import Box, Control, GenerationSpec, StartPicture, Subject
from ms_core.spec.resolve import resolve
from tests.app.completed_requests import CARD, problems, refusals, warnings
from tests.support.sample_requests import data_uri, drawing, encoded, good_request, good_subject, picture_uri
from tests.support.sent_pictures import DATA

BLANK = data_uri((DATA / "blank-canvas.png").read_bytes())
CLEAR = Image.new("RGBA", (8, 8), (200, 30, 30, 0))
BLACK = ModelCard.from_dict(CARD.to_dict() | {"reference": CARD.to_dict()["reference"] | {"background": [0, 0, 0]}})


def icon(colour: str, ground: str | None = None) -> Image.Image:
    """A square of this colour on transparency, or on a ground."""
    picture = Image.new("RGBA", (9, 9), (255, 0, 0, 0)) if ground is None else Image.new("RGBA", (9, 9), ground)
    picture.paste(colour, (3, 3, 6, 6))
    return picture


@pytest.mark.parametrize(
    "picture", [CLEAR, CLEAR.convert("LA"), CLEAR.quantize(4)], ids=["colours", "greys", "palette"]
)
def test_a_fully_transparent_reference_is_refused(picture: Image.Image) -> None:
    for reference in (picture_uri(picture), picture_uri(picture, "WEBP", lossless=True), BLANK):
        (refusal,) = refusals(good_request(subjects=[good_subject(image=reference)]))
        assert (refusal.pointer, refusal.code) == ("/subjects/0/image", "invalid_picture")
        assert refusal.detail.startswith("The picture is fully transparent; send one")
    with pytest.raises(PictureError, match="fully transparent") as caught:
        Subject("cat", picture, Box(0.0, 0.0, 0.5, 1.0))
    assert caught.value.pointer == "/image"


def test_the_transparent_one_of_several_is_named() -> None:
    several = good_subject(images=[picture_uri(drawing("teal")), picture_uri(CLEAR)])
    del several["image"]
    assert problems(good_request(subjects=[several])) == {"/subjects/0/images/1": "invalid_picture"}
    with pytest.raises(PictureError, match="fully transparent") as caught:
        Subject("cat", (drawing("teal"), CLEAR))
    assert caught.value.pointer.endswith("/1")


def test_no_other_picture_may_be_fully_transparent_either() -> None:
    uri = picture_uri(CLEAR.resize((256, 128)))
    request = good_request(start={"image": uri}, controls=[{"name": "canny", "image": uri}])
    assert problems(request) == {"/start/image": "invalid_picture", "/controls/0/image": "invalid_picture"}
    for make in (StartPicture, lambda picture: Control("canny", picture)):
        with pytest.raises(PictureError, match="fully transparent"):
            make(CLEAR)


def test_a_picture_without_pixels_is_refused() -> None:
    for mode in ("RGB", "RGBA", "L"):
        with pytest.raises(PictureError, match="no pixels"):
            Subject("cat", Image.new(mode, (0, 5)))


ONE_COLOUR: dict[str, Callable[[], Image.Image]] = {
    "white": lambda: Image.new("RGB", (30, 20), "white"),
    "grey": lambda: Image.new("L", (1, 1), 100),
    "16 bits": lambda: Image.new("I;16", (9, 9), 30000),
    "one bit": lambda: Image.new("1", (9, 9), 1),
    "half transparent": lambda: Image.new("RGBA", (9, 9), (200, 0, 0, 128)),
    "compressed": lambda: Image.open(jpeg_of(Image.new("RGB", (50, 50), (201, 57, 13)))),
}


def jpeg_of(picture: Image.Image) -> Any:
    import io

    return io.BytesIO(encoded(picture, "JPEG", quality=60))


def python_warnings(picture: Image.Image, card: ModelCard | None = CARD) -> dict[str, str]:
    spec = GenerationSpec("a cat", (Subject("cat", picture, Box(0.0, 0.0, 0.5, 1.0)),))
    return {warning.pointer: warning.code for warning in resolve(spec, card).warnings}


@pytest.mark.parametrize("kind", ONE_COLOUR)
def test_a_reference_of_one_colour_has_a_warning(kind: str) -> None:
    picture = ONE_COLOUR[kind]()
    expected = {"/subjects/0/image": "one_colour"}
    assert warnings(good_request(subjects=[good_subject(image=picture_uri(picture))])) == expected
    assert python_warnings(picture) == expected


@pytest.mark.parametrize(
    "picture",
    [drawing("orange"), icon("red"), icon("red", "white"), icon("#f8f8f8", "white"), Image.effect_noise((9, 9), 30)],
    ids=["drawing", "icon", "icon on white", "faint", "noise"],
)
def test_other_references_have_none(picture: Image.Image) -> None:
    assert warnings(good_request(subjects=[good_subject(image=picture_uri(picture))])) == {}
    assert python_warnings(picture) == {}


@pytest.mark.parametrize(
    ("colour", "card", "is_blank"),
    [
        ("white", CARD, True),
        ("black", CARD, False),
        ("white", BLACK, False),
        ("black", BLACK, True),
        ("white", None, False),
    ],
)
def test_an_icon_in_the_colour_of_the_models_background_is_blank(
    colour: str, card: ModelCard | None, is_blank: bool
) -> None:
    assert CARD.reference.background == (255, 255, 255)
    expected = {"/subjects/0/image": "one_colour"} if is_blank else {}
    assert python_warnings(icon(colour), card) == expected


def test_a_small_mark_in_a_large_picture_is_seen() -> None:
    """It lies between the pixels that are looked at first."""
    large = Image.new("RGB", (640, 640), "white")
    large.paste("red", (3, 3, 5, 5))
    assert python_warnings(large) == {}
