"""One subject of a picture."""

from __future__ import annotations

from typing import Annotated, Any, cast

from PIL import Image
from pydantic import Field, ValidationInfo, model_validator

from ms_core.errors import InvalidInputError, LayoutError
from ms_core.spec.appearance import (
    SCENE_SCALE,
    OptionalImages,
    SubjectCutout,
    SubjectPhrase,
    SubjectScale,
    given,
    image_or_images,
    is_none,
)
from ms_core.spec.cast import with_cast
from ms_core.spec.declared import Declared, FieldError, collected, declared
from ms_core.spec.fields import Integer, Part, in_range, text
from ms_core.spec.layout import Box, BoxField
from ms_core.spec.limits import (
    CAST_NAME_PATTERN,
    MAX_FEATHER,
    MAX_PROMPT_CHARACTERS,
    MAX_Z_INDEX,
    check_times,
)
from ms_core.spec.pictures import Mask, mask_bounds, one_name_for_pictures

WHOLE_PICTURE = Box(0.0, 0.0, 1.0, 1.0)
_NEITHER = "Give the reference picture as image, several as images, or words alone as prompt."


def _ways_to_say_it(schema: dict[str, Any]) -> None:
    """A subject has pictures or words, or both; one of the cast has phrase and pictures already, and may have others."""
    image_or_images(schema)
    name = {"type": "string", "pattern": f"^{CAST_NAME_PATTERN}$"}
    description = (
        "A subject of the cast, by its name (see `PUT /cast/{name}`): its phrase, pictures, cutout and scale stand in for those "
        "that are left out here."
    )
    schema["properties"]["cast"] = {"anyOf": [name, {"type": "null"}], "default": None, "description": description}
    one_of = schema.pop("oneOf")
    schema["required"].remove("phrase")
    looks = [*one_of, given("prompt", "string")]
    schema["anyOf"] = [given("cast", "string"), {**given("phrase", "string"), "anyOf": looks}]
    schema["not"] = {"allOf": one_of}


# Defaults of later fields are not stored: what older versions stored is written again without a change.
def _is_zero(value: float) -> bool:
    return value == 0.0


def _is_one(value: float) -> bool:
    return value == 1.0


@declared(json_schema_extra=_ways_to_say_it)
class Subject(Declared):
    """One subject: how it looks, what it is called, and where it stands."""

    phrase: SubjectPhrase
    image: OptionalImages = None
    box: Annotated[
        BoxField,
        Field(
            description="Where the subject stands in the picture. Not needed with a mask, for a scene, or with auto "
            "layout."
        ),
    ] = None
    scale: SubjectScale = None
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
    cutout: SubjectCutout = False
    start: Annotated[
        Part,
        Field(
            description="When it starts to act, as a fraction of the denoising. Before, the picture is made as if it had "
            "no box.",
            exclude_if=_is_zero,
        ),
    ] = 0.0
    end: Annotated[
        Part,
        Field(description="When it stops acting; must be above `start`.", exclude_if=_is_one),
    ] = 1.0
    prompt: Annotated[
        Annotated[str, text(MAX_PROMPT_CHARACTERS, "The prompt is empty: say what this part of the picture shows.")]
        | None,
        Field(
            description="What the picture shows where this subject stands: there, these words take the place of the "
            "request's `prompt`. With them a subject needs no picture, and then acts by its words alone.",
            exclude_if=is_none,
        ),
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _read_pictures(cls, data: Any, info: ValidationInfo) -> Any:
        sent = with_cast(data, info.context)
        has_words = isinstance(sent, dict) and cast("dict[str, Any]", sent).get("prompt") is not None
        return one_name_for_pictures(sent, None if has_words else _NEITHER)

    @property
    def images(self) -> tuple[Image.Image, ...]:
        """All reference pictures; none if it acts by its words alone."""
        if self.image is None:
            return ()
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

    def acts_at(self, step_index: int, num_steps: int) -> bool:
        """Whether it acts at a step, counted from 0; outside its time its cells are uncovered."""
        return self.start <= step_index / num_steps < self.end

    def conflicts(self) -> list[InvalidInputError]:
        """Neither picture nor words; an end that is not above the start; a scene with its own box or mask."""
        errors: list[InvalidInputError] = []
        if self.image is None and self.prompt is None:
            errors.append(FieldError(_NEITHER, "/image", "missing_field"))
        with collected(errors):
            check_times(self.start, self.end)
        return errors + (self._scene_conflicts() if self.scene else [])

    def _scene_conflicts(self) -> list[InvalidInputError]:
        """Its own box or mask; a box of the whole picture changes nothing."""
        errors: list[InvalidInputError] = []
        # A pixel box is looked at when it is settled.
        if isinstance(self.box, Box) and self.box != WHOLE_PICTURE:
            errors.append(LayoutError("A scene fills the whole picture; leave its box out.", "/box"))
        if self.mask is not None:
            errors.append(LayoutError("A scene fills the whole picture; leave its mask out.", "/mask"))
        return errors
