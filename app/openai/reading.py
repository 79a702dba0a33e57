"""Reads JSON from texts, and says clearly what a client's library has made of a nested value."""

from __future__ import annotations

import json
from typing import Any

from app.service.errors import HTTPProblem
from app.service.problems import MALFORMED_FIELD

HOW = "in Python json.dumps(subjects), in JavaScript JSON.stringify(subjects)"
_OBJECT = "[object Object]"


def json_of(text: str, field: str) -> Any:
    """Parse the JSON that a field holds.

    Raises:
        HTTPProblem: it is none.
    """
    require_no_object(text, field)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise malformed(field, f"{field} is not valid JSON; send it as one JSON string: {HOW}.") from error


def value_of(text: str) -> Any:
    """The number, boolean, null, list or object that a text spells, else the text: forms know texts alone."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def require_no_object(value: Any, field: str) -> None:
    """Refuse what JavaScript writes for an object where a text is due.

    Raises:
        HTTPProblem: with how to send it.
    """
    if value == _OBJECT:
        detail = f"{field} arrived as {_OBJECT}: your client turned objects into texts. Send one JSON string: {HOW}."
        raise malformed(field, detail)


def malformed(field: str, detail: str) -> HTTPProblem:
    """Make the problem of a field that cannot be read."""
    return HTTPProblem(MALFORMED_FIELD, detail, pointer=f"/{field}")
