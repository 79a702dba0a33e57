"""Cutting the subject out: whose mask is taken, the crop, and that a picture without a subject is kept whole."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from ms_core.conditions import cutout
from ms_core.conditions.cutout import cut_out

pytestmark = pytest.mark.usefixtures("without_rembg")

GROUND = (120, 150, 90)
DISC = (50, 60, 150, 140)


def disc(mode: str = "RGB", ground: tuple[int, ...] = GROUND) -> Image.Image:
    """A red disc of 101 x 81 pixels on 200 x 200."""
    picture = Image.new("RGB" if len(ground) == 3 else "RGBA", (200, 200), ground)
    ImageDraw.Draw(picture).ellipse(DISC, fill=(190, 40, 60))
    return picture.convert(mode)


@pytest.fixture
def install_rembg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts a package ``rembg`` with the interface of version 2.0.86 on the path; its model masks the left half."""

    def install(predict: str = "self.half(picture)", downloaded: str = "u2net.onnx", at_import: str = "pass") -> None:
        package = tmp_path / "rembg"
        package.mkdir()
        (package / "sessions.py").write_text(f"""
from PIL import Image

class Session:
    @classmethod
    def resolve_existing(cls, name):
        return name if name == {downloaded!r} else None
    def half(self, picture):
        mask = Image.new("L", picture.size, 0)
        mask.paste(255, (0, 0, picture.width // 2, picture.height))
        return [mask]
    def predict(self, picture):
        assert picture.mode == "RGB"
        return {predict}

sessions = {{"u2net": Session, "u2netp": Session}}
""")
        (package / "__init__.py").write_text(f"""
{at_import}
from rembg.sessions import sessions

def new_session(name):
    assert name + ".onnx" == {downloaded!r}
    return sessions[name]()
""")
        monkeypatch.delitem(sys.modules, "rembg")
        monkeypatch.syspath_prepend(str(tmp_path))
        cutout._rembg_session.cache_clear()
        for name in ("rembg", "rembg.sessions"):
            # Whatever the import adds goes when the test ends.
            monkeypatch.setitem(sys.modules, name, None)
            monkeypatch.delitem(sys.modules, name)

    return install


def test_its_own_transparency_is_taken() -> None:
    found = cut_out(disc("RGBA", (*GROUND, 0)))
    assert (found.method, found.found) == ("alpha", True)
    assert found.image.getchannel("A").histogram()[255] == disc("RGBA", (*GROUND, 0)).getchannel("A").histogram()[255]


def test_a_transparent_palette_colour_is_transparency() -> None:
    picture = Image.new("P", (60, 60), 0)
    picture.putpalette([0, 0, 0, 190, 40, 60])
    picture.paste(1, (20, 20, 40, 40))
    picture.info["transparency"] = 0
    assert cut_out(picture).method == "alpha"


def test_an_alpha_channel_that_hides_nothing_is_no_answer() -> None:
    found = cut_out(disc("RGBA"))
    assert (found.method, found.found) == ("grabcut", True)
    assert found.image.getpixel((0, 0))[3] == 0


def test_rounded_corners_are_no_answer() -> None:
    picture = disc("RGBA")
    corners = Image.new("L", picture.size, 0)
    ImageDraw.Draw(corners).rounded_rectangle((0, 0, 199, 199), 20, fill=255)
    picture.putalpha(corners)
    assert cut_out(picture).method == "grabcut"


def test_the_crop_is_the_subject_and_its_margin() -> None:
    found = cut_out(disc("RGBA", (*GROUND, 0)))
    assert found.image.size == (101 + 2 * 5, 81 + 2 * 5)
    assert found.image.getchannel("A").getbbox() == (5, 5, 5 + 101, 5 + 81)


def test_grabcut_crops_to_the_same() -> None:
    width, height = cut_out(disc()).image.size
    assert abs(width - 111) <= 4
    assert abs(height - 91) <= 4


def test_beyond_the_picture_the_margin_is_clear() -> None:
    picture = Image.new("RGBA", (100, 100), (0, 0, 0, 0))
    picture.paste((190, 40, 60, 255), (30, 60, 70, 100))
    found = cut_out(picture)
    assert found.image.size == (44, 44)
    assert found.image.getpixel((20, 43)) == (0, 0, 0, 0)


def test_an_exif_turn_is_obeyed() -> None:
    picture = disc("RGBA", (*GROUND, 0))
    stored = picture.transpose(Image.Transpose.ROTATE_90)
    stored.getexif()[0x0112] = 6
    found = cut_out(stored).image
    assert (found.size, found.tobytes()) == (cut_out(picture).image.size, cut_out(picture).image.tobytes())
    assert found.getexif().get(0x0112) is None


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "YCbCr", "LA"])
def test_every_mode_is_cut(mode: str) -> None:
    found = cut_out(disc(mode))
    assert (found.method, found.found, found.image.mode) == ("grabcut", True, "RGBA")


def test_sixteen_bit_greys_are_cut() -> None:
    greys = np.asarray(disc("L")).astype(np.uint16) * 257
    assert cut_out(Image.fromarray(greys)).image.tobytes() == cut_out(disc("L")).image.tobytes()


@pytest.mark.parametrize(
    "picture",
    [
        Image.new("RGB", (80, 60), GROUND),
        Image.new("RGB", (1, 1), "red"),
        Image.new("RGBA", (80, 60), (*GROUND, 0)),
        Image.new("RGBA", (80, 60), (*GROUND, 100)),
    ],
    ids=["uniform", "one pixel", "all clear", "all half clear"],
)
def test_without_a_subject_all_of_the_picture_is_kept(picture: Image.Image) -> None:
    found = cut_out(picture)
    assert (found.found, found.method) == (False, "grabcut")
    assert (found.image.size, found.image.tobytes()) == (picture.size, picture.convert("RGBA").tobytes())


def test_the_picture_itself_is_left_alone() -> None:
    picture = disc("RGBA")
    before = picture.tobytes()
    cut_out(picture)
    assert picture.tobytes() == before


def test_rembg_is_asked_if_it_is_there(install_rembg) -> None:
    install_rembg()
    found = cut_out(disc())
    assert (found.method, found.found) == ("rembg", True)
    assert found.image.getchannel("A").getbbox() == (10, 10, 110, 210)


def test_transparency_comes_before_rembg(install_rembg) -> None:
    install_rembg()
    assert cut_out(disc("RGBA", (*GROUND, 0))).method == "alpha"


@pytest.mark.parametrize(
    ("flaw", "words"),
    [
        ({"predict": "1 / 0"}, "ZeroDivisionError"),
        ({"predict": "[]"}, "IndexError"),
        ({"at_import": "raise ImportError('no runtime')"}, "no runtime"),
        ({"at_import": "raise SystemExit(1)"}, "SystemExit"),
        ({"downloaded": "other.onnx"}, "rembg has none of the models"),
    ],
)
def test_without_rembg_grabcut_cuts_and_the_log_says_why(install_rembg, caplog, flaw, words: str) -> None:
    install_rembg(**flaw)
    with caplog.at_level(logging.WARNING):
        found = cut_out(disc())
    assert (found.method, found.found) == ("grabcut", True)
    assert words in caplog.text
    assert "GrabCut" in caplog.text


@pytest.mark.parametrize(
    "mask", ["Image.new('L', picture.size)", "Image.new('L', picture.size, 255)", "Image.new('L', (3, 3), 255)"]
)
def test_a_mask_that_says_nothing_is_not_taken(install_rembg, mask: str) -> None:
    install_rembg(predict=f"[{mask}]")
    assert cut_out(disc()).method == "grabcut"
