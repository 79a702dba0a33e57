"""Parses a body into a request, checking each value alone, so that one pass reports all errors."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError

from app.requests.pictures import PictureLimits, SentPictures
from app.service.errors import HTTPProblem, InvalidRequestError
from app.service.problems import MALFORMED_JSON
from ms_core.spec.declared import invalid_inputs
from ms_jobs.job_request import REQUEST, GenerateRequest


@dataclass(frozen=True, slots=True)
class SentRequest:
    """A request as sent: its values, each checked alone, and its pictures."""

    request: GenerateRequest
    pictures: SentPictures


def parse_request(body: bytes, limits: PictureLimits) -> SentRequest:
    """Check each value of a JSON body alone, and decode its pictures.

    Raises:
        HTTPProblem: the body is not JSON.
        InvalidRequestError: with all errors.
    """
    pictures = SentPictures(limits)
    try:
        return SentRequest(REQUEST.validate_json(body, context=pictures), pictures)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        if first["type"] == "json_invalid":
            reason = first["msg"].removeprefix("Invalid JSON: ")
            raise HTTPProblem(MALFORMED_JSON, f"The body is not valid JSON: {reason}.") from error
        raise InvalidRequestError(invalid_inputs(error)) from error
