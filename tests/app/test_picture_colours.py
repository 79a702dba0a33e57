"""What a picture's numbers mean: colour profiles, gammas, and colours that are transparent."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import pytest
from PIL import Image, ImageCms, PngImagePlugin

from app.requests.decoding import PictureLimits, png_from_data_uri
from ms_core.errors import PictureError
from ms_core.spec import Subject, grey_mask
from ms_core.spec.colour_profiles import SRGB_CHROMATICITY, profile_of, profile_of_code_points
from tests.support.sample_requests import data_uri, decoded, encoded, png_chunk
from tests.support.sent_pictures import DATA, opened, sent

# sRGB (225, 60, 35), and the numbers for it in Display P3.
TOMATO, TOMATO_IN_P3 = (225, 60, 35), (207, 74, 50)
P3_CODE_POINTS = bytes([12, 13, 0, 1])
ADOBE_RGB = (0.3127, 0.329, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
BOTH_DOORS = pytest.mark.parametrize("read", [sent, opened])
Read = Callable[[bytes], Image.Image]


def p3_profile() -> bytes:
    with Image.open(DATA / "photo-p3.jpg") as photo:
        profile = photo.info["icc_profile"]
    assert isinstance(profile, bytes)
    return profile


def plain_picture(mode: str = "RGB", alpha: int = 90) -> Image.Image:
    picture = Image.new("RGB", (16, 16), TOMATO_IN_P3)
    if mode == "RGBA":
        picture.putalpha(alpha)
    return picture


def png(picture: Image.Image, *chunks: tuple[bytes, bytes]) -> bytes:
    info = PngImagePlugin.PngInfo()
    for name, content in chunks:
        info.add(name, content)
    return encoded(picture, pnginfo=info)


def gamma(value: float) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", round(value * 100000))


def chromaticity(values: tuple[float, ...]) -> tuple[bytes, bytes]:
    return b"cHRM", struct.pack(">8I", *(round(value * 100000) for value in values))


def assert_close(seen: tuple[int, ...], wanted: tuple[int, ...], most: int = 3) -> None:
    assert max(abs(a - b) for a, b in zip(seen[:3], wanted, strict=True)) <= most, seen


@BOTH_DOORS
@pytest.mark.parametrize("name", ["photo-p3.jpg", "photo-p3.png"])
def test_a_photo_keeps_its_colours(name: str, read: Read) -> None:
    assert_close(read((DATA / name).read_bytes()).getpixel((128, 128)), TOMATO)


@BOTH_DOORS
@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        ("PNG", "RGB", {}),
        ("PNG", "RGBA", {}),
        ("JPEG", "RGB", {"quality": 100, "subsampling": 0}),
        ("WEBP", "RGB", {"lossless": True}),
        ("WEBP", "RGBA", {"lossless": True}),
    ],
)
def test_a_profile_is_applied_in_every_format(kind: str, mode: str, options: dict[str, object], read: Read) -> None:
    picture = read(encoded(plain_picture(mode), kind, icc_profile=p3_profile(), **options))
    assert_close(picture.getpixel((8, 8)), TOMATO)
    assert picture.mode == mode
    if mode == "RGBA":
        assert picture.getpixel((8, 8))[3] == 90
    assert "icc_profile" not in picture.info


@BOTH_DOORS
def test_a_palette_has_a_profile_too(read: Read) -> None:
    content = encoded(plain_picture().quantize(4), icc_profile=p3_profile())
    assert_close(read(content).getpixel((8, 8)), TOMATO)


@BOTH_DOORS
@pytest.mark.parametrize("mode", ["L", "LA"])
def test_greys_are_read_by_a_profile_of_greys(mode: str, read: Read) -> None:
    """Its curve is linear: half the light is a bright grey."""
    linear = grey_profile()
    picture = read(encoded(Image.new("L", (4, 4), 128).convert(mode), icc_profile=linear))
    assert_close(picture.getpixel((1, 1)), (188, 188, 188))


def grey_profile() -> bytes:
    tags = {b"wtpt": b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061), b"kTRC": b"curv" + bytes(8)}
    place, table, body = 128 + 4 + 24, struct.pack(">I", 2), b""
    for name, content in tags.items():
        table += name + struct.pack(">II", place + len(body), len(content))
        body += content
    size = place + len(body)
    header = struct.pack(">I4sI4s4s4s", size, b"", 0x02400000, b"mntr", b"GRAY", b"XYZ ") + bytes(12) + b"acsp"
    return (header + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)).ljust(128, b"\0") + table + body


@BOTH_DOORS
@pytest.mark.parametrize(
    "profile",
    [b"nonsense", b"", p3_profile()[:200], bytes(128), b"\xff" * 500],
    ids=["nonsense", "nothing", "cut", "zeros", "ones"],
)
def test_a_profile_that_cannot_be_read_does_not_count(profile: bytes, read: Read) -> None:
    assert read(encoded(plain_picture(), icc_profile=profile)).getpixel((8, 8)) == TOMATO_IN_P3


@BOTH_DOORS
@pytest.mark.parametrize(("mode", "profile"), [("RGB", grey_profile()), ("CMYK", p3_profile())], ids=["grey", "RGB"])
def test_a_profile_for_other_numbers_does_not_count(mode: str, profile: bytes, read: Read) -> None:
    picture = plain_picture().convert(mode)
    plain, marked = (encoded(picture, "JPEG", quality=100, **own) for own in ({}, {"icc_profile": profile}))
    assert read(plain).tobytes() == read(marked).tobytes()


def test_printing_colours_are_read_by_their_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no small profile for CMYK; what it is handed to is played."""
    asked: list[tuple[str, str]] = []

    def convert(picture: Image.Image, *_: object, outputMode: str) -> Image.Image:  # noqa: N803
        asked.append((picture.mode, outputMode))
        return Image.new(outputMode, picture.size, "lime")

    monkeypatch.setattr(ImageCms, "profileToProfile", convert)
    monkeypatch.setattr(ImageCms, "ImageCmsProfile", lambda content: content)
    profile = bytearray(p3_profile())
    profile[16:20] = b"CMYK"
    content = encoded(plain_picture().convert("CMYK"), "JPEG", icc_profile=bytes(profile))
    assert sent(content).getpixel((4, 4)) == opened(content).getpixel((4, 4)) == (0, 255, 0)
    assert asked == [("CMYK", "RGB")] * 2


