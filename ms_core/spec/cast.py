"""Subjects that are named, ``{"cast": "rex"}``: who validates a request knows what they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, cast, runtime_checkable

from ms_core.spec.declared import FieldError, gathered_by_pydantic


@runtime_checkable
class Cast(Protocol):
    """A context of validation, as ``ms_core.spec.Pictures`` is one, that knows subjects by name."""

    def member(self, name: str) -> Mapping[str, Any]:
        """The fields of the subject's JSON, its pictures as ``images``.

        Raises:
            InvalidInputError: there is no such subject.
        """
        ...


def with_cast(data: Any, context: Any) -> Any:
    """A subject's JSON in which a name of the cast gave way to what it stands for; fields that are given win.

    Without a context that knows a cast, ``cast`` is left in place, an unknown field.
    """
    if not isinstance(data, dict) or "cast" not in data or not isinstance(context, Cast):
        return cast("Any", data)
    given = {name: value for name, value in cast("dict[str, Any]", data).items() if value is not None}
    name = given.pop("cast", None)
    if name is None:
        return given
    with gathered_by_pydantic():
        member = _member(name, context)
    own_pictures = "image" in given or "images" in given
    return {field: value for field, value in member.items() if field != "images" or not own_pictures} | given


def _member(name: Any, context: Cast) -> Mapping[str, Any]:
    if not isinstance(name, str):
        raise FieldError("Input should be a valid string.", "/cast", "string_type")
    try:
        return context.member(name)
    except FieldError as error:
        raise error.below("/cast") from error
