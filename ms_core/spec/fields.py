"""Checks of ``ms_core.spec.limits`` beside the fields that they are for, with what JSON Schema can say of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, cast

from pydantic import (
    AfterValidator,
    BeforeValidator,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from ms_core.errors import InvalidInputError
from ms_core.spec.declared import gathered_by_pydantic
from ms_core.spec.limits import (
    FILE_NAME_PATTERN,
    MAX_NAME_CHARACTERS,
    MAX_SIDE,
    SCHEDULERS,
    SIZE_MULTIPLE,
    TIMESTEP_SPACINGS,
    check_count,
    check_file_name,
    check_name,
    check_range,
    check_scheduler,
    check_size,
    check_strength,
    check_text,
    check_timestep_spacing,
)


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


# An integer as JSON Schema defines it: 42.0 is one, as many languages write it.
Integer = Annotated[int, BeforeValidator(_whole)]


@dataclass(frozen=True, slots=True, eq=False)
class Checked:
    """Marks a field whose value must pass ``check``; ``json_schema`` is what JSON Schema can say of the check.

    With ``before`` the check comes before the value itself is read, and sees it as it was given.
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
    return Checked(lambda value: check_range(value, low, high, ""), {"minimum": low, "maximum": high})


# Of the denoising: 0 is its begin, 1 its end.
Part = Annotated[float, in_range(0, 1)]


def text(max_characters: int, if_blank: str | None = None) -> Checked:
    """Clean text of at most ``max_characters``; with ``if_blank``, blank text is an error with this sentence."""

    def check(value: str) -> None:
        if if_blank is not None and not value.strip():
            raise InvalidInputError(if_blank)
        check_text(value, "", max_characters)

    # JSON Schema cannot name half a surrogate, which is refused too.
    pattern = (
        {"pattern": r"^[^\u0000]*$"}
        if if_blank is None
        else {"pattern": r"^[^\u0000]*[^\s\u0000][^\u0000]*$", "minLength": 1}
    )
    return Checked(check, {"maxLength": max_characters, **pattern})


def count(low: int, high: int, things: str) -> Checked:
    """Length limit, checked before any picture in the list is decoded."""

    def check(value: Any) -> None:
        if isinstance(value, (list, tuple)):
            check_count(len(cast("Sequence[Any]", value)), low, high, things, "")

    return Checked(check, {"minItems": low, "maxItems": high}, before=True)


def plain_name() -> Checked:
    """What the model calls something."""
    return Checked(lambda value: check_name(value, ""), {"minLength": 1, "maxLength": MAX_NAME_CHARACTERS})


def file_name() -> Checked:
    """Name of a file or folder of the model directory, without its ending; never a path."""
    return Checked(lambda value: check_file_name(value, ""), {"pattern": f"^{FILE_NAME_PATTERN}$"})


def _check_lora_name(name: str, info: ValidationInfo) -> str:
    with gathered_by_pydantic():
        # A request in JSON may not name a file outside the model directory; a caller of Python may.
        (check_name if info.context is None else check_file_name)(name, "")
    return name


LoraName = Annotated[
    str, AfterValidator(_check_lora_name), WithJsonSchema({"type": "string", "pattern": f"^{FILE_NAME_PATTERN}$"})
]


def strength_of_start() -> Checked:
    """A number above 0 and at most 1."""
    return Checked(lambda value: check_strength(value, ""), {"exclusiveMinimum": 0, "maximum": 1})


def side_in_pixels() -> Checked:
    """A width or height: a positive multiple of 8."""
    return Checked(
        lambda value: check_size(value, ""),
        {"minimum": SIZE_MULTIPLE, "maximum": MAX_SIDE, "multipleOf": SIZE_MULTIPLE},
    )


def known_scheduler() -> Checked:
    """One of ``ms_core.spec.SCHEDULERS``."""
    return Checked(lambda value: check_scheduler(value, ""), {"enum": list(SCHEDULERS)})


def known_timestep_spacing() -> Checked:
    """One of ``ms_core.spec.TIMESTEP_SPACINGS``."""
    return Checked(lambda value: check_timestep_spacing(value, ""), {"enum": list(TIMESTEP_SPACINGS)})
