"""The recipe is read from each kind of file, however long it is."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image

from ms_jobs.result_files import FILE_FORMATS, encode
from msd_client.recipes import recipe_of
from tests.support.sample_requests import encoded

RED = Image.new("RGB", (16, 16), "red")


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


@pytest.mark.parametrize("output_format", FILE_FORMATS)
@pytest.mark.parametrize("prompt", ['a <cat> & "pot", 猫', "long & " * 40_000], ids=["short", "long"])
def test_a_recipe_is_read(output_format: Any, prompt: str) -> None:
    recipe = {"request": {"prompt": prompt, "seed": 5}}
    assert recipe_of(opened(encode(RED, recipe, output_format))) == recipe


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
def test_other_pictures_have_none(kind: str) -> None:
    assert recipe_of(opened(encoded(RED, kind))) is None
    assert recipe_of(opened(encoded(RED, kind, xmp=b"<x:xmpmeta>of a camera</x:xmpmeta>"))) is None


def test_what_is_no_json_is_none() -> None:
    packet = encode(RED, {}, "webp").replace(b"{}</msd", b"{ </msd")
    assert recipe_of(opened(packet)) is None
