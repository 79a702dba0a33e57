"""The error tree is the one drawn in its docstring."""

from __future__ import annotations

import re

import ms_core.errors
from ms_core.errors import InvalidInputError, LayoutError, MSDiffusionError


def all_errors(base: type[MSDiffusionError]) -> list[type[MSDiffusionError]]:
    below = [error for child in base.__subclasses__() for error in all_errors(child)]
    return [base, *below]


def test_the_docstring_draws_every_class_under_its_parent() -> None:
    drawn: dict[int, str] = {}
    parents: dict[str, str] = {}
    for line in (ms_core.errors.__doc__ or "").splitlines():
        match = re.match(r"^([ │├└─]*)(\w+Error)\b", line)
        if match:
            depth = len(match.group(1))
            above = [name for other, name in sorted(drawn.items()) if other < depth]
            parents[match.group(2)] = above[-1] if above else "Exception"
            drawn = {other: name for other, name in drawn.items() if other < depth} | {depth: match.group(2)}
    actual = {error.__name__: error.__bases__[0].__name__ for error in all_errors(MSDiffusionError)}
    assert parents == {name: parent for name, parent in actual.items() if name in vars(ms_core.errors)}


def test_every_class_has_its_own_code() -> None:
    codes = [error.code for error in all_errors(MSDiffusionError) if error.__module__ == "ms_core.errors"]
    assert len(set(codes)) == len(codes)


def test_a_pointer_can_be_moved_below_another() -> None:
    moved = LayoutError("no area", "/box").below("/subjects/0")
    assert isinstance(moved, LayoutError)
    assert (moved.pointer, moved.detail) == ("/subjects/0/box", "no area")


def test_a_pointer_may_be_absent() -> None:
    assert InvalidInputError("what").pointer == ""
