"""Decodes pictures sent as data URIs, and re-encodes them as small, clean PNGs.

Pixels are decoded only after the header has passed the pixel limit; only PNG, JPEG and WebP are tried.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import struct
import threading
import zlib
from contextlib import suppress
from dataclasses import dataclass, replace

from PIL import Image, ImageOps

from ms_core.errors import PictureError, PictureTooLargeError

FORMATS = ("PNG", "JPEG", "WEBP")

# Errors of Pillow's three decoders for damaged files.
_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
)
_BOMB_ERRORS = (Image.DecompressionBombError, Image.DecompressionBombWarning)

# Decoding a WebP at the limit takes some 900 MB: two at a time bound the process's memory.
_DECODING = threading.BoundedSemaphore(2)


@dataclass(frozen=True, slots=True)
class PictureLimits:
    """Limit of a reference picture, and the longer side it is reduced to; in pixels."""

    max_pixels: int = 50_000_000
    max_side: int = 2048


class SentPictures:
    """The pictures of one JSON request, as ``ms_core.spec.Pictures``: data URIs, kept as clean PNGs.

    Attributes:
        pngs: PNGs by their SHA-256.
    """

    def __init__(self, limits: PictureLimits) -> None:
        self.pngs: dict[str, bytes] = {}
        self._limits = limits
        self._names: list[tuple[Image.Image, str]] = []

    def read(self, text: str, whole: bool) -> Image.Image:
        """Read a data URI; errors as ``png_from_data_uri``. The pixels are decoded again when needed."""
        limits = replace(self._limits, max_side=self._limits.max_pixels) if whole else self._limits
        png = png_from_data_uri(text, limits)
        sha256 = hashlib.sha256(png).hexdigest()
        picture = Image.open(io.BytesIO(png), formats=("PNG",))
        # It has no EXIF tag; Pillow would decode all of it to see that there is none.
        picture.info["exif"] = b""
        self.pngs[sha256] = png
        self._names.append((picture, sha256))
        return picture

    def name(self, picture: Image.Image) -> str:
        """Get the SHA-256 of a picture that was read."""
        return next(sha256 for known, sha256 in self._names if known is picture)


def png_from_data_uri(data_uri: str, limits: PictureLimits) -> bytes:
    """Decode a reference picture and re-encode it as a PNG without metadata.

    The EXIF turn is applied, transparency is kept, every colour mode becomes 8-bit RGB or RGBA, and a picture with a
    side above ``limits.max_side`` is reduced.

    Args:
        data_uri: ``data:image/png;base64,...``; JPEG and WebP too.
        limits: in pixels.

    Returns:
        the bytes of an RGB or RGBA PNG.

    Raises:
        PictureError: not a data URI, base64 or picture; damaged, animated, or in another format.
        PictureTooLargeError: the header gives more than ``limits.max_pixels`` pixels.
    """
    encoded = _bytes_from_data_uri(data_uri)
    with _DECODING:
        return _encode_png(_decode(encoded, limits))


def _bytes_from_data_uri(data_uri: str) -> bytes:
    header, comma, payload = data_uri.partition(",")
    header = header.strip().lower()
    if not comma or not header.startswith("data:") or not header.endswith(";base64"):
        raise PictureError('Send the picture as a data URI: "data:image/png;base64," followed by its bytes in base64.')
    try:
        encoded = base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError) as error:
        raise PictureError("The data URI is not valid base64 after the comma.") from error
    if not encoded:
        raise PictureError("The picture is empty: the data URI ends after the comma.")
    return encoded


def _decode(encoded: bytes, limits: PictureLimits) -> Image.Image:
    try:
        picture = _open(encoded, limits)
        # A JPEG can be decoded at half, a quarter or an eighth of its size.
        picture.draft(None, (limits.max_side, limits.max_side))
        picture.load()
        _turn_upright(picture)
    except _DECODE_ERRORS as error:
        raise PictureError("The picture is damaged or incomplete and cannot be decoded; save it again.") from error
    picture = _to_rgb_or_rgba(picture)
    picture.thumbnail((limits.max_side, limits.max_side), Image.Resampling.LANCZOS)
    return picture


def _open(encoded: bytes, limits: PictureLimits) -> Image.Image:
    """Open a picture by its header, without decoding pixels."""
    try:
        picture = Image.open(io.BytesIO(encoded), formats=FORMATS)
    except _BOMB_ERRORS as error:
        raise _too_large(limits) from error
    except Image.UnidentifiedImageError as error:
        raise PictureError(
            f"This is not a complete picture in a supported format; send {', '.join(FORMATS)}."
        ) from error
    if picture.width * picture.height > limits.max_pixels:
        raise _too_large(limits, picture.width, picture.height)
    # A camera's JPEG may hold previews as further frames; only PNG and WebP can be animated.
    if picture.format in ("PNG", "WEBP") and getattr(picture, "is_animated", False):
        raise PictureError("The picture is animated; send a single frame.")
    return picture


def _too_large(limits: PictureLimits, width: int | None = None, height: int | None = None) -> PictureTooLargeError:
    size = "The picture" if width is None else f"The picture of {width} x {height} pixels"
    return PictureTooLargeError(f"{size} is larger than the limit of {limits.max_pixels} pixels; reduce it.")


def _turn_upright(picture: Image.Image) -> None:
    """Apply the EXIF orientation to a decoded picture; ignore a broken EXIF block."""
    with suppress(*_DECODE_ERRORS):
        ImageOps.exif_transpose(picture, in_place=True)


def _to_rgb_or_rgba(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I;16"):
        # Pillow clips 16-bit values at 255 when it converts them.
        picture = picture.point(lambda value: value * (1 / 256)).convert("L")
    mode = "RGBA" if picture.has_transparency_data else "RGB"
    # Converting to the same mode would copy.
    return picture if picture.mode == mode else picture.convert(mode)


def _encode_png(picture: Image.Image) -> bytes:
    # Pillow would write the colour profile and other metadata.
    picture.info.clear()
    buffer = io.BytesIO()
    # Run lengths and Huffman codes: smaller than level 3 on photographs and drawings, and faster.
    picture.save(buffer, "PNG", compress_type=zlib.Z_RLE)
    return buffer.getvalue()
