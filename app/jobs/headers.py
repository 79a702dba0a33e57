"""Parses and checks the request headers of the API."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from app.service.errors import HTTPProblem
from app.service.problems import INVALID_HEADER

MAX_WAIT_S = 60
MAX_DURATION_S = 30 * 24 * 3600
RESPOND_ASYNC = "respond-async"

_SECONDS_OF_UNIT = {"": 1, "s": 1, "m": 60, "h": 3600}
_DURATION = re.compile(r"([0-9]{1,9})([smh]?)")
_IDEMPOTENCY_KEY = re.compile(r"[!-~]{1,255}")
_WAIT = re.compile(r"wait\s*=\s*\"?([0-9]{1,9})\"?", re.IGNORECASE)
_ENTITY_TAG = re.compile(r'(?:W/)?"([^"]*)"')


def _up_to(largest: int) -> str:
    """A pattern of the whole numbers from 1 to ``largest``, which has several digits."""
    digits = str(largest)
    choices = [f"[1-9][0-9]{{0,{len(digits) - 2}}}"]
    for place, digit in enumerate(digits):
        lowest = 0 if place else 1
        if int(digit) > lowest:
            choices.append(f"{digits[:place]}[{lowest}-{int(digit) - 1}][0-9]{{{len(digits) - place - 1}}}")
    return f"({'|'.join([*choices, digits])})"


# Of durations within the limit, for the document: the parser also takes blanks and leading zeros.
_SECONDS, _MINUTES, _HOURS = (_up_to(MAX_DURATION_S // _SECONDS_OF_UNIT[unit]) for unit in "smh")
DURATION_PATTERN = f"^({_SECONDS}[sS]?|{_MINUTES}[mM]|{_HOURS}[hH])$"


@dataclass(frozen=True, slots=True)
class Preference:
    """How a client wants to be answered: ``Prefer`` of RFC 7240.

    Attributes:
        wait_s: how long the answer may wait for the job to end, in seconds.
        applied: the preference applied, for ``Preference-Applied``; ``None``: none.
    """

    wait_s: int = 0
    applied: str | None = None


def parse_preference(value: str | None) -> Preference:
    """Parse ``Prefer``; all but ``wait`` and ``respond-async`` is ignored, as the RFC asks."""
    tokens = [part.partition(";")[0].strip() for part in (value or "").split(",")]
    for token in tokens:
        match = _WAIT.fullmatch(token)
        if match:
            wait_s = min(int(match[1]), MAX_WAIT_S)
            return Preference(wait_s, f"wait={wait_s}")
    if any(token.lower() == RESPOND_ASYNC for token in tokens):
        return Preference(0, RESPOND_ASYNC)
    return Preference()


def parse_duration(name: str, value: str | None) -> int | None:
    """Parse a header such as ``Cancel-After: 5m`` into seconds; ``None`` if it is missing.

    Raises:
        HTTPProblem: it is not a duration, or out of range.
    """
    if value is None:
        return None
    match = _DURATION.fullmatch(value.strip().lower())
    seconds = int(match[1]) * _SECONDS_OF_UNIT[match[2]] if match else 0
    if not 1 <= seconds <= MAX_DURATION_S:
        detail = (
            f"{name} must be a whole number of seconds, minutes or hours, such as 30, 30s, 5m or 1h: at least 1 second"
        )
        raise HTTPProblem(INVALID_HEADER, f"{detail} and at most 30 days.")
    return seconds


def parse_idempotency_key(value: str | None) -> str | None:
    """Hash an ``Idempotency-Key`` as it is stored: SHA-256 in hexadecimal; ``None`` if it is missing.

    Raises:
        HTTPProblem: it is empty, too long, or not all visible ASCII.
    """
    if value is None:
        return None
    if not _IDEMPOTENCY_KEY.fullmatch(value):
        detail = "Idempotency-Key must be 1 to 255 visible ASCII characters without spaces, such as a UUID."
        raise HTTPProblem(INVALID_HEADER, detail)
    return hashlib.sha256(value.encode()).hexdigest()


def is_match(if_none_match: str | None, etag: str) -> bool:
    """Whether ``If-None-Match`` names this entity tag, by the weak comparison of RFC 9110."""
    if if_none_match is None:
        return False
    return if_none_match.strip() == "*" or etag.removeprefix("W/").strip('"') in _ENTITY_TAG.findall(if_none_match)
