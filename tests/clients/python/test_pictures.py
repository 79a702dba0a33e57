"""Pictures are sent as they are, whatever form the caller has them in."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from msd_client import PictureError
from msd_client.jobs import Asset
from msd_client.pictures import PictureFile, read_picture
from tests.support.sample_requests import encoded

RED = Image.new("RGB", (4, 2), "red")


def decoded(picture: PictureFile | str) -> Image.Image:
    assert isinstance(picture, PictureFile)
    assert picture.media_type == "image/png"
    return Image.open(io.BytesIO(picture.content))


@pytest.mark.parametrize("of", [str, Path])
def test_a_file_is_sent_as_it_is(tmp_path: Path, of: type) -> None:
    (tmp_path / "cat.jpeg").write_bytes(b"any bytes")
    assert read_picture(of(tmp_path / "cat.jpeg")) == PictureFile(b"any bytes", "image/jpeg")


@pytest.mark.parametrize(("kind", "media_type"), [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "image/webp")])
def test_the_type_of_bytes_is_seen(tmp_path: Path, kind: str, media_type: str) -> None:
    content = encoded(RED, kind)
    (tmp_path / "without-ending").write_bytes(content)
    assert read_picture(content) == read_picture(tmp_path / "without-ending") == PictureFile(content, media_type)


def test_other_bytes_are_left_to_the_service() -> None:
    assert read_picture(b"?") == PictureFile(b"?", "application/octet-stream")


@pytest.mark.parametrize("text", ["data:image/png;base64,AAAA", "asset:abc", f"sha256:{'a' * 64}"])
def test_what_the_service_knows_is_sent_as_it_is(text: str) -> None:
    assert read_picture(text) == text


def test_an_asset_stands_for_itself() -> None:
    assert read_picture(Asset("abc", "0", 1, 1, False, None)) == "asset:abc"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "F", "I"])
def test_a_picture_of_any_mode_is_sent_as_png(mode: str) -> None:
    picture = decoded(read_picture(Image.new(mode, (4, 2))))
    assert picture.size == (4, 2)


def test_a_picture_keeps_its_profile_and_its_turn() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = Image.open(io.BytesIO(encoded(RED, "JPEG", exif=exif, icc_profile=b"a profile")))
    sent = decoded(read_picture(photo))
    assert sent.size == (2, 4)
    assert sent.info["icc_profile"] == b"a profile"
    assert photo.size == (4, 2)


def test_an_array_is_a_picture() -> None:
    pixels = np.zeros((2, 4, 3), np.uint8)
    pixels[..., 0] = 255
    assert decoded(read_picture(pixels)).getpixel((3, 1)) == (255, 0, 0)


@pytest.mark.parametrize("value", [None, 5, {"a": 1}, np.zeros((2, 4, 3))])
def test_what_is_no_picture_is_told(value: object) -> None:
    with pytest.raises(PictureError, match="not a picture that can be sent"):
        read_picture(value)  # pyright: ignore[reportArgumentType]


def test_a_file_that_is_missing_is_told() -> None:
    with pytest.raises(PictureError, match=r"^Cannot read the picture dog\.png: No such file or directory\.$"):
        read_picture("dog.png")


def test_an_https_address_is_left_to_the_service() -> None:
    assert read_picture("https://example.com/dog.png") == "https://example.com/dog.png"


@pytest.mark.parametrize("source", [Path("https://example.com/dog.png"), "http://example.com/dog.png"])
def test_another_address_is_told_that_it_is_not_fetched(source: str | Path) -> None:
    with pytest.raises(
        PictureError, match=r"^https?://example\.com/dog\.png: addresses are not fetched; save the picture"
    ):
        read_picture(source)
