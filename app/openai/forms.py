"""Turns the parts of a form into the document that a JSON body would be, and pictures."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, NamedTuple

from app.openai.brackets import subjects_of_brackets
from app.openai.reading import json_of, malformed, require_no_object, value_of
from app.openai.translation import OWN_FIELDS
from ms_core.errors import InvalidInputError
from ms_core.spec.declared import BROKEN_TEXT
from ms_core.spec.pictures import UPLOAD
from ms_jobs.job_request import GenerateRequest

_NAME = re.compile(r"([a-z_]+)((?:\[[^\[\]]*\])*)")
_FIELDS = {item.name for item in fields(GenerateRequest)} | OWN_FIELDS | {"phrases", "boxes"}
# Their texts are no numbers, whatever they spell.
_TEXTS = {
    "prompt",
    "negative_prompt",
    "model",
    "size",
    "user",
    "preset",
    "scheduler",
    "timestep_spacing",
    "output_format",
}
_LISTS = {"loras", "controls"}
_BOX_NUMBERS = 4

Fields = list[tuple[str, str]]


class Form(NamedTuple):
    """A form as read.

    Attributes:
        document: its fields.
        pictures: names for the pictures of subjects, in their order.
        uploads: all pictures by the names by which the document may call them.
    """

    document: dict[str, Any]
    pictures: list[str]
    uploads: dict[str, bytes]


def read_fields(parts: Iterable[tuple[str, bytes]]) -> Form:
    """Read the parts of a form, whatever types they say they have.

    ``image``, ``image[]`` and ``image[0]`` are pictures of subjects; other parts are fields, or pictures that the document
    names as ``upload:`` and the part's name.

    Raises:
        HTTPProblem: a field cannot be read.
        InvalidInputError: it is no text.
    """
    texts: dict[str, Fields] = defaultdict(list)
    pictures: list[str] = []
    uploads: dict[str, bytes] = {}
    for name, content in parts:
        match = _NAME.fullmatch(name)
        base, suffix = (match[1], match[2]) if match else (name, "")
        if base in _FIELDS:
            texts[base].append((suffix, _text(base, content)))
            continue
        key = f"image[{len(pictures)}]" if base == "image" else name
        if key in uploads:
            raise malformed(name, f"Two parts have the name {name}; give each picture its own.")
        uploads[key] = content
        if base == "image":
            pictures.append(f"{UPLOAD}{key}")
    return Form({name: _value(name, given) for name, given in texts.items()}, pictures, uploads)


def _text(name: str, content: bytes) -> str:
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise InvalidInputError(BROKEN_TEXT, f"/{name}") from error
    require_no_object(text, name)
    return text


def _value(name: str, given: Fields) -> Any:
    """The value that a field's texts stand for."""
    if name == "subjects" and any(suffix.count("[") > 1 for suffix, _ in given):
        return subjects_of_brackets(given)
    if name == "boxes" and any(suffix.count("[") > 1 for suffix, _ in given):
        return _boxes(given)
    if name in ("subjects", "phrases", "boxes"):
        values = [text for _, text in given]
        return values[0] if len(values) == 1 else values
    if name in _LISTS:
        return _list(name, given)
    if len(given) > 1 or given[0][0]:
        raise malformed(name, f"{name} is one value, and arrived in several; send it once, as {name}.")
    return given[0][1] if name in _TEXTS else value_of(given[0][1])


def _boxes(given: Fields) -> list[list[Any]]:
    """Boxes whose numbers arrived one by one, all in order."""
    numbers = [value_of(text) for _, text in given]
    if len({suffix for suffix, _ in given}) > 1 or len(numbers) % _BOX_NUMBERS:
        raise malformed("boxes", 'Send each box as one text, such as boxes[]="0.05,0.3,0.45,0.8".')
    return [numbers[start : start + _BOX_NUMBERS] for start in range(0, len(numbers), _BOX_NUMBERS)]


def _list(name: str, given: Fields) -> Any:
    if any(suffix.count("[") > 1 for suffix, _ in given):
        raise malformed(name, f"Send {name} as one JSON string, as subjects.")
    values = [json_of(text, name) for _, text in given]
    return values[0] if len(values) == 1 and isinstance(values[0], list) else values


def pictures_in(document: Mapping[str, Any]) -> list[str]:
    """The data URIs and addresses under ``image`` of a JSON body.

    Raises:
        InvalidInputError: they are no texts.
    """
    given = document.get("image")
    values: list[Any] = given if isinstance(given, list) else [] if given is None else [given]
    if not all(isinstance(value, str) for value in values):
        raise InvalidInputError("image is a data URI or an address, or a list of them.", "/image")
    return values
