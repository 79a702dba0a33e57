"""The pictures of one request, however it names them, as clean PNGs."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from typing import Any

from PIL import Image

from app.requests.decoding import PictureLimits, cost_of, decode, encode_png
from app.requests.sources import PictureSources
from app.requests.turns import Turn
from ms_core.spec.pictures import PictureUse
from ms_jobs.kept_pictures import KeptPicture


class SentPictures:
    """The pictures of one request, as ``ms_core.spec.Pictures``: by data URI, address, asset, cast or part of its form.

    Attributes:
        pngs: those that were decoded, as PNGs by their SHA-256.
        kept: those of assets and the cast, by their SHA-256; these are not decoded.
    """

    def __init__(self, limits: PictureLimits, turn: Turn | None = None, sources: PictureSources | None = None) -> None:
        """Decode in the turns of ``turn``; by default in those of another request."""
        self._turn = turn or Turn()
        self.pngs: dict[str, bytes] = {}
        self.kept: dict[str, KeptPicture] = {}
        self._limits = limits
        self._sources = sources or PictureSources()
        self._names: list[tuple[Image.Image, str]] = []

    def read(self, text: str, use: PictureUse) -> Image.Image:
        """Read a picture; the pixels are decoded again when needed.

        Raises:
            PictureError: not a data URI, base64 or picture; see ``app.requests.decoding``.
            PictureTooLargeError: it has too many pixels, or is too long to be fetched.
            PictureNotFetchedError: its address gives nothing.
            FieldError: there is no such asset.
            UnknownUploadError: the form has no such part.
        """
        found = self._sources.find(text, use)
        if isinstance(found, KeptPicture):
            picture, sha256 = found.open(), found.variant.sha256
            self.kept[sha256] = found
        else:
            picture, sha256 = self._decode(found, use)
        self._names.append((picture, sha256))
        return picture

    def _decode(self, encoded: bytes, use: PictureUse) -> tuple[Image.Image, str]:
        with self._turn.take(cost_of(encoded)):
            decoded = decode(encoded, self._limits, use)
            png = encode_png(decoded)
        sha256 = hashlib.sha256(png).hexdigest()
        picture = Image.open(io.BytesIO(png), formats=("PNG",))
        picture.info |= decoded.info
        self.pngs[sha256] = png
        return picture, sha256

    def member(self, name: str) -> Mapping[str, Any]:
        """As ``PictureSources.member``."""
        return self._sources.member(name)

    def name(self, picture: Image.Image) -> str:
        """Get the SHA-256 of a picture that was read."""
        return next(sha256 for known, sha256 in self._names if known is picture)
