"""Parses a body into a request, checking each value alone, so that one pass reports all errors."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from app.requests.decoding import PictureLimits, check_total
from app.requests.pictures import SentPictures
from app.requests.sizes import PictureSizes
from app.requests.sources import PictureSources
from app.requests.turns import Turn
from app.service.errors import HTTPProblem, InvalidRequestError
from app.service.problems import BODY_TOO_LARGE, MALFORMED_JSON
from ms_core.errors import AssetNotFoundError, CastNotFoundError, InvalidInputError, PictureNotFetchedError
from ms_core.spec import Pictures
from ms_core.spec.declared import invalid_inputs
from ms_jobs.job_request import GenerateRequest

Parsed = TypeVar("Parsed")

# Lists, objects and commas of a body; the largest request has a few thousand, and base64 has none.
MAX_VALUES = 50_000
_NOT_KEPT = (AssetNotFoundError.code, CastNotFoundError.code, PictureNotFetchedError.code)
HALF_A_CHARACTER = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class SentRequest:
    """A request as sent: its values, each checked alone, and its pictures.

    Attributes:
        sent_hash: SHA-256 of what was sent; ``None`` if nothing in it can be gone when it is sent again.
    """

    request: GenerateRequest
    pictures: SentPictures
    sent_hash: str | None = None


class UnresolvedRequestError(InvalidRequestError):
    """All that is wrong with a request is that something it names is not kept here or at its address, or no longer.

    Attributes:
        sent_hash: as in ``SentRequest``; if the request was taken before, this is a repeat.
    """

    def __init__(self, errors: Sequence[InvalidInputError], sent_hash: str) -> None:
        super().__init__(errors)
        self.sent_hash = sent_hash


def measure_request(body: bytes, limits: PictureLimits, sources: PictureSources | None = None) -> int:
    """As ``measure_body``, of a request; by default it may bring data URIs alone."""
    return measure_body(body, GenerateRequest, limits, sources or PictureSources())


def measure_body(body: bytes, of: type[Parsed], limits: PictureLimits, sources: PictureSources) -> int:
    """Count the pixels of all pictures of a JSON body by their headers, before anything is decoded.

    Args:
        of: declared class of the body.
        sources: of its pictures.

    Raises:
        HTTPProblem: the body holds too many values.
        InvalidRequestError: the pictures are too large together.
    """
    check_count(body)
    sizes = PictureSizes(limits.max_pixels, sources)
    # What else is wrong is found when the pictures are read.
    with suppress(ValidationError, HTTPProblem):
        read_json(body, of, sizes)
    check_total(sizes.pixels, limits)
    return sizes.pixels


def parse_request(
    body: bytes, limits: PictureLimits, turn: Turn | None = None, sources: PictureSources | None = None
) -> SentRequest:
    """Check each value of a JSON body alone, and decode its pictures, in the turns of ``turn``.

    Args:
        body: which ``measure_request`` has passed.
        sources: as there.

    Raises:
        ClientLeftError: nobody waits for the request.
        HTTPProblem: the body is not JSON.
        InvalidRequestError: with all errors.
        UnresolvedRequestError: with all errors.
    """
    sources = sources or PictureSources()
    try:
        request, pictures = parse_body(body, GenerateRequest, limits, turn or Turn(), sources)
    except InvalidRequestError as error:
        if all(item.code in _NOT_KEPT for item in error.errors):
            raise UnresolvedRequestError(error.errors, _hash_as_sent(body, sources)) from error
        raise
    return SentRequest(request, pictures, _hash_as_sent(body, sources) if sources.names_kept else None)


def parse_body(
    body: bytes, of: type[Parsed], limits: PictureLimits, turn: Turn, sources: PictureSources
) -> tuple[Parsed, SentPictures]:
    """Read an object of a declared class from JSON, and its pictures.

    Args:
        body: which ``measure_body`` has passed.

    Raises:
        ClientLeftError: nobody waits for it.
        HTTPProblem: the body is not JSON.
        InvalidRequestError: with all errors.
    """
    turn.require_client()
    pictures = SentPictures(limits, turn, sources)
    try:
        parsed = read_json(body, of, pictures)
    except ValidationError as error:
        raise InvalidRequestError(invalid_inputs(error, of)) from error
    if unused := sources.unused():
        raise InvalidRequestError(unused)
    return parsed, pictures


def _hash_as_sent(body: bytes, sources: PictureSources) -> str:
    """Hash a request by its names, not by what they stand for: that may change, or go."""
    text = json.dumps([json.loads(body), sources.part_hashes()], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def check_count(body: bytes) -> None:
    """Refuse, before anything is built, a body of so many values that building them would take seconds.

    Raises:
        HTTPProblem: it has more than ``MAX_VALUES``.
    """
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


def read_json(body: bytes, of: type[Parsed], pictures: Pictures | None = None) -> Parsed:
    """Read an object of a declared class, as forgivingly as the grammar of JSON allows.

    Raises:
        HTTPProblem: it is not JSON.
        pydantic.ValidationError: a value is wrong.
    """
    adapter = _adapter(of)
    try:
        return adapter.validate_json(body, context=pictures)
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
    try:
        return adapter.validate_json(HALF_A_CHARACTER.sub(r"\\u0000", text), context=pictures)
    except ValidationError as error:
        if any(item["type"] == "json_invalid" for item in error.errors(include_url=False, include_input=False)):
            # Nested deeper than is read here.
            raise HTTPProblem(MALFORMED_JSON, f"The body is not valid JSON: {reason}.") from error
        raise


@cache
def _adapter(of: type[Parsed]) -> TypeAdapter[Parsed]:
    return TypeAdapter(of)