@BOTH_DOORS
def test_a_linear_png_is_brightened(read: Read) -> None:
    content = png(Image.new("RGB", (4, 4), (128, 55, 188)), gamma(1.0))
    assert_close(read(content).getpixel((1, 1)), (188, 128, 222))


@BOTH_DOORS
def test_primaries_of_a_png_count(read: Read) -> None:
    """Adobe RGB by gamma and primaries, beside its known value for this red."""
    content = png(Image.new("RGB", (4, 4), (200, 60, 40)), gamma(1 / 2.2), chromaticity(ADOBE_RGB))
    assert_close(read(content).getpixel((1, 1)), (230, 57, 33), 4)


@BOTH_DOORS
@pytest.mark.parametrize(
    "chunks",
    [
        [gamma(0.45455)],
        [gamma(0.45455), chromaticity(tuple(SRGB_CHROMATICITY))],
        [gamma(1.0), (b"sRGB", b"\0")],
        [chromaticity(ADOBE_RGB)],
        [gamma(1.0), chromaticity((0.0,) * 8)],
        [gamma(0.0)],
    ],
    ids=["sRGB's gamma", "sRGB's primaries", "sRGB", "no gamma", "no such display", "no light"],
)
def test_numbers_in_srgb_stay(chunks: list[tuple[bytes, bytes]], read: Read) -> None:
    assert read(png(plain_picture(), *chunks)).getpixel((8, 8)) == TOMATO_IN_P3


def test_code_points_come_before_a_profile_and_a_gamma() -> None:
    content = png(plain_picture(), (b"cICP", P3_CODE_POINTS), gamma(1.0))
    assert_close(sent(content).getpixel((8, 8)), TOMATO)
    profile = (b"iCCP", b"x\0\0" + zlib.compress(p3_profile()))
    srgb = png(plain_picture(), (b"cICP", bytes([1, 13, 0, 1])), profile)
    assert_close(sent(srgb).getpixel((8, 8)), TOMATO_IN_P3, 1)


@pytest.mark.parametrize("code_points", [(9, 16, 0, 1), (9, 18, 0, 1), (2, 2, 0, 1), (12, 13, 1, 1), (12, 13, 0, 0)])
def test_unknown_code_points_do_not_count(code_points: tuple[int, ...]) -> None:
    assert profile_of_code_points(bytes(code_points)) is None


