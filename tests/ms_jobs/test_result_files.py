"""Finished pictures as files: each format carries the recipe, however long, and damage is told."""

from __future__ import annotations

import hashlib
import io
import json
import struct
from typing import Any, get_args
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageStat

from ms_core.spec import MAX_SEED, Box, Control, Lora, StartPicture, Subject
from ms_core.spec.limits import (
    MAX_CONTROLS,
    MAX_IMAGES_PER_SUBJECT,
    MAX_LORAS,
    MAX_NAME_CHARACTERS,
    MAX_PHRASE_CHARACTERS,
    MAX_PROMPT_CHARACTERS,
    MAX_SUBJECTS,
)
from ms_jobs.job_request import JobRequest, job_document
from ms_jobs.result_files import FILE_FORMATS, SUFFIXES, OutputFormat, RecipeError, encode, read_recipe
from ms_jobs.xmp import MAX_STANDARD_BYTES, packet_of, text_in_jpeg, with_text
from tests.support.job_helpers import picture_png
from tests.support.known_pictures import KnownPictures

FORMATS = get_args(OutputFormat)
PICTURE = Image.linear_gradient("L").resize((64, 48)).convert("RGB")
SHORT = {"request": {"prompt": 'a "cat" & a <dog> \N{CAT FACE}'}, "seed": 2**53 - 1}
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
RECIPE = "{urn:ms-diffusion-service:recipe#}recipe"
HAS_EXTENDED = "{http://ns.adobe.com/xmp/note/}HasExtendedXMP"
EXTENSION = b"http://ns.adobe.com/xmp/extension/\0"


def longest_request() -> JobRequest:
    """As much of everything as a request may hold, in letters that take twelve bytes each."""
    cat = "\N{CAT FACE}"
    pictures = tuple(Image.new("RGB", (8, 8), (index, 0, 0)) for index in range(MAX_IMAGES_PER_SUBJECT))
    subject = Subject(
        cat * MAX_PHRASE_CHARACTERS,
        pictures,
        Box(1 / 3, 1 / 7, 2 / 3, 6 / 7),
        1 / 3,
        feather=1 / 7,
        start=1 / 7,
        end=2 / 3,
    )
    return JobRequest(
        cat * MAX_PROMPT_CHARACTERS,
        (subject,) * MAX_SUBJECTS,
        cat * MAX_PROMPT_CHARACTERS,
        height=8,
        width=8,
        seed=MAX_SEED,
        loras=(Lora(cat * MAX_NAME_CHARACTERS, -1 / 3),) * MAX_LORAS,
        controls=(Control("c" * MAX_NAME_CHARACTERS, pictures[0], 1 / 3),) * MAX_CONTROLS,
        start=StartPicture(pictures[0], 1 / 3, tuple(range(MAX_SUBJECTS))),
        model="mini",
    )


class AnyPictures(KnownPictures):
    """Names whatever picture comes."""

    def name(self, picture: Image.Image) -> str:
        return hashlib.sha256(picture.tobytes()).hexdigest()


@pytest.fixture(scope="module")
def longest() -> dict[str, Any]:
    document = job_document(longest_request(), AnyPictures())
    recipe = {"request": document, "seed": MAX_SEED, "values": {"negative_prompt": document["negative_prompt"]}}
    assert len(json.dumps(recipe)) > 700_000
    return recipe


