"""Which error gets which status, code and title; free of everything that answers a request.

``PROBLEMS`` holds a row for each class of ``ms_core.errors``; a test fails when one is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, Field

from ms_core import errors as core

PROBLEM_JSON = "application/problem+json"
# Where the OpenAPI document holds a schema.
SCHEMA_REF = "#/components/schemas/{model}"

_UNPROCESSABLE = HTTPStatus.UNPROCESSABLE_ENTITY
_TOO_LARGE = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
_UNAVAILABLE = HTTPStatus.SERVICE_UNAVAILABLE
_TIMEOUT = HTTPStatus.GATEWAY_TIMEOUT
_INTERNAL = HTTPStatus.INTERNAL_SERVER_ERROR


@dataclass(frozen=True, slots=True)
class ProblemType:
    """One kind of problem: its stable code, its HTTP status, and what it means in general."""

    code: str
    status: HTTPStatus
    title: str


class ProblemItem(BaseModel):
    """One thing that is wrong in a request."""

    pointer: str = Field(description="RFC 6901 pointer to the value in the request.", examples=["/subjects/0/box"])
    detail: str = Field(description="What is wrong with it and what to do.")
    code: str = Field(description="Stable name of the error.", examples=["invalid_box"])


class Problem(BaseModel):
    """An error, as RFC 9457 writes it."""

    type: str = Field(description="Where this kind of problem is described.", examples=["/problems/invalid_box"])
    title: str = Field(description="The kind of problem.", examples=["A box or a mask cannot be used"])
    status: int = Field(description="The HTTP status.", examples=[422])
    detail: str = Field(
        description="What is wrong here and what to do.",
        examples=["This subject has no box; give one, or ask for the auto layout."],
    )
    instance: str = Field(description="The path that was asked for.", examples=["/generate"])
    code: str = Field(description="Stable name of the error.", examples=["invalid_box"])
    request_id: str = Field(description="The X-Request-Id of this response.", examples=["5f0c2b1e8a7d4c0f"])
    errors: list[ProblemItem] = Field(default=[], description="Everything that is wrong in the request.")


_STATUS_AND_TITLE: Mapping[type[core.MSDiffusionError], tuple[HTTPStatus, str]] = {
    core.MSDiffusionError: (_INTERNAL, "Something failed"),
    core.InvalidInputError: (_UNPROCESSABLE, "The request cannot be used"),
    core.LayoutError: (_UNPROCESSABLE, "A box or a mask cannot be used"),
    core.PhraseNotFoundError: (_UNPROCESSABLE, "A phrase is not in the prompt"),
    core.PictureError: (_UNPROCESSABLE, "A picture cannot be used"),
    core.PictureTooLargeError: (_TOO_LARGE, "A picture has too many pixels"),
    core.UnsupportedSchedulerError: (_UNPROCESSABLE, "No such scheduler"),
    core.UnknownNameError: (_UNPROCESSABLE, "The model has nothing of this name"),
    core.NoScorerError: (_UNPROCESSABLE, "The model cannot score its pictures"),
    core.UnfitLoraError: (_UNPROCESSABLE, "A LoRA does not fit the model"),
    core.BatchMismatchError: (_UNPROCESSABLE, "The requests do not fit into one batch"),
    core.ModelError: (_INTERNAL, "The model cannot be used"),
    core.ModelNotFoundError: (_INTERNAL, "The model is missing or incomplete"),
    core.CheckpointError: (_INTERNAL, "The weights do not fit the model"),
    core.WrongImageEncoderError: (_INTERNAL, "The image encoder does not fit the adapter"),
    core.DownloadError: (_INTERNAL, "Files of the model cannot be fetched"),
    core.ModelTargetError: (_INTERNAL, "The model directory cannot be written"),
    core.UnknownAttentionDataError: (_INTERNAL, "The model was called wrongly"),
    core.DeviceError: (_UNAVAILABLE, "A device failed"),
    core.DeviceOutOfMemoryError: (_UNAVAILABLE, "A device has too little memory"),
    core.InsufficientMemoryError: (_UNAVAILABLE, "The model does not fit into the memory that is free"),
    core.DeviceLostError: (_UNAVAILABLE, "A device was lost"),
    core.ServiceError: (_INTERNAL, "A part of the service failed"),
    core.QueueUnavailableError: (_UNAVAILABLE, "The queue cannot be reached"),
    core.StorageError: (_UNAVAILABLE, "The storage cannot be used"),
    core.StorageFullError: (_UNAVAILABLE, "The storage is full"),
    core.AttemptOverError: (_INTERNAL, "An attempt came too late"),
    core.JobNotFoundError: (HTTPStatus.NOT_FOUND, "No such job"),
    core.JobGoneError: (HTTPStatus.GONE, "The job is no longer kept"),
    core.ImageNotFoundError: (HTTPStatus.NOT_FOUND, "No such image"),
    core.JobConflictError: (HTTPStatus.CONFLICT, "The job's state forbids this"),
    core.RequestMismatchError: (_UNPROCESSABLE, "The id or key stands for another request"),
    core.StartupError: (_INTERNAL, "The service cannot start"),
}

PROBLEMS: Mapping[type[core.MSDiffusionError], ProblemType] = {
    error: ProblemType(error.code, status, title) for error, (status, title) in _STATUS_AND_TITLE.items()
}

# What can be wrong with a request as HTTP, whatever it asks for.
MALFORMED_JSON = ProblemType("malformed_json", HTTPStatus.BAD_REQUEST, "The body is not JSON")
BODY_TOO_LARGE = ProblemType("body_too_large", _TOO_LARGE, "The body is too large")
NOT_JSON = ProblemType("unsupported_media_type", HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "The content type is not JSON")
NOT_FOUND = ProblemType("not_found", HTTPStatus.NOT_FOUND, "Nothing is here")
METHOD_NOT_ALLOWED = ProblemType("method_not_allowed", HTTPStatus.METHOD_NOT_ALLOWED, "Another method is needed here")
BAD_REQUEST = ProblemType("bad_request", HTTPStatus.BAD_REQUEST, "The request cannot be read")
TOO_MANY_WATCHERS = ProblemType("too_many_watchers", _UNAVAILABLE, "Too many clients watch jobs")
INVALID_HEADER = ProblemType("invalid_header", HTTPStatus.BAD_REQUEST, "A header cannot be used")
INVALID_PARAMETER = ProblemType("invalid_parameter", HTTPStatus.BAD_REQUEST, "A part of the address cannot be used")
INTERNAL_ERROR = ProblemType("internal_error", _INTERNAL, "The service made a mistake")

# Why jobs end without a picture, beside the errors above.
START_DEADLINE_PASSED = ProblemType("start_deadline_passed", _TIMEOUT, "The job did not begin in time")
WAITED_TOO_LONG = ProblemType("waited_too_long", _TIMEOUT, "No worker took the job")
TIMED_OUT = ProblemType("timed_out", _TIMEOUT, "The job took too long")
WORKER_DIED = ProblemType("worker_died", _UNAVAILABLE, "The worker died")

HTTP_PROBLEMS = (
    MALFORMED_JSON,
    BODY_TOO_LARGE,
    NOT_JSON,
    NOT_FOUND,
    METHOD_NOT_ALLOWED,
    BAD_REQUEST,
    TOO_MANY_WATCHERS,
    INVALID_HEADER,
    INVALID_PARAMETER,
    INTERNAL_ERROR,
    START_DEADLINE_PASSED,
    WAITED_TOO_LONG,
    TIMED_OUT,
    WORKER_DIED,
)

_PROBLEM_OF_CODE = {problem.code: problem for problem in (*PROBLEMS.values(), *HTTP_PROBLEMS)}


def problem_of(error: core.MSDiffusionError) -> ProblemType:
    """The kind of problem an error is; a class without a row of its own takes its nearest base's."""
    return next(PROBLEMS[base] for base in type(error).__mro__ if base in PROBLEMS)


def problem_of_code(code: str) -> ProblemType | None:
    """The kind of problem with a code, such as the one a failed job carries; ``None`` if there is none."""
    return _PROBLEM_OF_CODE.get(code)


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI responses of an endpoint that answers with these problems, or with an unexpected one."""
    content = {PROBLEM_JSON: {"schema": {"$ref": SCHEMA_REF.format(model="Problem")}}}
    known = {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}
    return {**known, "default": {"description": "Any other problem", "content": content}}
