"""Finished pictures as files: PNG, WebP or JPEG, each with the picture's recipe.

The recipe is JSON: in a PNG the text ``msd``, in WebP and JPEG the property ``msd:recipe`` of the XMP.
"""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, cast

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ms_jobs.xmp import DamagedXmpError, packet_of, text_in, text_in_jpeg, with_text

RECIPE_KEY = "msd"
DEFAULT_QUALITY = 90
# The longest request needs less than half of it.
MAX_RECIPE_CHARACTERS = 2 * 2**20
OutputFormat = Literal["png", "webp", "jpeg"]

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_JPEG_SIGNATURE = b"\xff\xd8\xff"
_DAMAGED = "The picture, or the recipe in it, is cut off or damaged."


class FileFormat(NamedTuple):
    """What files of one format are called."""

    media_type: str
    suffix: str


FILE_FORMATS: Mapping[OutputFormat, FileFormat] = {
    "png": FileFormat("image/png", ".png"),
    "webp": FileFormat("image/webp", ".webp"),
    "jpeg": FileFormat("image/jpeg", ".jpg"),
}
PNG = FILE_FORMATS["png"].media_type
# By media type.
SUFFIXES = dict(FILE_FORMATS.values())


class RecipeError(Exception):
    """A file's recipe is damaged, or the file is no picture; the message is a sentence for the user."""


def png_of(image: Image.Image) -> bytes:
    """Encode a picture as PNG."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def encode(
    image: Image.Image, recipe: dict[str, Any], output_format: OutputFormat = "png", quality: int = DEFAULT_QUALITY
) -> bytes:
    """Encode a picture with its recipe.

    Args:
        image: RGB.
        quality: 1 to 100; not for PNG.
    """
    # ASCII fits every container.
    text = json.dumps(recipe, ensure_ascii=True)
    buffer = io.BytesIO()
    if output_format == "webp":
        image.save(buffer, format="WEBP", quality=quality, xmp=packet_of(text))
    elif output_format == "jpeg":
        image.save(buffer, format="JPEG", quality=quality)
        return with_text(buffer.getvalue(), text)
    else:
        info = PngInfo()
        info.add_text(RECIPE_KEY, text)
        image.save(buffer, format="PNG", pnginfo=info)
    return buffer.getvalue()


def read_recipe(encoded: bytes) -> dict[str, Any] | None:
    """Read the recipe that ``encode`` wrote, without decoding the picture; ``None`` if there is none.

    It is no more than JSON: whoever uses it checks it.

    Raises:
        RecipeError: the file is none of the formats, or its recipe is damaged.
    """
    try:
        text = _recipe_text(encoded)
        if text is not None and len(text) > MAX_RECIPE_CHARACTERS:
            raise RecipeError("The recipe of this picture is longer than any that is made here.")
        recipe = None if text is None else json.loads(text)
    except DamagedXmpError as error:
        raise RecipeError(_DAMAGED) from error
    except (ValueError, RecursionError) as error:
        raise RecipeError("The recipe of this picture is no JSON.") from error
    if recipe is not None and not isinstance(recipe, dict):
        raise RecipeError("The recipe of this picture is no JSON object.")
    return cast("dict[str, Any] | None", recipe)


def _recipe_text(encoded: bytes) -> str | None:
    if encoded.startswith(_PNG_SIGNATURE):
        return _text_in_png(encoded)
    if encoded.startswith(_JPEG_SIGNATURE):
        return text_in_jpeg(encoded)
    if encoded[:4] == b"RIFF" and encoded[8:12] == b"WEBP":
        return _text_in_webp(encoded)
    raise RecipeError("This is no PNG, JPEG or WebP.")


def _text_in_png(encoded: bytes) -> str | None:
    start, place = f"{RECIPE_KEY}\0".encode(), len(_PNG_SIGNATURE)
    while place + 8 <= len(encoded):
        size, name = struct.unpack_from(">I4s", encoded, place)
        begin, end = place + 8, place + 12 + size
        if name == b"tEXt" and encoded.startswith(start, begin):
            content = encoded[begin : begin + size]
            if encoded[begin + size : end] != zlib.crc32(content, zlib.crc32(name)).to_bytes(4, "big"):
                raise RecipeError(_DAMAGED)
            return content.removeprefix(start).decode("latin-1")
        place = end
    return None


def _text_in_webp(encoded: bytes) -> str | None:
    place = 12
    while place + 8 <= len(encoded):
        name, size = struct.unpack_from("<4sI", encoded, place)
        begin, place = place + 8, place + 8 + size + size % 2
        if place > len(encoded):
            # The XMP comes last.
            raise RecipeError(_DAMAGED)
        if name == b"XMP ":
            return text_in(encoded[begin : begin + size])
    return None
