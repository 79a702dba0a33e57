"""The authors' prompt tables, read from the syntax tree of their file: none of its code runs.

A statement gives a table a name. Its value is made of literals, lists, tuples and dictionaries, and of names of tables that
stand above it; anything else is refused with its line.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ms_core.errors import InvalidInputError, LayoutError
from ms_core.spec import Box

CLASSES, BOXES, PROMPTS = "data_class_dict", "subject_combination_boxes", "subject_combination_prompts"
COMBINATIONS = ("two_subject_combinations", "three_subject_combinations")

_MOST_BYTES = 1_000_000
_NAME = re.compile(r"[\w-]+")
_PLACE = re.compile(r"\{(.*?)\}")
_KINDS = {
    CLASSES: TypeAdapter(dict[str, str]),
    COMBINATIONS[0]: TypeAdapter(list[str]),
    COMBINATIONS[1]: TypeAdapter(list[str]),
    BOXES: TypeAdapter(dict[str, list[tuple[float, float, float, float]]]),
    PROMPTS: TypeAdapter(dict[str, list[str]]),
}


@dataclass(frozen=True, slots=True)
class CombinationType:
    """Which types of pictures are combined, where their subjects stand, and in which prompts.

    Attributes:
        name: such as ``living_object``.
        parts: the type of each subject's picture.
        boxes: one for each subject.
        prompts: with ``{0}``, ``{1}`` and ``{2}`` where the subjects' phrases belong.
    """

    name: str
    parts: tuple[str, ...]
    boxes: tuple[Box, ...]
    prompts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Tables:
    """What the prompt file says.

    Attributes:
        phrases: of each picture, by its name without ending; in the file's order.
        types: of two subjects, then of three.
    """

    phrases: dict[str, str]
    types: tuple[CombinationType, ...]


def fill_prompt(prompt: str, phrases: tuple[str, ...]) -> str:
    """The prompt with the subjects' phrases in their places."""
    return _PLACE.sub(lambda place: phrases[int(place[1])], prompt)


def read_tables(path: Path) -> Tables:
    """The tables of a prompt file.

    Raises:
        InvalidInputError: it cannot be read, holds something else than tables, lacks one, or one does not fit the others.
    """
    found = _evaluate(path)
    checked = {name: _check(path, name, found) for name in _KINDS}
    for name in checked[CLASSES]:
        if not _NAME.fullmatch(name):
            raise InvalidInputError(f"{path}: {name!r} in {CLASSES} is no name of a picture.")
    names = [name for table in COMBINATIONS for name in checked[table]]
    return Tables(checked[CLASSES], tuple(_type(path, name, checked) for name in dict.fromkeys(names)))


def _evaluate(path: Path) -> dict[str, Any]:
    """Every table of a file, by its name."""
    tables: dict[str, Any] = {}
    try:
        for statement in _parse(path).body:
            if _is_text(statement):
                continue
            name, value = _assigned(statement)
            tables[name] = _value(value, tables)
    except _RefusedError as error:
        raise InvalidInputError(
            f"{path}, line {error.line}: {error.detail} The file of prompts may hold nothing but tables of literals."
        ) from error
    except (RecursionError, MemoryError) as error:
        raise InvalidInputError(f"{path} is nested too deeply to be a file of prompts.") from error
    return tables


def _parse(path: Path) -> ast.Module:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InvalidInputError(f"{path} is too large to be a file of prompts.")
        return ast.parse(path.read_bytes())
    except OSError as error:
        raise InvalidInputError(f"The file of prompts {path} cannot be read: {error.strerror}.") from error
    except SyntaxError as error:
        raise _RefusedError(error.lineno or 1, "this is no Python.") from error
    except ValueError as error:
        raise _RefusedError(1, f"this is no Python: {error}.") from error


class _RefusedError(Exception):
    """Something that is no table of literals, and its line."""

    def __init__(self, line: int, detail: str) -> None:
        super().__init__(detail)
        self.line, self.detail = line, detail


def _is_text(statement: ast.stmt) -> bool:
    """Whether it is a docstring."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _assigned(statement: ast.stmt) -> tuple[str, ast.expr]:
    """The name and the value of a statement that names a table."""
    targets: list[ast.expr] = []
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign):
        targets = [statement.target]
    value = getattr(statement, "value", None)
    if len(targets) != 1 or not isinstance(targets[0], ast.Name) or not isinstance(value, ast.expr):
        raise _RefusedError(statement.lineno, f"{type(statement).__name__} is not read.")
    return targets[0].id, value


def _value(node: ast.expr, tables: dict[str, Any]) -> Any:
    """What an expression comes to."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        number = _number(node.operand)
        if number is not None:
            return -number
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(item, tables) for item in node.elts]
    if isinstance(node, ast.Dict):
        return dict(_entry(key, value, tables) for key, value in zip(node.keys, node.values, strict=True))
    if isinstance(node, ast.Name) and node.id in tables:
        return tables[node.id]
    if isinstance(node, ast.Name):
        raise _RefusedError(node.lineno, f"no table above is called {node.id}.")
    raise _RefusedError(node.lineno, f"{type(node).__name__} is not read.")


def _number(node: ast.expr) -> int | float | None:
    """The literal number that an expression is, if it is one."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)) else None


def _entry(key: ast.expr | None, value: ast.expr, tables: dict[str, Any]) -> tuple[Any, Any]:
    """An entry of a dictionary, whose key is a literal."""
    if not isinstance(key, ast.Constant):
        raise _RefusedError(value.lineno, "a key must be a literal.")
    return key.value, _value(value, tables)


def _check(path: Path, name: str, found: dict[str, Any]) -> Any:
    """A table of the kind that it should be."""
    if name not in found:
        raise InvalidInputError(f"{path} has no table {name}; is it the authors' file of prompts?")
    try:
        return _KINDS[name].validate_python(found[name])
    except ValidationError as error:
        first = error.errors()[0]
        place = "".join(f"[{part!r}]" for part in first["loc"])
        raise InvalidInputError(f"{path}: {name}{place}: {first['msg']}.") from error


def _type(path: Path, name: str, tables: dict[str, Any]) -> CombinationType:
    parts = tuple(name.split("_"))
    for table in (BOXES, PROMPTS):
        if not tables[table].get(name):
            raise InvalidInputError(f"{path}: {table} has nothing for {name}.")
    if not all(_NAME.fullmatch(part) for part in parts) or len(tables[BOXES][name]) != len(parts):
        raise InvalidInputError(f"{path}: {name} must name one type of picture for each of its boxes, joined by _.")
    for prompt in tables[PROMPTS][name]:
        places = sorted({*_PLACE.findall(prompt)})
        if places != [str(number) for number in range(len(parts))] or re.search(r"[{}]", _PLACE.sub("", prompt)):
            raise InvalidInputError(
                f"{path}: the prompt {prompt!r} must have {{0}} to {{{len(parts) - 1}}}, and no other braces."
            )
    try:
        boxes = tuple(Box(*box) for box in tables[BOXES][name])
    except LayoutError as error:
        raise InvalidInputError(f"{path}: {BOXES}, {name}: {error.detail}") from error
    return CombinationType(name, parts, boxes, tuple(tables[PROMPTS][name]))
