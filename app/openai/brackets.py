"""Reads ``subjects`` that a client's library flattened into fields such as ``subjects[][box][]``, if they leave no doubt."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from app.openai.reading import HOW, malformed, value_of

_BOX_NUMBERS = 4
_KEY = re.compile(r"\[([^\[\]]*)\]")
_DOUBT = f"do not say which value belongs to which subject; send subjects as one field with a JSON string: {HOW}."


class _Value(NamedTuple):
    """``place`` is the subject's number, if the field says it."""

    place: int | None
    keys: tuple[str, ...]
    is_item: bool
    text: str


def subjects_of_brackets(fields: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """Put subjects together again.

    Args:
        fields: what follows ``subjects`` in each name, such as ``[][phrase]``, and the text, in the order of the form.

    Raises:
        HTTPProblem: they could mean something else.
    """
    values = [_value(suffix, text) for suffix, text in fields]
    numbered = [value for value in values if value.place is not None]
    if len(numbered) not in (0, len(values)):
        raise _doubt()
    return _by_number(numbered) if numbered else _by_count(values)


def _value(suffix: str, text: str) -> _Value:
    place, *keys = _KEY.findall(suffix) or [""]
    is_item = bool(keys) and re.fullmatch("[0-9]*", keys[-1]) is not None
    names = tuple(keys[:-1] if is_item else keys)
    if not names or not all(re.fullmatch("[a-z_]+", name) for name in names) or not re.fullmatch("[0-9]{0,3}", place):
        raise _doubt()
    return _Value(int(place) if place else None, names, is_item, text)


def _by_number(values: Sequence[_Value]) -> list[dict[str, Any]]:
    """Each field says its subject."""
    groups: dict[int | None, list[_Value]] = defaultdict(list)
    for value in values:
        groups[value.place].append(value)
    if sorted(groups, key=lambda place: place or 0) != list(range(len(groups))):
        raise _doubt()
    return [_subject(groups[place]) for place in range(len(groups))]


def _by_count(values: Sequence[_Value]) -> list[dict[str, Any]]:
    """Each field is there as often as there are subjects, so the first of each belongs to the first subject."""
    of_key: dict[tuple[str, ...], list[_Value]] = defaultdict(list)
    for value in values:
        of_key[value.keys].append(value)
    count = len(of_key[("phrase",)])
    subjects: list[list[_Value]] = [[] for _ in range(count)]
    for keys, found in of_key.items():
        each = _BOX_NUMBERS if keys[0] == "box" else 1
        if len(found) != each * count or any(value.is_item != (keys[0] == "box") for value in found):
            raise _doubt()
        for number, value in enumerate(found):
            subjects[number // each].append(value)
    if not subjects:
        raise _doubt()
    return [_subject(found) for found in subjects]


def _subject(values: Sequence[_Value]) -> dict[str, Any]:
    subject: dict[str, Any] = {}
    for value in values:
        *path, last = value.keys
        inner = subject
        for name in path:
            inner = inner.setdefault(name, {})
            if not isinstance(inner, dict):
                raise _doubt()
        given = value.text if last in ("phrase", "prompt") else value_of(value.text)
        if value.is_item:
            items = inner.setdefault(last, [])
            if not isinstance(items, list):
                raise _doubt()
            items.append(given)
        elif last in inner:
            raise _doubt()
        else:
            inner[last] = given
    return subject


def _doubt() -> Exception:
    return malformed("subjects", f"The fields subjects[]... {_DOUBT}")
