"""What becomes of a reference picture: which are taken, how they are cleaned, which are refused before decoding."""

from __future__ import annotations

import io
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin

from app.requests.decoding import PictureLimits, png_from_data_uri
from ms_core.errors import InvalidInputError, PictureError, PictureTooLargeError
from tests.support.sample_requests import data_uri, decoded, encoded, picture_uri, png_with_header

# Pillow talks about damaged metadata; the service goes on.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

LIMITS = PictureLimits()


def read(uri: str, limits: PictureLimits = LIMITS) -> Image.Image:
    return decoded(png_from_data_uri(uri, limits))


def two_colours(mode: str = "RGB") -> Image.Image:
    """Red on the left, blue on the right; 16 wide, 8 high."""
    picture = Image.new("RGB", (16, 8), "red")
    picture.paste("blue", (8, 0, 16, 8))
    return picture.convert(mode)


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("JPEG", {"quality": 95}), ("WEBP", {"lossless": True})])
def test_each_format_keeps_its_colours(kind: str, options: dict[str, object]) -> None:
    picture = read(picture_uri(two_colours(), kind, **options))
    assert (picture.mode, picture.size) == ("RGB", (16, 8))
    red, blue = picture.getpixel((2, 4)), picture.getpixel((13, 4))
    assert red[0] > 240
    assert red[2] < 20
    assert blue[2] > 240
    assert blue[0] < 20


def test_exif_turn_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to the right
    picture = read(picture_uri(two_colours(), "JPEG", exif=exif, quality=95))
    assert picture.size == (8, 16)
    top, bottom = picture.getpixel((4, 2)), picture.getpixel((4, 13))
    assert top[0] > 200
    assert bottom[2] > 200


def test_broken_exif_turns_nothing() -> None:
    picture = read(picture_uri(two_colours(), "PNG", exif=b"Exif\x00\x00MM\x00*broken"))
    assert picture.size == (16, 8)


def test_alpha_is_kept() -> None:
    picture = Image.new("RGBA", (4, 4), (10, 20, 30, 0))
    picture.putpixel((1, 1), (200, 100, 50, 128))
    result = read(picture_uri(picture))
    assert result.mode == "RGBA"
    assert result.getpixel((1, 1)) == (200, 100, 50, 128)
    assert result.getpixel((0, 0))[3] == 0


def test_transparent_palette_colour_becomes_alpha() -> None:
    picture = Image.new("P", (4, 4), 0)
    picture.putpalette([255, 0, 0, 0, 255, 0])
    picture.putpixel((2, 2), 1)
    result = read(picture_uri(picture, transparency=0))
    assert result.getpixel((0, 0))[3] == 0
    assert result.getpixel((2, 2)) == (0, 255, 0, 255)


def test_cmyk_becomes_rgb() -> None:
    result = read(picture_uri(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=95))
    red, green, blue = result.getpixel((4, 4))
    assert result.mode == "RGB"
    assert red > 230
    assert max(green, blue) < 40


