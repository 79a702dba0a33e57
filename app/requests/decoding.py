"""Decodes pictures, and encodes them again as small, clean PNGs.

Pixels are decoded only after the header has passed the pixel limit; only PNG, JPEG and WebP are tried.
"""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass, replace

from PIL import Image

from app.requests import jpeg_ends, png_chunks
from app.requests.data_uris import bytes_of_data_uri
from app.requests.png_chunks import PngChunks
from app.requests.sizes import FORMATS, pixels_of
from app.requests.turns import Turn
from app.service.errors import InvalidRequestError
from ms_core.errors import PictureError, PictureTooLargeError
from ms_core.spec.colour_profiles import in_srgb, profile_of
from ms_core.spec.picture_notes import check_visible, note_ignored, note_painted, note_visible
from ms_core.spec.pictures import PictureUse, grey_mask
from ms_core.spec.plain_pictures import decoding, spread

_BOMB_ERRORS = (Image.DecompressionBombError, Image.DecompressionBombWarning)


@dataclass(frozen=True, slots=True)
class PictureLimits:
    """Limits of a reference picture and of all pictures of a request, and the longer side they are reduced to; in pixels."""

    max_pixels: int = 50_000_000
    max_side: int = 2048
    max_total: int = 250_000_000


def check_total(pixels: int, limits: PictureLimits) -> None:
    """Raise ``InvalidRequestError`` if all pictures of a body have more pixels together than they may."""
    if pixels > limits.max_total:
        detail = f"The pictures have {pixels} pixels together, more than the limit of {limits.max_total}"
        raise InvalidRequestError([PictureTooLargeError(f"{detail}; send smaller or fewer ones.")])


def png_from_data_uri(data_uri: str, limits: PictureLimits, use: PictureUse = "shown") -> bytes:
    """Decode a picture and re-encode it as a PNG without metadata.

    The EXIF turn and the colour profile are applied, transparency is kept, every colour mode becomes 8-bit RGB or RGBA,
    and a picture with a side above ``limits.max_side`` is reduced. A mask keeps its numbers.

    Args:
        data_uri: ``data:image/png;base64,...``; JPEG and WebP too.
        limits: in pixels.

    Returns:
        the bytes of an RGB or RGBA PNG.

    Raises:
        PictureError: not a data URI, base64 or picture; damaged, animated, fully transparent, or in another format.
        PictureTooLargeError: the header gives more than ``limits.max_pixels`` pixels.
    """
    encoded = bytes_of_data_uri(data_uri)
    with Turn().take(0):
        return encode_png(decode(encoded, limits, use))


def check_pixels(encoded: bytes, max_pixels: int) -> None:
    """Raise ``PictureTooLargeError`` if a file says that it has more pixels; one that is no picture says nothing."""
    if cost_of(encoded) > max_pixels:
        raise _too_large(PictureLimits(max_pixels))


def cost_of(encoded: bytes) -> int:
    """What decoding costs, in pixels; a picture that cannot be decoded costs little."""
    try:
        return pixels_of(encoded)
    except Exception:  # whatever is wrong with the header is told when it is decoded
        return 0


def decode(encoded: bytes, limits: PictureLimits, use: PictureUse) -> Image.Image:
    """A plain picture; its ``info`` holds what is noted of it; errors as ``png_from_data_uri``."""
    if use == "exact":
        limits = replace(limits, max_side=limits.max_pixels)
    with decoding():
        chunks = PngChunks.read(encoded) if encoded.startswith(png_chunks.SIGNATURE) else PngChunks()
        picture, profile = _load(encoded, chunks, limits)
        picture.thumbnail((limits.max_side, limits.max_side), Image.Resampling.LANCZOS)
        picture = in_srgb(picture, None if use == "mask" else profile)
    # Pillow would write them into the PNG.
    picture.info = {}
    if use == "mask":
        note_painted(picture, grey_mask(picture).getbbox())
    else:
        check_visible(picture)
        note_visible(picture)
    note_ignored(picture, chunks.ignored)
    return picture


def _load(encoded: bytes, chunks: PngChunks, limits: PictureLimits) -> tuple[Image.Image, bytes | None]:
    """A decoded picture, and the profile of its numbers."""
    try:
        return _load_whole(encoded, chunks, limits)
    except OSError:
        complete = None
        if encoded.startswith(jpeg_ends.START) and not encoded.endswith(jpeg_ends.END):
            complete = jpeg_ends.with_end_marker(encoded)
        if complete is None:
            raise
    return _load_whole(complete, chunks, limits)


def _load_whole(encoded: bytes, chunks: PngChunks, limits: PictureLimits) -> tuple[Image.Image, bytes | None]:
    picture = _open(encoded, chunks, limits)
    # A JPEG can be decoded at half, a quarter or an eighth of its size.
    picture.draft(None, (limits.max_side, limits.max_side))
    return spread(picture), chunks.profile or profile_of(picture.info)


def _open(encoded: bytes, chunks: PngChunks, limits: PictureLimits) -> Image.Image:
    """Open a picture by its header, without decoding pixels."""
    is_png = encoded.startswith(png_chunks.SIGNATURE)
    try:
        picture = Image.open(io.BytesIO(chunks.encoded if is_png else encoded), formats=FORMATS)
    except _BOMB_ERRORS as error:
        raise _too_large(limits) from error
    except Image.UnidentifiedImageError as error:
        if is_png or encoded.startswith(jpeg_ends.START) or encoded[8:12] == b"WEBP":
            raise
        raise PictureError("This is no PNG, JPEG or WebP, or it is cut off.") from error
    if picture.width * picture.height > limits.max_pixels:
        raise _too_large(limits, picture.width, picture.height)
    # A camera's JPEG may hold previews as further frames; only PNG and WebP can be animated.
    if chunks.is_animated or (picture.format == "WEBP" and getattr(picture, "is_animated", False)):
        raise PictureError("The picture is animated; send a single frame.")
    return picture


def _too_large(limits: PictureLimits, width: int | None = None, height: int | None = None) -> PictureTooLargeError:
    size = "The picture" if width is None else f"The picture of {width} x {height} pixels"
    return PictureTooLargeError(f"{size} is larger than the limit of {limits.max_pixels} pixels; reduce it.")


def encode_png(picture: Image.Image) -> bytes:
    """A picture as PNG."""
    buffer = io.BytesIO()
    # Run lengths and Huffman codes: smaller than level 3 on photographs and drawings, and faster.
    picture.save(buffer, "PNG", compress_type=zlib.Z_RLE)
    return buffer.getvalue()
