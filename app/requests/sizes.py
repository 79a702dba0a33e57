"""Measures the pictures of a request by their headers, before any is decoded."""

from __future__ import annotations

import io
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from PIL import Image

from app.requests import png_chunks
from app.requests.sources import PictureSources
from ms_core.spec.pictures import PictureUse
from ms_jobs.kept_pictures import KeptPicture

FORMATS = ("PNG", "JPEG", "WEBP")
_IHDR = slice(16, 24)


class PictureSizes:
    """Reads a request's pictures as ``ms_core.spec.Pictures`` does, but only their headers; faults are found later.

    Attributes:
        pixels: of all pictures together, without those that are too large by themselves.
    """

    def __init__(self, max_pixels: int, sources: PictureSources) -> None:
        self.pixels = 0
        self._sources = sources
        self._max_pixels = max_pixels
        self._placeholder = Image.new("L", (8, 8), "white")

    def read(self, text: str, use: PictureUse) -> Image.Image:
        """Count a picture; returns one that stands for it."""
        with suppress(Exception):
            found = self._sources.find(text, use)
            is_kept = isinstance(found, KeptPicture)
            pixels = found.variant.width * found.variant.height if is_kept else pixels_of(found)
            self.pixels += pixels if pixels <= self._max_pixels else 0
        return self._placeholder

    def member(self, name: str) -> Mapping[str, Any]:
        """As ``PictureSources.member``."""
        return self._sources.member(name)

    def name(self, picture: Image.Image) -> str:
        """Nothing is kept, so nothing has a name."""
        raise LookupError


def pixels_of(encoded: bytes) -> int:
    """The pixels that a picture's header tells of.

    Raises:
        Exception: it has no header that can be read.
    """
    if encoded.startswith(png_chunks.SIGNATURE):
        header = encoded[_IHDR]
        return int.from_bytes(header[:4], "big") * int.from_bytes(header[4:], "big")
    with Image.open(io.BytesIO(encoded), formats=FORMATS) as picture:
        return picture.width * picture.height
