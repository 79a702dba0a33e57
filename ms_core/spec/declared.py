"""Declares what may be asked for: pydantic dataclasses that raise the project's own errors.

A field's check stands beside the field. JSON is validated with ``pydantic.TypeAdapter``, which gathers every error; a
constructor raises the first. What fields say together is asked of ``conflicts``: by constructors, and by
``ms_core.spec.resolve`` for what came as JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import field, fields
from typing import Any, TypeVar, cast, dataclass_transform, get_args

from pydantic import ConfigDict, ValidationError, model_validator
from pydantic.dataclasses import dataclass
from pydantic_core import ErrorDetails, PydanticCustomError, to_json

from ms_core.errors import InvalidInputError
from ms_core.spec.suggestions import nearest

Class = TypeVar("Class", bound=type)
Changed = TypeVar("Changed", bound="Declared")

BROKEN_TEXT = "The text contains a NUL or a broken character; remove it."

_CODES = {
    "missing": "missing_field",
    "missing_argument": "missing_field",
    "unexpected_keyword_argument": "unknown_field",
    "dataclass_type": "model_type",
    "tuple_type": "list_type",
    "string_unicode": "invalid_input",
}
_SENTENCES = {
    "missing": "This field is required.",
    "missing_argument": "This field is required.",
    "string_unicode": BROKEN_TEXT,
}


class FieldError(InvalidInputError):
    """A field that is missing, unknown, or of a wrong type.

    Attributes:
        code: what is wrong with it.
    """

    def __init__(self, detail: str, pointer: str, code: str) -> None:
        super().__init__(detail, pointer)
        self.code = code

    def below(self, prefix: str) -> FieldError:
        """Return the same error with its pointer moved below ``prefix``."""
        return FieldError(self.detail, prefix + self.pointer, self.code)


class Declared:
    """Base of all that is declared."""

    __slots__ = ()

    def conflicts(self) -> list[InvalidInputError]:
        """What is wrong with the fields together."""
        return []


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def declared(json_schema_extra: Callable[[dict[str, Any]], None] | None = None) -> Callable[[Class], Class]:
    """Make a class a frozen pydantic dataclass whose constructor raises ``InvalidInputError``.

    In JSON, ``null`` leaves a field out.

    Args:
        json_schema_extra: changes the JSON schema of the class in place.
    """

    def complete(schema: dict[str, Any]) -> None:
        if json_schema_extra is not None:
            json_schema_extra(schema)
        _say_what_may_be_left_out(schema)

    config = ConfigDict(strict=True, extra="forbid", arbitrary_types_allowed=True, json_schema_extra=complete)

    def decorate(cls: Class) -> Class:
        # Before-validators run from the last to the first, so those of the class see no nulls.
        setattr(cls, "_leave_out_nulls", model_validator(mode="before")(cast("Any", classmethod(_without_nulls))))  # noqa: B010
        result: Any = dataclass(frozen=True, slots=True, config=config)(cls)
        set_fields = result.__init__

        def __init__(self: Declared, *args: Any, **values: Any) -> None:
            try:
                set_fields(self, *args, **values)
            except ValidationError as error:
                raise invalid_inputs(error, result, positional=True)[0] from None
            for conflict in self.conflicts():
                raise conflict

        result.__init__ = __init__
        return result

    return decorate


def _without_nulls(cls: Any, data: Any) -> Any:
    """Take declared fields that are null out of a JSON object."""
    if not isinstance(data, dict):
        return data
    names = {item.name for item in fields(cls)}
    document = cast("dict[str, Any]", data)
    return {name: value for name, value in document.items() if value is not None or name not in names}


def _say_what_may_be_left_out(schema: dict[str, Any]) -> None:
    """Let fields that are not required be null, and say their defaults in words.

    Generators of clients take a field with ``default`` for one that is always there.
    """
    required = schema.setdefault("required", [])
    # A constant is there to tell one form from another.
    required += [name for name, value in schema["properties"].items() if "const" in value]
    for name, value in schema["properties"].items():
        default = value.pop("default", None)
        if default is not None and "description" in value:
            value["description"] += f" Default: {to_json(default).decode()}."
        if name not in required and {"type": "null"} not in value.get("anyOf", ()):
            described = {key: value.pop(key) for key in ("title", "description") if key in value}
            schema["properties"][name] = {"anyOf": [value, {"type": "null"}]} | described


def changed(item: Changed, **values: Any) -> Changed:
    """A copy with other values; checks nothing, unlike ``dataclasses.replace``."""
    result = copy(item)
    for name, value in values.items():
        object.__setattr__(result, name, value)
    return result


@contextmanager
def collected(errors: list[InvalidInputError], pointer: str = "") -> Generator[None]:
    """Add what is raised to ``errors``, its pointer moved below ``pointer``."""
    try:
        yield
    except InvalidInputError as error:
        errors.append(error.below(pointer))


@contextmanager
def gathered_by_pydantic() -> Generator[None]:
    """Turn an error of ours into one that pydantic gathers with all others; ``invalid_inputs`` turns it back."""
    try:
        yield
    except InvalidInputError as error:
        raise PydanticCustomError("invalid_input", "{detail}", {"detail": error.detail, "error": error}) from error


def invalid_inputs(error: ValidationError, of: type[Any], positional: bool = False) -> list[InvalidInputError]:
    """All that a validation found.

    Args:
        of: the declared class that was validated.
        positional: whether it was constructed, perhaps with values by position.
    """
    return [_invalid_input(detail, of, positional) for detail in error.errors(include_url=False, include_input=False)]


def _invalid_input(detail: ErrorDetails, of: type[Any], positional: bool) -> InvalidInputError:
    loc = list(detail["loc"])
    if positional and loc and isinstance(loc[0], int):
        loc[0] = fields(of)[loc[0]].name
    pointer = "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in loc)
    ours = detail.get("ctx", {}).get("error")
    if isinstance(ours, InvalidInputError):
        return ours.below(pointer)
    name = detail["type"]
    if name == "unexpected_keyword_argument":
        sentence = _unknown_field(str(loc[-1]), _class_at(of, loc[:-1]))
    elif name == "literal_error":
        sentence = f"Choose {detail.get('ctx', {})['expected']}."
    else:
        sentence = _SENTENCES.get(name, f"{detail['msg'].rstrip('.')}.")
    return FieldError(sentence, pointer, _CODES.get(name, name))


def _unknown_field(name: str, of: type[Any]) -> str:
    meant = nearest(name, [item.name for item in fields(of)])
    return "Unknown field; " + ("/docs lists all fields." if meant is None else f"did you mean {meant}?")


def _class_at(of: type[Any], loc: Sequence[str | int]) -> type[Any]:
    """The declared class at a place within ``of``; list indexes and names of forms are passed over."""
    for part in loc:
        inner = of.__pydantic_fields__.get(part)
        of = of if inner is None else next(_declared_classes(inner.annotation), of)
    return of


def _declared_classes(annotation: Any) -> Iterator[type[Any]]:
    if isinstance(annotation, type) and issubclass(annotation, Declared):
        yield annotation
    for inner in get_args(annotation):
        yield from _declared_classes(inner)
