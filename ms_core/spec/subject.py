"""One subject of a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ms_core.errors import InvalidInputError, LayoutError
from ms_core.spec.layout import Box
from ms_core.spec.limits import (
    MAX_FEATHER,
    MAX_IMAGES_PER_SUBJECT,
    MAX_PHRASE_CHARACTERS,
    MAX_SUBJECT_SCALE,
    MAX_Z_INDEX,
    check_count,
    check_range,
    check_text,
)

if TYPE_CHECKING:
    from PIL import Image

WHOLE_PICTURE = Box(0.0, 0.0, 1.0, 1.0)
SCENE_SCALE = 0.4


@dataclass(frozen=True, slots=True)
class Subject:
    """One subject: its phrase, its reference pictures, and its place.

    Attributes:
        phrase: the words that name the subject, best as they stand in the prompt.
        image: the reference picture, or several of the same subject; any size and mode. Transparency is laid on the
            model's reference background.
        box: where the subject stands; ``None`` only with auto layout. Without one, a mask gives its bounds.
        scale: strength of this subject; replaces the global scale, never multiplies it.
        mask: grey picture that is stretched over the result and takes the box's place in the attention: white where
            the subject acts, black where it does not, greys in between act in part. The box then only steers how the
            reference is read.
        feather: width of the soft edge inside box or mask, as a part of the picture's shorter side, 0 to 0.5: over it
            the weight falls to a half at the edge, a quarter in corners. The picture's own border softens nothing.
        z_index: where subjects overlap, the higher is in front and hides the lower; equal ones share the place, as
            released.
        scene: the reference shows the whole scene: its box is the picture, its scale 0.4 unless given.
        cutout: cut the subject out of its pictures before they are read.

    Raises:
        InvalidInputError, LayoutError: a value is out of range; its ``pointer`` names the field.
    """

    phrase: str
    image: Image.Image | tuple[Image.Image, ...]
    box: Box | None = None
    scale: float | None = None
    mask: Image.Image | None = None
    feather: float = 0.0
    z_index: int = 0
    scene: bool = False
    cutout: bool = False

    def __post_init__(self) -> None:
        _check_phrase(self.phrase)
        _check_numbers(self)
        check_count(len(self.images), 1, MAX_IMAGES_PER_SUBJECT, "pictures of a subject", "/images")
        if self.scene:
            check_scene_box(self.box, "/box")
            check_scene_mask(self.mask, "/mask")
            object.__setattr__(self, "box", WHOLE_PICTURE)
            object.__setattr__(self, "scale", SCENE_SCALE if self.scale is None else self.scale)
        if self.mask is not None:
            bounds = mask_bounds(self.mask)
            object.__setattr__(self, "box", bounds if self.box is None else self.box)

    @property
    def images(self) -> tuple[Image.Image, ...]:
        """All reference pictures."""
        return self.image if isinstance(self.image, tuple) else (self.image,)


def _check_phrase(phrase: str) -> None:
    if not phrase.strip():
        raise InvalidInputError("A subject needs a phrase: the words that name it in the prompt.", "/phrase")
    check_text(phrase, "/phrase", MAX_PHRASE_CHARACTERS)


def _check_numbers(subject: Subject) -> None:
    if subject.scale is not None:
        check_range(subject.scale, 0.0, MAX_SUBJECT_SCALE, "/scale")
    check_range(subject.feather, 0.0, MAX_FEATHER, "/feather")
    check_range(subject.z_index, -MAX_Z_INDEX, MAX_Z_INDEX, "/z_index")


def check_scene_box(box: Box | None, pointer: str) -> None:
    """Raise ``LayoutError`` for a scene with a box of its own; one of the whole picture says nothing new."""
    if box not in (None, WHOLE_PICTURE):
        raise LayoutError("A scene fills the whole picture; leave its box out.", pointer)


def check_scene_mask(mask: object | None, pointer: str) -> None:
    """Raise ``LayoutError`` for a scene with a mask."""
    if mask is not None:
        raise LayoutError("A scene fills the whole picture; leave its mask out.", pointer)


def mask_bounds(mask: Image.Image) -> Box:
    """The box around all of a mask that is not black.

    Raises:
        LayoutError: the mask is all black.
    """
    grey = grey_mask(mask)
    bounds = grey.getbbox()
    if bounds is None:
        raise LayoutError("The mask is empty: paint white where the subject shall stand.", "/mask")
    return Box.from_pixels(bounds, grey.height, grey.width)


def grey_mask(mask: Image.Image) -> Image.Image:
    """A painted mask in mode ``L``, turned by its EXIF tag; what is transparent counts as black."""
    from PIL import Image, ImageOps

    mask = ImageOps.exif_transpose(mask)
    if mask.mode.startswith("I;16"):
        # PIL would clip 16-bit greys at 255 instead of scaling them.
        return mask.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    if not mask.has_transparency_data:
        return mask.convert("L")
    painted = mask.convert("RGBA")
    black = Image.new("RGBA", mask.size, (0, 0, 0, 255))
    return Image.alpha_composite(black, painted).convert("L")
