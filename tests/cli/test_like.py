"""``msd generate --like``: the request of a recipe, with the pictures that are handed in again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from cli.generate import _paths, _set_format
from cli.like import request_like
from cli.request_options import CommandError
from msd_client import Asset, Client, Inspection

NAMES = {name: f"sha256:{name * 64}" for name in "abcdef"}
RECIPE: dict[str, Any] = {
    "prompt": "a cat",
    "subjects": [
        {"phrase": "cat", "image": NAMES["a"], "mask": NAMES["b"], "box": [0, 0, 1, 1]},
        {"phrase": "dog", "images": [NAMES["c"], NAMES["d"]], "box": [0, 0, 1, 1]},
    ],
    "controls": [{"name": "canny", "image": NAMES["e"]}],
    "start": {"image": NAMES["f"]},
    "seed": 7,
}


class PlayedClient:
    """Keeps the uploaded files, whose SHA-256 is the first letter of their names, 64 times."""

    def __init__(self, *gone: str, detail: str | None = None) -> None:
        self._missing = set(gone)
        self._detail = detail

    def upload(self, path: Path) -> Asset:
        letter = path.name[0]
        self._missing.discard(letter)
        return Asset(letter * 32, letter * 64, 8, 8, False, None)

    def inspect(self, path: Path) -> Inspection:
        recipe = RECIPE if self._detail is None else None
        return Inspection(recipe, tuple(letter * 64 for letter in sorted(self._missing)), self._detail)


def like(*pictures: str, gone: str = "", detail: str | None = None) -> dict[str, Any]:
    return request_like(cast("Client", PlayedClient(*gone, detail=detail)), Path("out.png"), pictures)


def test_a_recipe_whose_pictures_are_there_is_the_request() -> None:
    assert like() == RECIPE


def test_a_picture_without_a_recipe_is_told() -> None:
    with pytest.raises(CommandError, match=r"out\.png: The picture holds no recipe"):
        like(detail="The picture holds no recipe.")


def test_pictures_that_are_gone_are_named_by_their_places() -> None:
    with pytest.raises(CommandError) as caught:
        like(gone="abdef")
    places = "the picture of subject 0, the mask of subject 0, picture 1 of subject 1, the picture of control 0, the start picture"
    assert places in str(caught.value)


@pytest.mark.parametrize("pictures", [("a.png", "d.jpg"), ("0=a.png", "1=d.jpg"), ("1=d.jpg", "0=a.png", "1=c.png")])
def test_pictures_that_are_handed_in_again_are_known_by_what_they_show(pictures: tuple[str, ...]) -> None:
    assert like(*pictures, gone="ad") == RECIPE


def test_another_picture_takes_the_place_of_a_subjects_own() -> None:
    asset = f"asset:{'x' * 32}"
    changed = like("0=x.png", gone="a")
    assert changed["subjects"] == [
        {"phrase": "cat", "images": [asset], "mask": NAMES["b"], "box": [0, 0, 1, 1]},
        RECIPE["subjects"][1],
    ]
    assert like("1=x.png", "1=c.png")["subjects"][1]["images"] == [asset, f"asset:{'c' * 32}"]
    assert RECIPE["subjects"][0]["image"] == NAMES["a"]


def test_another_picture_without_a_place_replaces_none() -> None:
    assert like("x.png") == RECIPE
    with pytest.raises(CommandError, match="the picture of subject 0"):
        like("x.png", gone="a")


def test_a_subject_that_the_recipe_lacks_is_told() -> None:
    with pytest.raises(CommandError, match="the recipe has 2 subjects, counted from 0"):
        like("2=x.png")


@pytest.mark.parametrize(
    ("recipe", "option", "out", "expected"),
    [
        ({}, None, None, {}),
        ({}, None, "o.png", {}),
        ({}, None, "o.webp", {"output_format": "webp"}),
        ({}, "jpeg", "o.webp", {"output_format": "jpeg"}),
        ({"output_format": "webp", "quality": 80}, None, None, {"output_format": "webp", "quality": 80}),
        ({"output_format": "webp", "quality": 80}, None, "o.JPG", {"output_format": "jpeg", "quality": 80}),
        ({"output_format": "webp", "quality": 80}, None, "o.png", {"output_format": "png"}),
        ({"output_format": "webp", "quality": 80}, None, "o", {"output_format": "webp", "quality": 80}),
    ],
)
def test_the_format_is_that_of_the_recipe_unless_options_change_it(
    recipe: dict[str, Any], option: str | None, out: str | None, expected: dict[str, Any]
) -> None:
    request = dict(recipe)
    _set_format(request, option, None if out is None else Path(out))
    assert request == expected


def test_without_a_name_the_file_has_the_ending_of_its_format() -> None:
    name: Callable[..., list[Path]] = _paths
    assert [name(None, 1, kind)[0].name for kind in ("png", "webp", "jpeg")] == ["out.png", "out.webp", "out.jpg"]
    assert [path.name for path in name(None, 2, "webp")] == ["out-0.webp", "out-1.webp"]
