"""Settings from one TOML file: what a user gives is laid over a default file; unknown keys are errors."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ConfigDict, ValidationError

from ms_core.errors import InvalidInputError


class Section(BaseModel):
    """A table of the file: frozen, without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Settings = TypeVar("Settings", bound=Section)


def load_settings(
    kind: type[Settings], default: Path, path: Path | None = None, changes: Mapping[str, Any] | None = None
) -> Settings:
    """The settings of a default file with a user's file and then further changes laid over them.

    Args:
        kind: what the file must hold.
        default: the default file; its ``version`` is the only one that can be read.
        path: of the user's file.
        changes: what is laid over both.

    Raises:
        InvalidInputError: the file is missing or no TOML, has an unknown key or an unfit value, or is for another version.
    """
    content = tomllib.loads(default.read_text(encoding="utf-8"))
    version = content["version"]
    for layer in (_read(path) if path is not None else {}, changes or {}):
        _lay_over(content, layer)
    if content["version"] != version:
        raise InvalidInputError(
            f"The configuration is for version {content['version']}; this program reads version {version}. "
            f"Compare it with {_short(default)} and change its version."
        )
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise InvalidInputError(f"The configuration's {first_fault(error)} See {_short(default)}.") from error


def first_fault(error: ValidationError) -> str:
    """Which key is wrong first, and how."""
    first = error.errors()[0]
    said = "there is no such key" if first["type"] == "extra_forbidden" else first["msg"]
    return f"{'.'.join(map(str, first['loc']))}: {said}."


def differences(one: Any, other: Any, name: str = "") -> Iterator[str]:
    """Dotted names of what differs between two settings as JSON-ready data."""
    if isinstance(one, dict) and isinstance(other, dict):
        left, right = cast("dict[str, Any]", one), cast("dict[str, Any]", other)
        for key in {*left, *right}:
            yield from differences(left.get(key), right.get(key), f"{name}.{key}" if name else key)
    elif one != other:
        yield name


def _short(default: Path) -> str:
    """Path below the folder of the rooms."""
    return default.relative_to(Path(__file__).resolve().parents[2]).as_posix()


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInputError(f"The configuration {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise InvalidInputError(f"The configuration {path} is no TOML: {error}.") from error


def _lay_over(content: dict[str, Any], layer: Mapping[str, Any]) -> None:
    """Change ``content`` in place; a part's options are exchanged as a whole, for another class takes others."""
    for key, value in layer.items():
        below = content.get(key)
        if isinstance(below, dict) and isinstance(value, Mapping) and key != "options":
            _lay_over(cast("dict[str, Any]", below), cast("Mapping[str, Any]", value))
        else:
            content[key] = value