def test_made_profiles_are_those_of_others() -> None:
    """Display P3 by its code points, beside the profile of a photograph."""
    own = ImageCms.ImageCmsProfile(io.BytesIO(profile_of_code_points(P3_CODE_POINTS) or b"")).profile
    other = ImageCms.ImageCmsProfile(io.BytesIO(p3_profile())).profile
    for name in ("red_colorant", "green_colorant", "blue_colorant"):
        assert getattr(own, name)[0] == pytest.approx(getattr(other, name)[0], abs=0.002)


def test_a_mask_keeps_its_numbers() -> None:
    grey = Image.new("RGB", (4, 4), (128, 128, 128))
    for content in (png(grey, gamma(1.0)), encoded(grey, icc_profile=p3_profile())):
        mask = Subject("cat", Image.new("RGB", (4, 4)), mask=Image.open(io.BytesIO(content))).mask
        assert mask is not None
        assert grey_mask(mask).getpixel((1, 1)) == 128
        stored = decoded(png_from_data_uri(data_uri(content), PictureLimits(), "mask"))
        assert grey_mask(stored).getpixel((1, 1)) == 128


def test_no_picture_without_a_profile_is_copied() -> None:
    picture = plain_picture()
    assert Subject("cat", picture).image is picture
    assert profile_of({"gamma": 0.45455, "dpi": (72, 72)}) is None


def shallow_png(depth: int, transparent: int, values: list[int]) -> bytes:
    """A grey PNG of one row."""
    bits = "".join(f"{value:0{depth}b}" for value in values)
    row = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
    header = struct.pack(">IIBBBBB", len(values), 1, depth, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"tRNS", struct.pack(">H", transparent)), (b"IDAT", zlib.compress(b"\0" + row))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in [*chunks, (b"IEND", b"")])


@BOTH_DOORS
@pytest.mark.parametrize("depth", [1, 2, 8])
def test_small_icons_keep_their_transparency(depth: int, read: Read) -> None:
    icon, deep = (read((DATA / f"grey-{bits}bit-trns.png").read_bytes()) for bits in (depth, 8))
    assert icon.getpixel((0, 0)) == (255, 255, 255, 0)
    assert icon.getchannel("A").tobytes() == deep.getchannel("A").tobytes()


@BOTH_DOORS
@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("which", [0, 1, -1])
def test_a_transparent_grey_of_any_depth_is_transparent(depth: int, which: int, read: Read) -> None:
    most = 2**depth - 1
    values = sorted({0, most // 3, most})
    picture = read(shallow_png(depth, values[which], values))
    alphas = [255] * len(values)
    alphas[which] = 0
    assert list(picture.getchannel("A").tobytes()) == alphas
    assert [picture.getpixel((place, 0))[0] for place in range(len(values))] == [
        round(value * 255 / most) for value in values
    ]


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_what_a_shallow_mask_leaves_transparent_is_black(depth: int) -> None:
    content = shallow_png(depth, 2**depth - 1, [0, 2**depth - 1, 1])
    stored = decoded(png_from_data_uri(data_uri(content), PictureLimits(), "mask"))
    given = grey_mask(Image.open(io.BytesIO(content)))
    assert grey_mask(stored).tobytes() == given.tobytes()
    assert given.tobytes()[:2] == b"\0\0"


@BOTH_DOORS
def test_a_transparent_colour_of_16_bits_is_transparent(read: Read) -> None:
    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    row = struct.pack(">6H", 0x1234, 0x5678, 0x9ABC, 0xFFFF, 0, 0)
    chunks = [(b"IHDR", header), (b"tRNS", row[:6]), (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b"")]
    picture = read(b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks))
    assert [picture.getpixel((place, 0)) for place in (0, 1)] == [(0x12, 0x56, 0x9A, 0), (255, 0, 0, 255)]


@BOTH_DOORS
def test_a_picture_that_cannot_be_converted_is_damaged(read: Read) -> None:
    """Pillow finds out that there is no palette when the pixels are decoded."""
    with pytest.raises(PictureError, match="The picture is damaged or incomplete and cannot be decoded; save it again"):
        read((DATA / "no-palette.png").read_bytes())


@BOTH_DOORS
@pytest.mark.parametrize("error", [AssertionError(), RuntimeError("x"), AttributeError("x"), RecursionError()])
def test_whatever_is_raised_while_decoding_is_damage(
    error: Exception, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    content = png(plain_picture())
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load_prepare", fail)
    with pytest.raises(PictureError, match="damaged or incomplete"):
        read(content)