def test_16_bit_grey_keeps_its_brightness() -> None:
    picture = Image.new("I;16", (2, 1))
    picture.putpixel((0, 0), 100 * 256)
    picture.putpixel((1, 0), 255 * 256)
    result = read(picture_uri(picture))
    assert result.getpixel((0, 0)) == (100, 100, 100)
    assert result.getpixel((1, 0)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA"])
def test_every_mode_becomes_rgb_or_rgba(mode: str) -> None:
    assert read(picture_uri(two_colours(mode))).mode in ("RGB", "RGBA")


def test_one_pixel_is_enough() -> None:
    assert read(picture_uri(Image.new("RGB", (1, 1), "red"))).size == (1, 1)


def test_photo_with_a_preview_inside_is_taken() -> None:
    """A camera's JPEG may hold further frames; it is no animation."""
    content = encoded(two_colours(), "MPO", save_all=True, append_images=[two_colours()])
    assert read(data_uri(content, "image/jpeg")).size == (16, 8)


def test_large_picture_is_reduced_with_its_proportions() -> None:
    limits = PictureLimits(max_side=64)
    assert read(picture_uri(Image.new("RGB", (256, 128), "red")), limits).size == (64, 32)


def test_very_long_picture_keeps_a_pixel() -> None:
    assert read(picture_uri(Image.new("L", (5000, 1))), PictureLimits(max_side=64)).size == (64, 1)


def test_metadata_is_dropped() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Author", "somebody")
    exif = Image.Exif()
    exif[0x010E] = "at home"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    result = read(picture_uri(two_colours(), pnginfo=info, exif=exif, icc_profile=profile, dpi=(72, 72)))
    result.load()
    assert result.info == {}
    assert not result.getexif()


def test_same_picture_gives_the_same_bytes() -> None:
    uri = picture_uri(two_colours(), "JPEG")
    assert png_from_data_uri(uri, LIMITS) == png_from_data_uri(uri, LIMITS)


def test_too_many_pixels_are_refused_by_the_header_alone() -> None:
    """The pixel data are garbage: whoever tried to decode them would find the picture damaged, not too large."""
    with pytest.raises(PictureTooLargeError, match="50000000 pixels"):
        read(data_uri(png_with_header(10_000, 5_001, b"garbage")))


@pytest.mark.parametrize("side", [10_000, 30_000])
def test_bombs_are_refused(side: int) -> None:
    """Pillow itself warns above 89 and refuses above 179 megapixels; both must look the same."""
    with pytest.raises(PictureTooLargeError):
        read(data_uri(png_with_header(side, side, zlib.compress(b"\0" * 1000))))


def test_picture_at_the_limit_is_taken() -> None:
    assert read(picture_uri(Image.new("1", (100, 50))), PictureLimits(max_pixels=5000)).size == (100, 50)


def animated(kind: str) -> bytes:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        pytest.param(b"just some text", "no PNG, JPEG or WebP", id="text"),
        pytest.param(b'<svg xmlns="http://www.w3.org/2000/svg"><rect/></svg>', "no PNG, JPEG or WebP", id="svg"),
        pytest.param(encoded(two_colours(), "GIF"), "no PNG, JPEG or WebP", id="gif"),
        pytest.param(encoded(two_colours(), "BMP"), "no PNG, JPEG or WebP", id="bmp"),
        pytest.param(animated("PNG"), "animated", id="animated png"),
        pytest.param(animated("WEBP"), "animated", id="animated webp"),
        pytest.param(animated("GIF"), "no PNG, JPEG or WebP", id="animated gif"),
        pytest.param(encoded(two_colours())[:60], "damaged", id="truncated png"),
        pytest.param(encoded(Image.effect_noise((64, 64), 90), "JPEG")[:800], "damaged", id="truncated jpeg"),
        pytest.param(encoded(Image.effect_noise((64, 64), 90), "WEBP")[:300], "damaged", id="truncated webp"),
    ],
)
def test_other_content_is_refused(content: bytes, sentence: str) -> None:
    with pytest.raises(PictureError, match=sentence):
        read(data_uri(content))


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "cat.png",
        "https://example.com/cat.png",
        "data:image/png,plain",
        "data:image/png;base64",
        "data:image/png;base64,",
        "data:image/png;base64,not base64!",
        "data:image/png;base64,AAA",
        "data:image/png;base64,AA==AA==",
        "data:image/png;base64,\u00e4\u00f6",
    ],
)
def test_what_is_no_base64_data_uri_is_refused(uri: str) -> None:
    with pytest.raises(PictureError):
        read(uri)


@given(content=st.binary(max_size=200))
def test_any_bytes_are_a_picture_or_a_clean_error(content: bytes) -> None:
    with pytest.raises(InvalidInputError):
        read(data_uri(content))


@given(
    kind=st.sampled_from(["PNG", "JPEG", "WEBP"]),
    place=st.floats(0, 1, exclude_max=True),
    change=st.binary(min_size=1, max_size=8),
)
def test_damaged_pictures_are_a_picture_or_a_clean_error(kind: str, place: float, change: bytes) -> None:
    content = bytearray(encoded(two_colours(), kind))
    start = int(place * len(content))
    content[start : start + len(change)] = change
    try:
        result = read(data_uri(bytes(content)))
    except InvalidInputError:
        return
    assert result.mode in ("RGB", "RGBA")


def test_result_is_a_png() -> None:
    png = png_from_data_uri(picture_uri(two_colours(), "JPEG"), LIMITS)
    assert Image.open(io.BytesIO(png)).format == "PNG"
