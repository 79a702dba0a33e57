"""Every kind of PIL image as plain pixels: upright, 8 bits, RGB or RGBA, in sRGB."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from functools import reduce
from typing import Any

from PIL import ExifTags, Image, ImageChops, ImageOps

from ms_core.errors import InvalidInputError, PictureError
from ms_core.spec.colour_profiles import in_srgb, profile_of

# PNG gives the transparent grey in the file's own depth, but Pillow's pixels have 8 bits: factors between them.
_SHALLOW_GREYS = {"L;2": 85, "L;4": 17}


@contextmanager
def decoding() -> Generator[None]:
    """Turn whatever Pillow raises while it decodes or converts a picture into one sentence."""
    try:
        yield
    except (InvalidInputError, MemoryError):
        raise
    except Exception as error:
        raise PictureError("The picture is damaged or incomplete and cannot be decoded; save it again.") from error


def plain(picture: Image.Image, keep_numbers: bool = False) -> Image.Image:
    """A picture of any kind as upright RGB or RGBA in sRGB; the same picture if it is that already.

    Args:
        keep_numbers: its values are no colours, as those of a mask; its colour profile does not count.
    """
    profile = None if keep_numbers else profile_of(picture.info)
    return in_srgb(spread(picture), profile)


def spread(picture: Image.Image) -> Image.Image:
    """A picture of any kind as upright L, LA, RGB, RGBA or CMYK, whose numbers mean what they meant.

    16-bit values lose their lower half; marked colours and transparent palettes become an alpha channel.
    """
    # Decoding forgets the depth of the file.
    transparent = _transparent_value(picture)
    picture.load()
    picture = _upright(picture)
    if picture.mode in ("RGB", "RGBA", "CMYK", "L", "LA") and transparent is None:
        return picture
    colours, alpha = _eight_bit(picture, transparent)
    if alpha is not None:
        colours = Image.merge(colours.mode + "A", (*colours.split(), alpha))
    # What it held was true of the file.
    colours.info = {}
    return colours


def _upright(picture: Image.Image) -> Image.Image:
    """The decoded picture turned by its EXIF tag; a broken EXIF block turns nothing."""
    with suppress(Exception):
        if picture.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            return ImageOps.exif_transpose(picture)
    return picture


def _transparent_value(picture: Image.Image) -> Any:
    """What Pillow says of a colour that is transparent, in the depth that the pixels will have."""
    value: Any = picture.info.get("transparency")
    tiles = getattr(picture, "tile", ())
    layout = tiles[0][3] if tiles else None
    if layout in _SHALLOW_GREYS and isinstance(value, int):
        factor = _SHALLOW_GREYS[layout]
        return value % (255 // factor + 1) * factor
    if layout == "RGB;16B" and value is not None:
        return [part >> 8 for part in value]
    return value


def _eight_bit(picture: Image.Image, transparent: Any) -> tuple[Image.Image, Image.Image | None]:
    """A picture's 8-bit colours, as L or RGB, and its alpha."""
    if picture.mode.startswith("I;16"):
        # Pillow would clip its values at 255.
        low, high = _bytes_of_greys(picture)
        return high, _alpha_but_for((low, high), None if transparent is None else divmod(transparent, 256)[::-1])
    if picture.mode in ("1", "L"):
        grey = picture.convert("L")
        return grey, _alpha_but_for((grey,), None if transparent is None else (transparent,))
    if picture.mode == "RGB":
        return picture.copy(), _alpha_but_for(picture.split(), transparent)
    if not picture.has_transparency_data:
        return picture.convert("RGB"), None
    # By way of RGBA: Pillow drops the transparency of a palette with a warning.
    clear = picture.convert("RGBA")
    return clear.convert("RGB"), clear.getchannel("A")


def _bytes_of_greys(picture: Image.Image) -> tuple[Image.Image, Image.Image]:
    """The lower and the higher bytes of a picture with 16-bit greys."""
    content = picture.tobytes()
    first, second = (Image.frombytes("L", picture.size, content[start::2]) for start in (0, 1))
    return (second, first) if picture.mode == "I;16B" else (first, second)


def _alpha_but_for(bands: Sequence[Image.Image], transparent: Sequence[int] | None) -> Image.Image | None:
    """Opaque, but for the one colour that is transparent."""
    if transparent is None:
        return None
    other = [
        band.point([0 if value == own else 255 for value in range(256)])
        for band, own in zip(bands, transparent, strict=True)
    ]
    return reduce(ImageChops.lighter, other)
