"""One subject of a picture."""

from __future__ import annotations

from typing import Annotated, Any

from PIL import Image
from pydantic import AliasChoices, Field, model_validator

from ms_core.errors import InvalidInputError, LayoutError
from ms_core.spec.declared import Declared, declared
from ms_core.spec.fields import Integer, in_range, text
from ms_core.spec.layout import Box, BoxField
from ms_core.spec.limits import (
    MAX_FEATHER,
    MAX_IMAGES_PER_SUBJECT,
    MAX_PHRASE_CHARACTERS,
    MAX_SUBJECT_SCALE,
    MAX_Z_INDEX,
)
from ms_core.spec.pictures import DATA_URI_SCHEMA, Mask, SubjectPictures, mask_bounds, one_name_for_pictures

WHOLE_PICTURE = Box(0.0, 0.0, 1.0, 1.0)
SCENE_SCALE = 0.4


def _image_or_images(schema: dict[str, Any]) -> None:
    """JSON names one picture ``image`` and several ``images``; one of the two is needed."""
    images = {
        "anyOf": [
            {"type": "array", "items": DATA_URI_SCHEMA, "minItems": 1, "maxItems": MAX_IMAGES_PER_SUBJECT},
            {"type": "null"},
        ],
        "default": None,
        "description": "Several pictures of the same subject, instead of `image`.",
        "title": "Images",
    }
    schema["properties"]["images"] = images
    image = {name: value for name, value in schema["properties"]["image"].items() if name not in DATA_URI_SCHEMA}
    schema["properties"]["image"] = image | {"anyOf": [DATA_URI_SCHEMA, {"type": "null"}], "default": None}
    schema["required"].remove("image")
    # null is "left out" here too.
    schema["oneOf"] = [
        {"required": [name], "properties": {name: {"type": kind}}}
        for name, kind in (("image", "string"), ("images", "array"))
    ]


@declared(json_schema_extra=_image_or_images)
class Subject(Declared):
    """One subject: how it looks, what it is called, and where it stands."""

    phrase: Annotated[
        str,
        text(MAX_PHRASE_CHARACTERS, "A subject needs a phrase: the words that name it in the prompt."),
        Field(description="The words that name the subject, ideally exactly as in the prompt."),
    ]
    image: Annotated[
        SubjectPictures,
        Field(
            validation_alias=AliasChoices("image", "images"),
            serialization_alias="images",
            description="The reference picture: a data URI with a PNG, JPEG or WebP in base64, at most 50 megapixels. "
            "Transparency is kept; the EXIF rotation and the colour profile are applied; all other metadata is dropped.",
        ),
    ]
    box: Annotated[
        BoxField,
        Field(
            description="Where the subject stands in the picture. Not needed with a mask, for a scene, or with auto "
            "layout."
        ),
    ] = None
    scale: Annotated[
        Annotated[float, in_range(0, MAX_SUBJECT_SCALE)] | None,
        Field(
            description="Strength of this subject, in place of the request's `scale`. "
            f"The default for a scene is {SCENE_SCALE}."
        ),
    ] = None
    mask: Annotated[
        Mask | None,
        Field(
            description="A painted mask instead of the box: the subject acts fully where it is white, in part where "
            "it is grey, not at all where it is black or transparent. Sent like `image` and stretched over the "
            "result. A box given as well only influences how the model reads the reference."
        ),
    ] = None
    feather: Annotated[
        float,
        in_range(0, MAX_FEATHER),
        Field(
            description="Width of the soft edge inside the box or mask, as a fraction of the picture's shorter side."
        ),
    ] = 0.0
    z_index: Annotated[
        Integer,
        in_range(-MAX_Z_INDEX, MAX_Z_INDEX),
        Field(
            description="Where subjects overlap, the one with the higher number is in front; equal numbers share the "
            "overlap."
        ),
    ] = 0
    scene: Annotated[
        bool,
        Field(
            description="The reference shows a whole scene and fills the picture, so leave out box and mask. A "
            "`z_index` below that of the others keeps it behind them."
        ),
    ] = False
    cutout: Annotated[
        bool,
        Field(
            description="Cut the subject out of its pictures before the model sees them; the job shows what the "
            "model sees."
        ),
    ] = False

    @model_validator(mode="before")
    @classmethod
    def _read_pictures(cls, data: Any) -> Any:
        return one_name_for_pictures(data)

    @property
    def images(self) -> tuple[Image.Image, ...]:
        """All reference pictures."""
        return self.image if isinstance(self.image, tuple) else (self.image,)

    @property
    def image_fields(self) -> tuple[str, ...]:
        """Where each reference picture stands in the subject's JSON."""
        several = isinstance(self.image, tuple)
        return tuple(f"images/{number}" if several else "image" for number in range(len(self.images)))

    @property
    def place(self) -> Box | None:
        """Where it stands: its box, or the whole picture for a scene, or the bounds of its mask.

        Raises:
            LayoutError: the box is in pixels of a result whose size is not known here.
        """
        if self.scene:
            return WHOLE_PICTURE
        if self.box is None:
            return None if self.mask is None else mask_bounds(self.mask)
        if not isinstance(self.box, Box):
            raise LayoutError("A pixel box needs the size of the result; resolve the request first.", "/box")
        return self.box

    @property
    def own_scale(self) -> float | None:
        """Its own strength; ``None`` takes the request's."""
        return SCENE_SCALE if self.scene and self.scale is None else self.scale

    def conflicts(self) -> list[InvalidInputError]:
        """A scene with its own box or mask; a box of the whole picture changes nothing."""
        if not self.scene:
            return []
        errors: list[InvalidInputError] = []
        # A pixel box is looked at when it is settled.
        if isinstance(self.box, Box) and self.box != WHOLE_PICTURE:
            errors.append(LayoutError("A scene fills the whole picture; leave its box out.", "/box"))
        if self.mask is not None:
            errors.append(LayoutError("A scene fills the whole picture; leave its mask out.", "/mask"))
        return errors
