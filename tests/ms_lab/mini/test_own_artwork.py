"""A user's own pictures as sprites: names, cut-outs, what is refused and why, and what is held out."""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from ms_core.errors import InvalidInputError, ModelNotFoundError
from ms_lab.mini.own_artwork import (
    MIN_HELD_OUT,
    MIN_PICTURES,
    UnfitPictureError,
    collect_artwork,
    held_out_indexes,
    phrase_of_path,
    read_folder,
    read_picture,
)
from ms_lab.mini.sprites import Sprite, SpritePack
from ms_lab.training.mini import load_artwork
from tests.support.paths import ASSETS

THINGS = ("teapot", "cat", "lamp", "boot", "kettle", "drum", "pear", "anchor", "violin", "snail", "tractor", "glove")


def cutout(number: int, side: int = 64) -> Image.Image:
    """A coloured disc on clear surroundings; no two numbers give the same picture."""
    picture = Image.new("RGBA", (side, side))
    colour = tuple(round(255 * part) for part in colorsys.hsv_to_rgb(number / 64, 0.8, 0.9))
    ImageDraw.Draw(picture).ellipse((4, 4, side - 5, side - 5), fill=(*colour, 255))
    return picture


def photograph(side: int = 160) -> Image.Image:
    """A red disc in the middle of a bright wall with a little noise; opaque."""
    noise = np.random.default_rng(0).integers(0, 12, (side, side, 3), dtype=np.uint8)
    picture = Image.fromarray(np.full((side, side, 3), 220, np.uint8) + noise)
    ImageDraw.Draw(picture).ellipse((side // 4, side // 4, 3 * side // 4, 3 * side // 4), fill=(190, 20, 30))
    return picture


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve cut-outs, each of another thing."""
    directory = tmp_path / "things"
    directory.mkdir()
    for number, thing in enumerate(THINGS):
        cutout(number).save(directory / f"{thing}.png")
    return directory


@pytest.mark.parametrize(
    ("path", "phrase"),
    [
        ("teapot.png", "teapot"),
        ("red-teapot.png", "teapot"),  # colours are turned, so they are no part of the name
        ("orange.png", "orange"),  # nothing else would be left
        ("Alarm_Clock 02.JPG", "alarm clock"),
        ("teapot(3).webp", "teapot"),
        ("measuringTape4.webp", "measuring tape"),
        ("tea pot copy.png", "tea pot copy"),
        ("r2d2.png", "r2d2"),
        ("théière.png", "théière"),
        ("teapot/IMG_0001.jpg", "teapot"),
        ("photos/teapot.jpg", "teapot"),
        ("kitchen/wooden-spoon/7.png", "wooden spoon"),
    ],
)
def test_the_name_is_the_phrase(path: str, phrase: str) -> None:
    assert phrase_of_path(Path(path)) == phrase


@pytest.mark.parametrize(
    "path", ["IMG_0001.jpg", "1.png", "photos/1.png", "Screenshot 2026-01-01.png", f"{'a' * 41}.png"]
)
def test_a_name_that_tells_nothing_or_too_much_is_refused(path: str) -> None:
    with pytest.raises(UnfitPictureError):
        phrase_of_path(Path(path))


@given(st.text(max_size=60).filter(lambda name: "/" not in name and "\0" not in name))
def test_every_phrase_can_stand_in_a_caption(name: str) -> None:
    try:
        phrase = phrase_of_path(Path(f"{name}.png"))
    except UnfitPictureError:
        return
    assert phrase
    assert phrase == " ".join(phrase.split())
    assert len(phrase) <= 40


def test_transparent_pictures_are_taken_as_they_are(folder: Path) -> None:
    drawn = cutout(0)
    sprite = read_picture(folder / "teapot.png", 96)
    assert sprite.size == (96, 96)
    middle = sprite.getpixel((48, 48))
    assert middle == drawn.getpixel((32, 32))
    assert sprite.getchannel("A").getbbox() == (0, 0, 96, 96)  # cut to its opaque part


def test_the_subject_is_cut_out_of_an_opaque_picture(tmp_path: Path) -> None:
    photograph().save(tmp_path / "ball.jpg", quality=95)
    sprite = read_picture(tmp_path / "ball.jpg", 96)
    alpha = np.asarray(sprite.getchannel("A"))
    assert alpha[48, 48] == 255
    assert alpha[0, 0] == 0  # the wall is gone
    assert 0.7 < (alpha > 128).mean() < 0.85  # a disc fills pi / 4 of its square


def test_a_picture_turned_by_its_camera_stands_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter to the right
    wide = photograph()
    ImageDraw.Draw(wide).rectangle((76, 20, 84, 80), fill=(20, 30, 190))  # a blue stalk above the disc
    wide.rotate(90).save(tmp_path / "cherry.jpg", quality=95, exif=exif)
    sprite = read_picture(tmp_path / "cherry.jpg", 96)
    red, _, blue, alpha = (int(value) for value in sprite.getpixel((48, 6)))  # pyright: ignore[reportGeneralTypeIssues]
    assert alpha > 200
    assert blue > 2 * red


def _too_small(path: Path) -> None:
    cutout(0, side=20).save(path)


def _broken(path: Path) -> None:
    cutout(0, side=200).save(path)
    path.write_bytes(path.read_bytes()[:300])


def _no_subject(path: Path) -> None:
    Image.effect_noise((128, 128), 80).convert("RGB").save(path)


def _text(path: Path) -> None:
    path.write_text("not a picture")


@pytest.mark.parametrize(
    ("suffix", "write", "words"),
    [
        (".png", _too_small, "too small"),
        (".png", _broken, "cannot be read"),
        (".webp", _text, "cannot be read"),
        (".png", _no_subject, "stands out"),
        (".gif", _text, "save it as PNG"),
    ],
)
def test_what_is_wrong_with_a_picture_is_said(
    folder: Path, suffix: str, write: Callable[[Path], None], words: str
) -> None:
    write(folder / f"broom{suffix}")
    own = read_folder(folder)
    assert len(own.training) + len(own.held_out) == len(THINGS)
    (sentence,) = own.left_out
    assert sentence.startswith(f"broom{suffix} ")
    assert words in sentence


def test_svg_drawings_are_rendered(folder: Path) -> None:
    pytest.importorskip("resvg_py")
    svg = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><circle cx="4" cy="4" r="3" fill="#c33"/></svg>'
    (folder / "ring.svg").write_text(svg)
    (folder / "nothing.svg").write_text(svg.replace("circle", "unheard"))
    (folder / "letter.svg").write_text("no drawing")
    assert read_picture(folder / "ring.svg", 96).getpixel((48, 48)) == (204, 51, 51, 255)
    assert [sentence.split()[0] for sentence in read_folder(folder).left_out] == ["letter.svg", "nothing.svg"]


def test_the_same_file_twice_cannot_be_both_trained_on_and_held_out(folder: Path) -> None:
    (folder / "copies").mkdir()
    for path in sorted(folder.glob("*.png")):
        (folder / "copies" / path.name).write_bytes(path.read_bytes())
    own = read_folder(folder)
    assert len(own.left_out) == len(THINGS)
    assert not {s.sha256 for s in own.training.sprites} & {s.sha256 for s in own.held_out.sprites}


def test_hidden_files_and_texts_are_passed_over(folder: Path) -> None:
    (folder / ".thumbnails").mkdir()
    cutout(63).save(folder / ".thumbnails" / "teapot.png")
    (folder / "licence.txt").write_text("mine")
    own = read_folder(folder)
    assert not own.left_out
    assert len(own.training) + len(own.held_out) == len(THINGS)


def test_too_few_pictures_are_refused_with_all_that_is_wrong(folder: Path) -> None:
    for thing in THINGS[2:]:
        _broken(folder / f"{thing}.png")
    with pytest.raises(InvalidInputError) as caught:
        read_folder(folder)
    assert "has 2 pictures that can be used" in caught.value.detail
    assert all(thing in caught.value.detail for thing in THINGS[2:])


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="no folder"):
        read_folder(tmp_path / "nowhere")


def _pack(names: list[str]) -> SpritePack:
    sprites = [
        Sprite("own", f"{number}.png", f"own:{name}", name, f"{number:064x}", "CC0-1.0")
        for number, name in enumerate(names)
    ]
    return SpritePack(sprites, [Image.new("RGBA", (1, 1))] * len(names))


@given(st.integers(MIN_PICTURES, 120), st.integers(1, 5), st.randoms())
def test_whole_things_are_held_out_and_always_the_same(things: int, each: int, random: object) -> None:
    names = [f"thing {number}" for number in range(things)] * each
    pack = _pack(names)
    held_out = held_out_indexes(pack)
    unseen = {names[index] for index in held_out}
    assert len(unseen) == max(MIN_HELD_OUT, round(things / 10))
    assert not unseen & {name for index, name in enumerate(names) if index not in held_out}
    random.shuffle(names)  # type: ignore[attr-defined]
    again = _pack(names)
    assert {again.sprites[index].phrase for index in held_out_indexes(again)} == unseen


def test_of_few_things_pictures_are_held_out() -> None:
    pack = _pack([f"thing {number % 3}" for number in range(60)])
    held_out = held_out_indexes(pack)
    assert len(held_out) == 6
    assert {pack.sprites[index].concept for index in range(60) if index not in held_out} == set(pack.by_concept)


def test_the_run_keeps_its_sprites(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    training, held_out = load_artwork(run, [folder], ASSETS, smoke=False)
    assert len(held_out) == MIN_HELD_OUT
    assert len(training) == len(THINGS) - MIN_HELD_OUT
    with Image.open(run / "artwork.png") as sheet:
        seen = {colour for _, colour in sheet.getcolors(maxcolors=1 << 16) or []}
    for pack in (training, held_out):
        assert {picture.getpixel((48, 48))[:3] for picture in pack.pictures} <= seen  # pyright: ignore
    again = load_artwork(run, (), ASSETS, smoke=False)
    assert [pack.sprites for pack in again] == [training.sprites, held_out.sprites]


def test_several_folders_are_joined(folder: Path, tmp_path: Path) -> None:
    more = tmp_path / "more"
    more.mkdir()
    for number in range(10):
        cutout(30 + number).save(more / f"{'abcdefghij'[number]}-thing.png")
    training, held_out = collect_artwork([folder, more])
    assert held_out is not None
    assert len(training) == len(THINGS) + 10 - 2 * MIN_HELD_OUT
    assert len(held_out) == 2 * MIN_HELD_OUT


def test_half_of_the_packages_is_not_taken_for_own_pictures(tmp_path: Path) -> None:
    package = tmp_path / "node_modules" / "@iconify-json" / "noto"
    package.mkdir(parents=True)
    for name in ("icons", "info", "metadata"):
        (package / f"{name}.json").write_text('{"icons": {}, "license": {"spdx": "MIT"}}')
    with pytest.raises(ModelNotFoundError, match="Iconify"):
        collect_artwork([tmp_path])
