"""Pictures and requests for the tests of the API."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from typing import Any

from PIL import Image


def encoded(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def data_uri(content: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def picture_uri(picture: Image.Image, kind: str = "PNG", **options: Any) -> str:
    return data_uri(encoded(picture, kind, **options))


def decoded(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png), formats=("PNG",))


def png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_with_header(width: int, height: int, pixels: bytes) -> bytes:
    """A black-and-white PNG that says it has this size, whatever its pixel data are."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    chunks = (png_chunk(b"IHDR", header), png_chunk(b"IDAT", pixels), png_chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def drawing(colour: str) -> Image.Image:
    """A square of this colour on white."""
    picture = Image.new("RGB", (8, 8), "white")
    picture.paste(colour, (2, 2, 6, 6))
    return picture


def good_request(**changes: Any) -> dict[str, Any]:
    """A request that is right; a change of ``None`` takes the field out."""
    request: dict[str, Any] = {
        "prompt": "a cat and a teapot on the beach",
        "subjects": [
            {"phrase": "cat", "image": picture_uri(drawing("orange")), "box": [0.05, 0.3, 0.45, 0.8]},
            {"phrase": "teapot", "image": picture_uri(drawing("teal")), "box": [0.55, 0.3, 0.95, 0.8]},
        ],
        "seed": 7,
    }
    request |= changes
    return {name: value for name, value in request.items() if value is not None}


def good_subject(**changes: Any) -> dict[str, Any]:
    """One subject that is right."""
    return good_request()["subjects"][0] | changes
