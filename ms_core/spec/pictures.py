"""A request's pictures: a PIL image in memory, a text where the request is JSON."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal, NamedTuple, Protocol, cast

from PIL import Image
from pydantic import (
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    PlainValidator,
    SerializationInfo,
    TypeAdapter,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from ms_core.errors import LayoutError, PictureError
from ms_core.spec.declared import FieldError, gathered_by_pydantic
from ms_core.spec.layout import Box
from ms_core.spec.limits import MAX_IMAGES_PER_SUBJECT, check_count
from ms_core.spec.picture_notes import NOTHING_PAINTED, check_visible, painted_bounds
from ms_core.spec.plain_pictures import decoding, plain

# Exact pictures must not be made smaller; the numbers of a mask are no colours.
PictureUse = Literal["shown", "exact", "mask"]


class Pictures(Protocol):
    """What a picture is called in JSON; the context of a validation or serialisation.

    On the wire a picture is a data URI, an https address, ``asset:<id>``, ``upload:<part>`` or ``sha256:<hash>``; in a stored request
    it is its SHA-256.
    """

    def read(self, text: str, use: PictureUse) -> Image.Image:
        """The plain picture of a text, as ``ms_core.spec.plain_pictures`` makes it.

        Raises:
            InvalidInputError: it cannot be read.
        """
        ...

    def name(self, picture: Image.Image) -> str:
        """The SHA-256 of a picture that ``read`` gave."""
        ...


def grey_mask(mask: Image.Image) -> Image.Image:
    """A painted mask in mode ``L``, turned by its EXIF tag; what is transparent counts as black."""
    painted = plain(mask, keep_numbers=True)
    if painted.mode == "RGBA":
        painted = Image.alpha_composite(Image.new("RGBA", painted.size, (0, 0, 0, 255)), painted)
    return painted.convert("L")


def mask_bounds(mask: Image.Image) -> Box:
    """The box around all of a mask that is not black.

    Raises:
        LayoutError: the mask is all black.
    """
    bounds, (width, height) = painted_bounds(mask), mask.size
    if bounds is None:
        grey = grey_mask(mask)
        bounds, (width, height) = grey.getbbox() or NOTHING_PAINTED, grey.size
    if bounds == NOTHING_PAINTED:
        raise LayoutError("The mask is empty: paint white where the subject should stand.")
    return Box.from_pixels(bounds, height, width)


def _read(value: Any, info: ValidationInfo, use: PictureUse = "shown") -> Image.Image:
    pictures: Pictures | None = info.context
    if pictures is None:
        with gathered_by_pydantic():
            return _plain_picture(value, use)
    if not isinstance(value, str):
        raise PydanticCustomError("string_type", "Send the picture as a string: a data URI or an asset.")
    with gathered_by_pydantic():
        return pictures.read(value, use)


def _plain_picture(value: Any, use: PictureUse) -> Image.Image:
    """A picture given in Python, as plain pixels."""
    given = _opened(value)
    with decoding():
        picture = plain(given, keep_numbers=use == "mask")
    if use != "mask":
        check_visible(picture)
    return picture


def _opened(value: Any) -> Image.Image:
    """A PIL image, a file's path, or an array of numbers from 0 to 255, as a PIL image."""
    if isinstance(value, Image.Image):
        return value
    if isinstance(value, (str, os.PathLike)):
        path = cast("str | os.PathLike[str]", value)
        try:
            return Image.open(path)
        except OSError as error:
            raise PictureError(
                f"Cannot read the picture {os.fspath(path)}: {error.strerror or 'no picture'}."
            ) from error
    if hasattr(value, "__array_interface__"):
        shape, kind = value.__array_interface__["shape"], value.__array_interface__["typestr"]
        if kind[1:] == "u1" and (len(shape) == 2 or (len(shape) == 3 and shape[2] in (3, 4))) and 0 not in shape:
            return Image.fromarray(value)
        raise PictureError(
            f"An array of a picture has height x width or height x width x 3 or 4 numbers of type uint8, not the shape "
            f"{tuple(shape)} of {kind[1:]}."
        )
    raise PictureError(f"Give a PIL image, a path or an array, not {type(value).__name__}.")


def _read_picture(value: Any, info: ValidationInfo) -> Image.Image:
    return _read(value, info)


def _read_exact_picture(value: Any, info: ValidationInfo) -> Image.Image:
    return _read(value, info, "exact")


def _read_mask(value: Any, info: ValidationInfo) -> Image.Image:
    mask = _read(value, info, "mask")
    with gathered_by_pydantic():
        mask_bounds(mask)
    return mask


