"""Field types of the request: the checks of ``ms_core.spec`` as pydantic annotations.

A check that fails becomes a pydantic error with the project's own sentence, so that pydantic gathers all of them in one
pass; ``app.intake`` turns them back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, PlainValidator, ValidationInfo
from pydantic import WithJsonSchema as JsonSchema
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from app.pictures import PictureLimits, open_png, png_from_data_uri
from ms_core.errors import InvalidInputError, LayoutError
from ms_core.spec import (
    FILE_NAME_PATTERN,
    MAX_NAME_CHARACTERS,
    SCHEDULERS,
    SIZE_MULTIPLE,
    TIMESTEP_SPACINGS,
    Box,
    check_count,
    check_file_name,
    check_name,
    check_range,
    check_scheduler,
    check_size,
    check_strength,
    check_text,
    check_timestep_spacing,
    mask_bounds,
)

PICTURE_LIMITS = "picture_limits"


@dataclass(frozen=True, slots=True)
class PixelBox:
    """A box in pixels of the output picture, xyxy; the picture's size is known only when the request is complete."""

    values: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Checked:
    """Marks a field whose value must pass ``check``; ``json_schema`` is what JSON Schema can say of the check.

    With ``before`` the check comes before the value itself is read, and sees it as the JSON has it.
    """

    check: Callable[[Any], None]
    json_schema: dict[str, Any]
    before: bool = False

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        if self.before:
            return core_schema.no_info_before_validator_function(self._validate, handler(source))
        return core_schema.no_info_after_validator_function(self._validate, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(schema) | self.json_schema

    def _validate(self, value: Any) -> Any:
        with gathered_by_pydantic():
            self.check(value)
        return value


def in_range(low: int | float, high: int | float) -> Checked:
    """A finite number from ``low`` to ``high``."""

    def check(value: float) -> None:
        check_range(value, low, high, "")

    return Checked(check, {"minimum": low, "maximum": high})


def text(max_characters: int, if_blank: str | None = None) -> Checked:
    """Clean text of at most ``max_characters``; with ``if_blank``, blank text is an error with this sentence."""

    def check(value: str) -> None:
        if if_blank is not None and not value.strip():
            raise InvalidInputError(if_blank)
        check_text(value, "", max_characters)

    min_length = {} if if_blank is None else {"minLength": 1}
    return Checked(check, {"maxLength": max_characters, **min_length})


def count(low: int, high: int, things: str) -> Checked:
    """A list of ``low`` to ``high`` things; with too many of them, none of their pictures is decoded."""

    def check(value: Any) -> None:
        if isinstance(value, list):
            check_count(len(value), low, high, things, "")

    return Checked(check, {"minItems": low, "maxItems": high}, before=True)


def plain_name() -> Checked:
    """What the model calls something."""
    return Checked(lambda value: check_name(value, ""), {"minLength": 1, "maxLength": MAX_NAME_CHARACTERS})


def file_name() -> Checked:
    """What a file or folder of the model directory is called, without its ending; never a path."""
    return Checked(lambda value: check_file_name(value, ""), {"pattern": f"^{FILE_NAME_PATTERN}$"})


def strength_of_start() -> Checked:
    """A number above 0 and at most 1."""
    return Checked(lambda value: check_strength(value, ""), {"exclusiveMinimum": 0, "maximum": 1})


def side_in_pixels() -> Checked:
    """A width or height: a positive multiple of 8."""
    return Checked(lambda value: check_size(value, ""), {"minimum": SIZE_MULTIPLE, "multipleOf": SIZE_MULTIPLE})


def known_scheduler() -> Checked:
    """One of ``ms_core.spec.SCHEDULERS``."""
    return Checked(check_scheduler, {"enum": list(SCHEDULERS)})


def known_timestep_spacing() -> Checked:
    """One of ``ms_core.spec.TIMESTEP_SPACINGS``."""
    return Checked(lambda value: check_timestep_spacing(value, ""), {"enum": list(TIMESTEP_SPACINGS)})


@contextmanager
def gathered_by_pydantic() -> Iterator[None]:
    """Turn an error of ours into one that pydantic gathers with all others."""
    try:
        yield
    except InvalidInputError as error:
        context = {"detail": error.detail, "kind": type(error)}
        raise PydanticCustomError("invalid_input", "{detail}", context) from error


def _read_picture(value: Any, info: ValidationInfo) -> bytes:
    """The picture of a data URI as PNG; its limits travel in the validation's context."""
    return _png(value, _limits(info))


def _read_whole_picture(value: Any, info: ValidationInfo) -> bytes:
    """As ``_read_picture``, and never reduced: no side is longer than all pixels in a row."""
    limits = _limits(info)
    return _png(value, replace(limits, max_side=limits.max_pixels))


def _read_mask(value: Any, info: ValidationInfo) -> bytes:
    """As ``_read_picture``; an empty mask is an error."""
    png = _png(value, _limits(info))
    with gathered_by_pydantic(), open_png(png) as mask:
        mask_bounds(mask)
    return png


def _limits(info: ValidationInfo) -> PictureLimits:
    return (info.context or {}).get(PICTURE_LIMITS, PictureLimits())


def _png(value: Any, limits: PictureLimits) -> bytes:
    if not isinstance(value, str):
        raise PydanticCustomError("string_type", "Send the picture as a data URI, which is a string.")
    with gathered_by_pydantic():
        return png_from_data_uri(value, limits)


def _read_box(value: Any) -> Box | PixelBox | None:
    if value is None:
        return None
    with gathered_by_pydantic():
        return _box(value)


def _box(value: Any) -> Box | PixelBox:
    if isinstance(value, list):
        return Box(*_four_numbers(value))
    if isinstance(value, dict) and set(value) == {"xywh"}:
        return Box.from_xywh(*_four_numbers(value["xywh"]))
    if isinstance(value, dict) and set(value) == {"pixels"}:
        return PixelBox(_four_numbers(value["pixels"]))
    raise LayoutError(
        'A box is [x_min, y_min, x_max, y_max] with numbers from 0 to 1, or {"xywh": [...]}, or {"pixels": [...]}.'
    )


def _four_numbers(values: Any) -> tuple[float, float, float, float]:
    # A bool is an int to Python, but no coordinate.
    if not isinstance(values, list) or len(values) != 4 or any(type(value) not in (int, float) for value in values):
        raise LayoutError("A box has four numbers.")
    try:
        first, second, third, fourth = map(float, values)
    except OverflowError as error:
        raise LayoutError("A number of the box is too large.") from error
    return (first, second, third, fourth)


def _four_numbers_schema(description: str, **limits: float) -> dict[str, Any]:
    items = {"type": "number", **limits}
    return {"type": "array", "items": items, "minItems": 4, "maxItems": 4, "description": description}


def _object_schema(name: str, values: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {name: values}, "required": [name], "additionalProperties": False}


_BOX_SCHEMA = {
    "anyOf": [
        _four_numbers_schema("x_min, y_min, x_max, y_max; from 0 to 1, origin at the top left", minimum=0, maximum=1),
        _object_schema("xywh", _four_numbers_schema("x_min, y_min, width, height; from 0 to 1", minimum=0, maximum=1)),
        _object_schema("pixels", _four_numbers_schema("x_min, y_min, x_max, y_max in output pixels", minimum=0)),
        {"type": "null"},
    ]
}

_URI_SCHEMA = JsonSchema({"type": "string", "format": "uri"})

PictureField = Annotated[bytes, PlainValidator(_read_picture), _URI_SCHEMA]
WholePictureField = Annotated[bytes, PlainValidator(_read_whole_picture), _URI_SCHEMA]
MaskField = Annotated[bytes, PlainValidator(_read_mask), _URI_SCHEMA]
BoxField = Annotated[Box | PixelBox | None, PlainValidator(_read_box), JsonSchema(_BOX_SCHEMA)]
