"""What is found out about a picture when it is read, and noted in its ``info`` for the warnings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from PIL import Image

from ms_core.errors import PictureError

Colour = tuple[int, int, int]
# Left, upper, right and lower, as Pillow gives them.
PixelBounds = tuple[int, int, int, int]
NOTHING_PAINTED: PixelBounds = (0, 0, 0, 0)

# On which transparent references are laid; models with another background are asked about both.
_GROUNDS: tuple[Colour, Colour] = ((0, 0, 0), (255, 255, 255))
# Levels of a channel by which a picture of one colour may vary, as compression leaves it.
_NOISE = 4
# Pixels a side that are looked at first: most pictures show two colours there.
_SAMPLE = 16
_ONE_COLOURED_ON, _IGNORED, _PAINTED = "one_coloured_on", "ignored_parts", "painted"


def check_visible(picture: Image.Image) -> None:
    """Refuse an RGB or RGBA picture that has no pixels, or is transparent everywhere.

    Raises:
        PictureError: it is so.
    """
    if 0 in picture.size:
        raise PictureError("The picture has no pixels.")
    if picture.mode == "RGBA" and picture.getchannel("A").getbbox() is None:
        raise PictureError("The picture is fully transparent; send one in which the subject can be seen.")


def note_visible(picture: Image.Image) -> None:
    """Note in its ``info`` on what an RGB or RGBA picture has only one colour, so that it is not decoded again for that."""
    picture.info[_ONE_COLOURED_ON] = _one_coloured_on(picture)


def note_ignored(picture: Image.Image, parts: Mapping[str, str]) -> None:
    """Note parts of a picture's file that are damaged and were ignored: name and purpose of each."""
    picture.info[_IGNORED] = dict(parts)


def note_painted(mask: Image.Image, bounds: PixelBounds | None) -> None:
    """Note the bounds of all that is not black in an upright mask, ``None`` if nothing is, so that it is not decoded again."""
    mask.info[_PAINTED] = bounds or NOTHING_PAINTED


def painted_bounds(mask: Image.Image) -> PixelBounds | None:
    """What ``note_painted`` noted: ``NOTHING_PAINTED`` for a black mask; ``None`` if it noted nothing."""
    return mask.info.get(_PAINTED)


def dump_notes(picture: Image.Image) -> dict[str, Any]:
    """All notes of a picture, ready for JSON."""
    notes: dict[str, Any] = {}
    for name in (_ONE_COLOURED_ON, _IGNORED, _PAINTED):
        if name in picture.info:
            notes[name] = picture.info[name]
    if _ONE_COLOURED_ON in notes:
        notes[_ONE_COLOURED_ON] = sorted(notes[_ONE_COLOURED_ON])
    return notes


def restore_notes(picture: Image.Image, notes: Mapping[str, Any]) -> None:
    """Note what ``dump_notes`` gave, also by way of JSON.

    Raises:
        Exception: it gave something else.
    """
    if _ONE_COLOURED_ON in notes:
        picture.info[_ONE_COLOURED_ON] = frozenset(cast("Colour", tuple(colour)) for colour in notes[_ONE_COLOURED_ON])
    if _IGNORED in notes:
        picture.info[_IGNORED] = dict(notes[_IGNORED])
    if _PAINTED in notes:
        left, top, right, bottom = notes[_PAINTED]
        picture.info[_PAINTED] = (left, top, right, bottom)


def ignored_parts(picture: Image.Image) -> Mapping[str, str]:
    """What ``note_ignored`` noted."""
    return picture.info.get(_IGNORED, {})


def is_one_coloured(picture: Image.Image, background: Colour | None) -> bool:
    """Whether a reference has only one colour where it is laid on this background; ``None`` if that is not known."""
    noted: frozenset[Colour] | None = picture.info.get(_ONE_COLOURED_ON)
    grounds = _one_coloured_on(picture) if noted is None else noted
    return background in grounds if background in _GROUNDS else len(grounds) == len(_GROUNDS)


def _one_coloured_on(picture: Image.Image) -> frozenset[Colour]:
    """The grounds, of black and white, on which it has only one colour."""
    sample = picture.resize((_SAMPLE, _SAMPLE), Image.Resampling.NEAREST)
    return frozenset(
        ground for ground in _GROUNDS if _has_one_colour(sample, ground) and _has_one_colour(picture, ground)
    )


def _has_one_colour(picture: Image.Image, ground: Colour) -> bool:
    laid = picture
    if picture.mode == "RGBA":
        laid = Image.new("RGBA", picture.size, (*ground, 255))
        laid.alpha_composite(picture)
    extrema = cast("tuple[tuple[int, int], ...]", laid.convert("RGB").getextrema())
    return all(high - low <= _NOISE for low, high in extrema)