def app1_segments(jpeg: bytes) -> list[bytes]:
    with Image.open(io.BytesIO(jpeg), formats=("JPEG",)) as image:
        return [content for name, content in image.applist if name == "APP1"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("output_format", FORMATS)
def test_each_format_carries_its_recipe_however_long(output_format: OutputFormat, longest: dict[str, Any]) -> None:
    for recipe in (SHORT, longest):
        encoded = encode(PICTURE, recipe, output_format, 95)
        assert read_recipe(encoded) == recipe
        with Image.open(io.BytesIO(encoded)) as opened:
            assert (opened.get_format_mimetype(), opened.size) == (FILE_FORMATS[output_format].media_type, PICTURE.size)
            difference = ImageStat.Stat(ImageChops.difference(opened.convert("RGB"), PICTURE)).mean
        assert max(difference) < (3 if output_format != "png" else 1e-9)


def test_a_png_is_what_it_always_was() -> None:
    with Image.open(io.BytesIO(encode(PICTURE, SHORT))) as png:
        assert dict(png.info) == {"msd": json.dumps(SHORT)}


@pytest.mark.parametrize("output_format", ["webp", "jpeg"])
def test_a_higher_quality_makes_a_larger_file(output_format: OutputFormat) -> None:
    sizes = [len(encode(PICTURE, SHORT, output_format, quality)) for quality in (1, 90, 100)]
    assert sizes == sorted(set(sizes))
    assert encode(PICTURE, SHORT, output_format) == encode(PICTURE, SHORT, output_format, 90)


def test_each_format_has_its_own_suffix() -> None:
    assert SUFFIXES == {"image/png": ".png", "image/webp": ".webp", "image/jpeg": ".jpg"}


def test_the_xmp_is_what_readers_of_xml_expect(longest: dict[str, Any]) -> None:
    with Image.open(io.BytesIO(encode(PICTURE, longest, "webp"))) as webp:
        packet = webp.info["xmp"]
    assert packet.startswith('<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'.encode())
    assert packet.endswith(b'<?xpacket end="r"?>')
    assert json.loads(ElementTree.fromstring(packet).findtext(f".//{RECIPE}") or "") == longest


def test_a_long_recipe_is_split_as_the_standard_says(longest: dict[str, Any]) -> None:
    """XMP Specification Part 3, section 1.1.3.1, read here without the code under test."""
    jpeg = encode(PICTURE, longest, "jpeg")
    standard, *pieces = app1_segments(jpeg)
    assert len(pieces) > 10
    packet = standard.removeprefix(b"http://ns.adobe.com/xap/1.0/\0")
    assert len(packet) <= MAX_STANDARD_BYTES
    description = ElementTree.fromstring(packet).find(f"{RDF}RDF/{RDF}Description")
    assert description is not None
    joined = b""
    for piece in pieces:
        guid, total, offset = struct.unpack_from(">32sII", piece.removeprefix(EXTENSION))
        assert (guid.decode(), offset) == (description.attrib[HAS_EXTENDED], len(joined))
        joined += piece.removeprefix(EXTENSION)[40:]
    assert len(joined) == total
    assert hashlib.md5(joined).hexdigest().upper() == description.attrib[HAS_EXTENDED]
    assert b"xpacket" not in joined
    assert json.loads(ElementTree.fromstring(joined).findtext(f".//{RECIPE}") or "") == longest


@pytest.mark.parametrize(("more", "segments"), [(0, 1), (1, 3)])
def test_only_what_is_longer_than_a_segment_is_split(more: int, segments: int) -> None:
    text = "x" * (MAX_STANDARD_BYTES - len(packet_of("")) + more)
    buffer = io.BytesIO()
    PICTURE.save(buffer, "JPEG")
    jpeg = with_text(buffer.getvalue(), text)
    assert len(app1_segments(jpeg)) == segments
    assert text_in_jpeg(jpeg) == text


def pieces_of(jpeg: bytes) -> list[tuple[int, int]]:
    """Where each further segment of XMP begins and ends."""
    found, place = [], jpeg.find(EXTENSION)
    while place >= 0:
        begin = place - 4
        found.append((begin, begin + 2 + struct.unpack_from(">H", jpeg, begin + 2)[0]))
        place = jpeg.find(EXTENSION, found[-1][1])
    return found


def test_pieces_may_come_in_any_order_and_those_of_others_are_passed_over(longest: dict[str, Any]) -> None:
    jpeg = encode(PICTURE, longest, "jpeg")
    places = pieces_of(jpeg)
    first, second = places[:2]
    swapped = jpeg[: first[0]] + jpeg[slice(*second)] + jpeg[slice(*first)] + jpeg[second[1] :]
    assert read_recipe(swapped) == longest
    foreign = bytearray(jpeg[slice(*first)])
    foreign[4 + len(EXTENSION)] ^= 1
    assert read_recipe(jpeg[: first[0]] + foreign + jpeg[first[0] :]) == longest


def without_a_piece(jpeg: bytes) -> bytes:
    begin, end = pieces_of(jpeg)[1]
    return jpeg[:begin] + jpeg[end:]


def with_another_letter(encoded: bytes) -> bytes:
    return encoded.replace(b"ud83d", b"ud83e", 1)


def test_what_lacks_a_part_is_damaged(longest: dict[str, Any]) -> None:
    png, jpeg, webp = (encode(PICTURE, longest, name) for name in ("png", "jpeg", "webp"))
    damaged = [
        *(png[: len(png) // 2], jpeg[: len(jpeg) // 2], webp[: len(webp) // 2], webp[:60]),
        *(with_another_letter(png), with_another_letter(jpeg), without_a_piece(jpeg)),
    ]
    for encoded in damaged:
        with pytest.raises(RecipeError, match="is cut off or damaged"):
            read_recipe(encoded)


@pytest.mark.parametrize("output_format", FORMATS)
@pytest.mark.parametrize(
    ("text", "sentence"), [("{", "no JSON"), ("[" * 100_000, "no JSON"), ("[1]", "no JSON object")]
)
def test_what_is_no_object_is_told(output_format: OutputFormat, text: str, sentence: str, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("ms_jobs.result_files.json.dumps", lambda *_, **__: text)
        encoded = encode(PICTURE, {}, output_format)
    with pytest.raises(RecipeError, match=sentence):
        read_recipe(encoded)


@pytest.mark.parametrize("content", [b"", b"RIFF", b"GIF89a", b"<svg/>", picture_png()[1:]])
def test_what_is_no_picture_is_told(content: bytes) -> None:
    with pytest.raises(RecipeError, match="no PNG, JPEG or WebP"):
        read_recipe(content)


@pytest.mark.parametrize("output_format", FORMATS)
def test_pictures_that_were_encoded_again_or_made_elsewhere_have_none(output_format: OutputFormat) -> None:
    assert read_recipe(picture_png()) is None
    with Image.open(io.BytesIO(encode(PICTURE, SHORT, output_format))) as image:
        pixels = Image.frombytes("RGB", image.size, image.convert("RGB").tobytes())
    for kind, metadata in (("PNG", {}), ("WEBP", {"xmp": b"<x/>"}), ("JPEG", {"xmp": b"<x/>"}), ("JPEG", {})):
        buffer = io.BytesIO()
        pixels.save(buffer, kind, **metadata)
        assert read_recipe(buffer.getvalue()) is None


SAMPLES = [encode(PICTURE, {"prompt": "x" * length}, name) for name in FORMATS for length in (1, 100_000)]


@given(sample=st.sampled_from(SAMPLES), place=st.integers(0, 300_000), change=st.binary(max_size=8), cut=st.booleans())
def test_any_damage_is_told_or_changes_nothing_else(sample: bytes, place: int, change: bytes, cut: bool) -> None:
    place %= len(sample)
    changed = sample[:place] + change + (b"" if cut else sample[place + len(change) :])
    try:
        recipe = read_recipe(changed)
    except RecipeError:
        return
    assert recipe is None or isinstance(recipe, dict)
