"""``msd demo``: the picture it draws, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, ImageChops

from cli.demo_picture import COLOURS, PANEL, DrawnSubject, draw_demo
from ms_lab.mini.sprites import SpritePack
from tests.support.demo_page import panel
from tests.support.paths import ROOT
from tests.support.service_processes import run_msd

REFERENCES = ROOT / "assets" / "demo"
BOX = "@0.05,0.35,0.47,0.8"


def colours_of(picture: Image.Image) -> set[tuple[int, ...]]:
    counted = picture.getcolors(maxcolors=PANEL * PANEL)
    assert counted is not None
    return {colour for _, colour in counted}


@pytest.mark.parametrize("name", ["tomato", "leafy-green"])
def test_the_bundled_references_are_artwork_that_is_never_trained_on(name: str) -> None:
    pack = SpritePack.load(ROOT / "assets" / "heldout-sprites.zip")
    (number,) = (i for i, sprite in enumerate(pack.sprites) if (sprite.artist, sprite.name) == ("openmoji", name))
    with Image.open(REFERENCES / f"{name}.png") as reference:
        assert reference.crop((16, 16, 112, 112)).tobytes() == pack.pictures[number].tobytes()


def test_the_result_is_shown_as_it_is() -> None:
    result = Image.effect_mandelbrot((PANEL, PANEL), (-2.0, -1.5, 1.0, 1.5), 40).convert("RGB")
    page = draw_demo("a cat", [DrawnSubject("cat", Image.new("RGB", (8, 8)), (0, 0, 1, 1))], result)
    assert ImageChops.difference(panel(page, 2), result).getbbox() is None


@pytest.mark.parametrize("count", range(1, len(COLOURS) + 1))
def test_every_reference_is_shown(count: int) -> None:
    fills = [(10 * number, 200, 90) for number in range(count)]
    subjects = [DrawnSubject("cat", Image.new("RGB", (8, 12), fill), (0.1, 0.1, 0.5, 0.5)) for fill in fills]
    page = draw_demo("cats", subjects, Image.new("RGB", (16, 16)))
    assert set(fills) <= colours_of(panel(page, 0))


def test_boxes_stand_where_they_are_in_the_result() -> None:
    subject = DrawnSubject("", Image.new("RGB", (8, 8)), (0.25, 0.5, 0.75, 1.0))
    boxes = panel(draw_demo("a cat", [subject], Image.new("RGB", (64, 32))), 1)
    coloured = boxes.convert("HSV").getchannel("S").point(lambda level: 255 if level > 100 else 0)
    # The result is twice as wide as high: its picture fills the panel's width and the middle half of its height.
    left, top, right, bottom = coloured.getbbox() or (0, 0, 0, 0)
    expected = (PANEL * 0.25, PANEL * 0.5, PANEL * 0.75, PANEL * 0.75)
    assert (left, top, right, bottom) == pytest.approx(expected, abs=1)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--subject", f"tomato={REFERENCES / 'tomato.png'}"), "give each subject both, such as"),
        (("--subject", f"fox=nothing.png{BOX}"), "Cannot read the picture nothing.png: No such file or directory."),
        (("--subject", "fox"), "Cannot read the subject 'fox'"),
        (("--out", "no/such/folder/demo.png"), "there is no folder no/such/folder"),
        (("--out", REFERENCES / "tomato.png"), "tomato.png is there already; choose another name"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_starts(
    options: tuple[str, ...], sentence: str, tmp_path: Path
) -> None:
    # Where make demo has left a demo.png, that comes first.
    finished = run_msd("demo", "--out", tmp_path / "demo.png", *options)
    assert (finished.returncode, finished.stdout) == (1, "")
    assert finished.stderr.startswith("msd: ")
    assert sentence in finished.stderr


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    finished = run_msd("demo", "--out", tmp_path / "demo.png", "--model", "nothing")
    assert finished.returncode == 1
    assert finished.stderr.startswith("msd: The service stopped while starting. There is no model 'nothing'.")