def _name(picture: Image.Image, info: SerializationInfo) -> str:
    return cast("Pictures", info.context).name(picture)


# What stands before the id of an asset, the name of a part of a form, and the SHA-256 of a picture that is kept.
ASSET, UPLOAD, KEPT = "asset:", "upload:", "sha256:"
ASSET_ID_PATTERN = "[0-9a-f]{32}"
# In base64 and not empty. Not ``format: uri``, which allows no blanks.
_DATA_URI_PATTERN = r"^\s*[Dd][Aa][Tt][Aa]:[^,]*;[ ]*[Bb][Aa][Ss][Ee]64\s*,\s*[A-Za-z0-9+/%]"
DATA_URI_SCHEMA = {"type": "string", "pattern": _DATA_URI_PATTERN}
# No other scheme is followed.
_ADDRESS_PATTERN = "^[Hh][Tt][Tt][Pp][Ss]://[^/?#]"
PICTURE_SCHEMA = {
    "type": "string",
    "pattern": rf"{_DATA_URI_PATTERN}|{_ADDRESS_PATTERN}|^{ASSET}{ASSET_ID_PATTERN}$|^{UPLOAD}[^\u0000]|^{KEPT}[0-9a-f]{{64}}$",
}
_PICTURE_SCHEMA = WithJsonSchema(PICTURE_SCHEMA)

Picture = Annotated[Image.Image, PlainValidator(_read_picture), PlainSerializer(_name), _PICTURE_SCHEMA]
ExactPicture = Annotated[Image.Image, PlainValidator(_read_exact_picture), PlainSerializer(_name), _PICTURE_SCHEMA]
Mask = Annotated[Image.Image, PlainValidator(_read_mask), PlainSerializer(_name), _PICTURE_SCHEMA]

_SEVERAL: TypeAdapter[tuple[Image.Image, ...]] = TypeAdapter(tuple[Picture, ...])


class OneOrSeveral:
    """Marks the pictures of a subject: one, or a tuple of several."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        names = core_schema.plain_serializer_function_ser_schema(_name_all, info_arg=True)
        return core_schema.with_info_plain_validator_function(_read_all, serialization=names)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return dict(PICTURE_SCHEMA)


SubjectPictures = Annotated[Image.Image | tuple[Image.Image, ...], OneOrSeveral()]


class _Misfit(NamedTuple):
    """Stands for pictures that are not given as they must be, until the field is read and can say so."""

    code: str
    detail: str


_NO_PICTURE = "Give the reference picture as image, or several as images."
_TWICE = _Misfit("invalid_input", "Give the reference picture as image or as images, not both.")
_NO_LIST = _Misfit("list_type", "Input should be a valid array.")


def one_name_for_pictures(data: Any, missing: str | None = _NO_PICTURE) -> Any:
    """A subject's JSON with either ``image`` or ``images``; a tuple stands for several, for a JSON list is no
    picture.

    Args:
        missing: what to say where there is no picture; ``None``: it may be left out.
    """
    if not isinstance(data, dict):
        return data
    data = cast("dict[str, Any]", data)
    given = {name: data[name] for name in ("image", "images") if data.get(name) is not None}
    others = {name: value for name, value in data.items() if name not in ("image", "images")}
    if not given:
        return others if missing is None else others | {"image": _Misfit("missing_field", missing)}
    if len(given) > 1:
        return others | {"image": _TWICE}
    if "images" in given:
        images = given["images"]
        given["images"] = tuple(cast("list[Any]", images)) if isinstance(images, list) else _NO_LIST
    return others | given


def _read_all(value: Any, info: ValidationInfo) -> Image.Image | tuple[Image.Image, ...]:
    if isinstance(value, _Misfit):
        with gathered_by_pydantic():
            raise FieldError(value.detail, "", value.code)
    if isinstance(value, list) and info.context is None:
        # In JSON, a list is no picture, see ``one_name_for_pictures``.
        value = tuple(cast("list[Any]", value))
    if not isinstance(value, tuple):
        return _read(value, info)
    pictures = cast("tuple[Any, ...]", value)
    with gathered_by_pydantic():
        check_count(len(pictures), 1, MAX_IMAGES_PER_SUBJECT, "pictures of a subject", "")
    return _SEVERAL.validate_python(pictures, context=info.context)


def _name_all(pictures: Image.Image | tuple[Image.Image, ...], info: SerializationInfo) -> list[str]:
    return [_name(picture, info) for picture in (pictures if isinstance(pictures, tuple) else (pictures,))]
