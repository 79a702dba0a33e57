"""Which chunks of a PNG count: those that decide how it looks, if they are whole."""

from __future__ import annotations

import struct
import zlib

import pytest
from PIL import Image
from PIL.PngImagePlugin import MAX_TEXT_CHUNK

from app.requests.png_chunks import SIGNATURE, PngChunks
from app.requests.sizes import pixels_of
from ms_core.errors import PictureError
from tests.support.sample_requests import data_uri, drawing, encoded, png_chunk
from tests.support.sent_pictures import DATA, sent, warnings_of

# Pillow talks about damaged metadata; the service goes on.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

LARGE = zlib.compress(bytes(MAX_TEXT_CHUNK + 1))
PICTURE = drawing("orange")
FRAME = struct.pack(">IIIIIHHBB", 0, 8, 8, 0, 0, 1, 10, 0, 0)


def chunks_of(content: bytes) -> list[tuple[bytes, bytes]]:
    place, found = len(SIGNATURE), []
    while place < len(content):
        size = int.from_bytes(content[place : place + 4], "big")
        found.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + size]))
        place += 12 + size
    return found


def png(*extra: bytes, after: bytes = b"", picture: Image.Image = PICTURE) -> bytes:
    """A PNG with chunks between its header and its pixels, and after them."""
    *head, pixels, end = (png_chunk(*chunk) for chunk in chunks_of(encoded(picture)))
    return SIGNATURE + b"".join([*head, *extra, pixels, after, end])


def broken(chunk: bytes) -> bytes:
    """With a wrong checksum."""
    return chunk[:-1] + bytes([chunk[-1] ^ 1])


def exif(orientation: int = 6) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return png_chunk(b"eXIf", tags.tobytes()[6:])


@pytest.mark.parametrize("name", ["short-gama.png", "short-phys.png", "short-trns.png", "bad-crc-text.png"])
def test_a_chunk_that_does_not_matter_refuses_no_picture(name: str) -> None:
    whole = sent((DATA / "acTL-left-over.png").read_bytes())
    assert sent((DATA / name).read_bytes()).tobytes() == whole.tobytes()


@pytest.mark.parametrize(
    "chunk",
    [
        pytest.param(png_chunk(b"zTXt", b"workflow\0\0" + LARGE), id="compressed text"),
        pytest.param(png_chunk(b"iTXt", b"workflow\0\1\0\0\0" + LARGE), id="international text"),
        pytest.param(png_chunk(b"zTXt", b"workflow\0\7nonsense"), id="unknown compression"),
        pytest.param(broken(png_chunk(b"tEXt", b"Author\0me")), id="broken text"),
        pytest.param(broken(png_chunk(b"acTL", struct.pack(">II", 2, 0))), id="broken animation"),
        pytest.param(png_chunk(b"acTL", b""), id="short animation"),
        pytest.param(png_chunk(b"fcTL", b"short"), id="short frame"),
        pytest.param(png_chunk(b"pHYs", b""), id="short size"),
        pytest.param(png_chunk(b"gAMA", b"\0"), id="short gamma"),
        pytest.param(png_chunk(b"cHRM", b"\0" * 31), id="short primaries"),
        pytest.param(png_chunk(b"sRGB", b""), id="short sRGB"),
        pytest.param(png_chunk(b"cICP", b"\x0c\x0d"), id="short code points"),
        pytest.param(png_chunk(b"tIME", b""), id="short time"),
        pytest.param(png_chunk(b"prVt", b"own"), id="private"),
    ],
)
def test_other_chunks_are_passed_over(chunk: bytes) -> None:
    for content in (png(chunk), png(after=chunk)):
        assert sent(content).tobytes() == PICTURE.tobytes()
        assert warnings_of(content) == {}


@pytest.mark.parametrize(
    "chunk",
    [
        pytest.param(png_chunk(b"tRNS", b""), id="short transparency"),
        pytest.param(broken(png_chunk(b"tRNS", bytes(6))), id="broken transparency"),
        pytest.param(png_chunk(b"iCCP", b"name"), id="no profile"),
        pytest.param(png_chunk(b"iCCP", b"name\0\0nonsense"), id="damaged profile"),
        pytest.param(png_chunk(b"iCCP", b"name\0\0" + zlib.compress(bytes(900))[:-6]), id="cut profile"),
        pytest.param(png_chunk(b"iCCP", b"name\0\0" + zlib.compress(bytes(2**22 + 1))), id="huge profile"),
        pytest.param(broken(exif()), id="broken EXIF"),
        pytest.param(png_chunk(b"eXIf", b"nonsense"), id="no EXIF"),
    ],
)
def test_what_is_missed_is_told(chunk: bytes) -> None:
    assert sent(png(chunk)).tobytes() == PICTURE.tobytes()
    assert warnings_of(png(chunk)) == {"/subjects/0/image": "picture_part_ignored"}


