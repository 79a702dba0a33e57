"""Parses a body into a request, checking each value alone, so that one pass reports all errors."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass

from pydantic import ValidationError

from app.requests.pictures import PictureLimits, SentPictures
from app.requests.sizes import PictureSizes
from app.requests.turns import Turn
from app.service.errors import HTTPProblem, InvalidRequestError
from app.service.problems import BODY_TOO_LARGE, MALFORMED_JSON
from ms_core.errors import PictureTooLargeError
from ms_core.spec import Pictures
from ms_core.spec.declared import invalid_inputs
from ms_jobs.job_request import REQUEST, GenerateRequest

# Lists, objects and commas of a body; the largest request has a few thousand, and base64 has none.
MAX_VALUES = 50_000
HALF_A_CHARACTER = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class SentRequest:
    """A request as sent: its values, each checked alone, and its pictures."""

    request: GenerateRequest
    pictures: SentPictures


def parse_request(body: bytes, limits: PictureLimits, turn: Turn | None = None) -> SentRequest:
    """Check each value of a JSON body alone, and decode its pictures, in the turns of ``turn``.

    Raises:
        ClientLeftError: nobody waits for the request.
        HTTPProblem: the body is not JSON, or holds too many values.
        InvalidRequestError: with all errors.
    """
    turn = turn or Turn()
    turn.require_client()
    _check_count(body)
    _check_total(body, limits)
    pictures = SentPictures(limits, turn)
    try:
        return SentRequest(_read(body, pictures), pictures)
    except ValidationError as error:
        raise InvalidRequestError(invalid_inputs(error, GenerateRequest)) from error


def _check_count(body: bytes) -> None:
    """Refuse, before anything is built, a body of so many values that building them would take seconds."""
    left = MAX_VALUES
    for mark in (b"[", b"{", b","):
        # A search passes over a picture's base64 many times faster than a count.
        at = body.find(mark)
        while at >= 0:
            left -= 1
            if left < 0:
                detail = f"The body holds more than {MAX_VALUES} values; no request needs so many."
                raise HTTPProblem(BODY_TOO_LARGE, detail)
            at = body.find(mark, at + 1)


def _check_total(body: bytes, limits: PictureLimits) -> None:
    """Refuse, before anything is decoded, pictures that are too large together."""
    sizes = PictureSizes(limits.max_pixels)
    # What else is wrong is found when the pictures are read.
    with suppress(ValidationError, HTTPProblem):
        _read(body, sizes)
    if sizes.pixels > limits.max_total:
        detail = f"The pictures have {sizes.pixels} pixels together, more than the limit of {limits.max_total}"
        raise InvalidRequestError([PictureTooLargeError(f"{detail}; send smaller or fewer ones.")])


def _read(body: bytes, pictures: Pictures) -> GenerateRequest:
    try:
        return REQUEST.validate_json(body, context=pictures)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        if first["type"] != "json_invalid":
            raise
        reason = first["msg"].removeprefix("Invalid JSON: ")
    try:
        # Takes a byte order mark and UTF-16, too.
        text = json.dumps(json.loads(body), ensure_ascii=False)
    except (ValueError, RecursionError) as error:
        raise HTTPProblem(MALFORMED_JSON, f"The body is not valid JSON: {reason}.") from error
    # JSON's grammar allows half an emoji, as string functions cut it. A NUL in its place reaches the check of the field.
    return REQUEST.validate_json(HALF_A_CHARACTER.sub(r"\\u0000", text), context=pictures)
