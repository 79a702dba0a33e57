"""What a finished picture says of how it was made."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator, Mapping
from typing import Any
from xml.sax.saxutils import unescape

from PIL import Image

RECIPE_KEY = "msd"
_XMP_PROPERTY = re.compile(rb"<msd:recipe>([^<]*)</msd:recipe>")
# Pillow leaves the pieces of a long XMP apart: behind this, its MD5, its length and the piece's place (XMP Part 3, 1.1.3.1).
_EXTENSION = b"http://ns.adobe.com/xmp/extension/\0"
_PIECE = struct.Struct(">32sII")


def recipe_of(image: Image.Image) -> Mapping[str, Any] | None:
    """The recipe in a file that Pillow opened: text of a PNG, XMP of a JPEG or WebP; ``None`` if there is none to be read."""
    text = image.info.get(RECIPE_KEY)
    if text is None:
        found = _XMP_PROPERTY.search(_xmp_of(image))
        text = None if found is None else unescape(found[1].decode())
    try:
        return None if text is None else json.loads(text)
    except ValueError:
        return None


def _xmp_of(image: Image.Image) -> bytes:
    return b"".join((image.info.get("xmp", b""), *(content for _, content in sorted(_pieces(image)))))


def _pieces(image: Image.Image) -> Iterator[tuple[int, bytes]]:
    """Place and content of each piece."""
    for _, segment in getattr(image, "applist", ()):
        if segment.startswith(_EXTENSION):
            _, _, offset = _PIECE.unpack_from(segment, len(_EXTENSION))
            yield offset, segment[len(_EXTENSION) + _PIECE.size :]