def test_a_large_profile_counts() -> None:
    """Pillow refuses one of more than a mebibyte."""
    with Image.open(DATA / "photo-p3.png") as photo:
        profile = photo.info["icc_profile"].ljust(MAX_TEXT_CHUNK + 1, b"\0")
    plain = Image.new("RGB", (4, 4), (207, 74, 50))
    content = png(png_chunk(b"iCCP", b"name\0\0" + zlib.compress(profile)), picture=plain)
    assert sent(content).getpixel((1, 1))[2] < 40
    assert PngChunks.read(content).ignored == {}


def test_every_picture_of_a_request_is_looked_at() -> None:
    uri = data_uri(png(png_chunk(b"tRNS", b"")))
    several = {"image": None, "images": [data_uri(encoded(PICTURE)), uri], "mask": uri}
    assert warnings_of(b"", **several) == dict.fromkeys(
        ["/subjects/0/images/1", "/subjects/0/mask"], "picture_part_ignored"
    )


@pytest.mark.parametrize("where", ["before", "after"])
def test_exif_turns_a_picture_wherever_it_stands(where: str) -> None:
    wide = Image.new("RGB", (16, 8), "red")
    content = png(exif(), picture=wide) if where == "before" else png(after=exif(), picture=wide)
    assert sent(content).size == (8, 16)


def test_the_first_of_two_counts() -> None:
    content = png(png_chunk(b"tRNS", struct.pack(">3H", 255, 255, 255)), png_chunk(b"tRNS", bytes(6)))
    assert sent(content).getpixel((0, 0)) == (255, 255, 255, 0)


def test_transparency_after_the_pixels_does_not_count() -> None:
    content = png(after=png_chunk(b"tRNS", struct.pack(">3H", 255, 255, 255)))
    assert sent(content).mode == "RGB"


def test_more_transparent_entries_than_colours_do_not_count() -> None:
    few = PICTURE.quantize(2)
    assert sent(png(png_chunk(b"tRNS", b"\0\xff"), picture=few)).mode == "RGBA"
    assert warnings_of(png(png_chunk(b"tRNS", bytes(3)), picture=few)) == {"/subjects/0/image": "picture_part_ignored"}


@pytest.mark.parametrize("name", ["acTL-left-over.png", "one-frame.apng.png"])
def test_one_frame_is_no_animation(name: str) -> None:
    assert sent((DATA / name).read_bytes()).size == (256, 256)


def test_frames_without_an_animation_do_not_count() -> None:
    assert sent(png(after=png_chunk(b"fdAT", b"\0\0\0\1" + b"x"))).tobytes() == PICTURE.tobytes()


def test_a_picture_beside_its_default_is_an_animation() -> None:
    """Its only frame is another picture than the one for programs that know no frames."""
    frame = png_chunk(b"fcTL", FRAME) + png_chunk(b"fdAT", b"\0\0\0\1" + zlib.compress(bytes(200)))
    with pytest.raises(PictureError, match="animated"):
        sent(png(png_chunk(b"acTL", struct.pack(">II", 1, 0)), after=frame))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param((DATA / "no-palette.png").read_bytes(), id="no palette"),
        pytest.param(broken(encoded(PICTURE)[:33]) + encoded(PICTURE)[33:], id="broken header"),
        pytest.param(encoded(PICTURE)[:40], id="no pixels"),
        pytest.param(SIGNATURE, id="nothing"),
        pytest.param(SIGNATURE + bytes(50), id="zeros"),
        pytest.param(png(b"\0\0\0\1" + b"?!?!" + b"12345"), id="no chunk"),
        pytest.param(png(b"\xff\xff\xff\xfftEXt"), id="longer than the file"),
        pytest.param(png(png_chunk(b"IHDR", bytes(13))), id="two headers"),
    ],
)
def test_damage_has_one_sentence(content: bytes) -> None:
    with pytest.raises(PictureError, match="damaged or incomplete"):
        sent(content)


@pytest.mark.parametrize("missing", [1, 4, 11, 12])
def test_the_end_of_a_png_is_not_needed(missing: int) -> None:
    assert sent(encoded(PICTURE)[:-missing]).tobytes() == PICTURE.tobytes()


def test_a_wrong_checksum_of_the_pixels_is_taken() -> None:
    content = bytearray(encoded(PICTURE))
    content[-13] ^= 1
    assert sent(bytes(content)).tobytes() == PICTURE.tobytes()


TINY = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
AS_IF_TINY = png_chunk(b"tEXt", struct.pack(">II", 1, 1))


@pytest.mark.parametrize("first", [TINY, AS_IF_TINY], ids=["two headers", "no header first"])
def test_no_picture_hides_its_size(first: bytes) -> None:
    lying = SIGNATURE + first + png().removeprefix(SIGNATURE)
    assert pixels_of(lying) == 1
    with pytest.raises(PictureError):
        sent(lying)


def test_chunks_that_no_decoder_knows_are_left_out() -> None:
    assert b"ABCD" not in PngChunks.read(png(png_chunk(b"ABCD", b""))).encoded
    assert sent(png(png_chunk(b"ABCD", b""))).tobytes() == sent(png()).tobytes()


def test_a_picture_of_endless_chunks_is_refused() -> None:
    with pytest.raises(PictureError):
        sent(png(png_chunk(b"tEXt", b"") * 100_001))
