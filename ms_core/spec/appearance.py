"""How a subject looks and what it is called, wherever it is asked for."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AliasChoices, Field

from ms_core.spec.fields import in_range, text
from ms_core.spec.limits import MAX_IMAGES_PER_SUBJECT, MAX_PHRASE_CHARACTERS, MAX_SUBJECT_SCALE
from ms_core.spec.pictures import PICTURE_SCHEMA, SubjectPictures

SCENE_SCALE = 0.4


# Defaults of later fields are not stored, see ``ms_core.spec.subject``.
def is_none(value: object) -> bool:
    """Whether a field was left out."""
    return value is None


SubjectPhrase = Annotated[
    str,
    text(MAX_PHRASE_CHARACTERS, "A subject needs a phrase: the words that name it in the prompt."),
    Field(description="The words that name the subject, ideally exactly as in the prompt."),
]
_IMAGES: Any = Field(
    validation_alias=AliasChoices("image", "images"),
    serialization_alias="images",
    description="The reference picture: a data URI with a PNG, JPEG or WebP in base64, at most 50 megapixels; or "
    "`asset:` and the id of an asset; or, in a form, `upload:` and the name of a part; or, if the service allows its host, "
    "the `https://` address of one, which is fetched once. Transparency is kept; the EXIF rotation and the colour profile "
    "are applied; all other metadata is dropped.",
)
SubjectImages = Annotated[SubjectPictures, _IMAGES]
OptionalImages = Annotated[SubjectPictures | None, _IMAGES, Field(exclude_if=is_none)]
SubjectScale = Annotated[
    Annotated[float, in_range(0, MAX_SUBJECT_SCALE)] | None,
    Field(
        description="Strength of this subject, in place of the request's `scale`. "
        f"The default for a scene is {SCENE_SCALE}."
    ),
]
SubjectCutout = Annotated[
    bool,
    Field(
        description="Cut the subject out of its pictures before the model sees them; the job shows what the model sees."
    ),
]


def image_or_images(schema: dict[str, Any]) -> None:
    """JSON names one picture ``image`` and several ``images``; one of the two is needed."""
    images = {
        "anyOf": [
            {"type": "array", "items": PICTURE_SCHEMA, "minItems": 1, "maxItems": MAX_IMAGES_PER_SUBJECT},
            {"type": "null"},
        ],
        "default": None,
        "description": "Several pictures of the same subject, instead of `image`.",
        "title": "Images",
    }
    schema["properties"]["images"] = images
    image = {name: value for name, value in schema["properties"]["image"].items() if name not in PICTURE_SCHEMA}
    schema["properties"]["image"] = image | {"anyOf": [PICTURE_SCHEMA, {"type": "null"}], "default": None}
    schema["required"] = [name for name in schema["required"] if name != "image"]
    schema["oneOf"] = [given("image", "string"), given("images", "array")]


def given(name: str, kind: str) -> dict[str, Any]:
    """The schema of objects with this field, of this type; null is "left out"."""
    return {"required": [name], "properties": {name: {"type": kind}}}
