"""Maps each error to its problem type: status, code and title.

``PROBLEMS`` holds a row for each class of ``ms_core.errors``; a test fails when one is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, Field

from ms_core import errors as core
from ms_core.spec.generation import NO_PLACE

PROBLEM_JSON = "application/problem+json"
# Where the OpenAPI document holds a schema.
SCHEMA_REF = "#/components/schemas/{model}"

_UNPROCESSABLE = HTTPStatus.UNPROCESSABLE_ENTITY
_TOO_LARGE = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
_UNAVAILABLE = HTTPStatus.SERVICE_UNAVAILABLE
_TOO_MANY = HTTPStatus.TOO_MANY_REQUESTS
_TIMEOUT = HTTPStatus.GATEWAY_TIMEOUT
_INTERNAL = HTTPStatus.INTERNAL_SERVER_ERROR


@dataclass(frozen=True, slots=True)
class ProblemType:
    """A kind of problem: its stable code, HTTP status and title."""

    code: str
    status: HTTPStatus
    title: str


class ProblemItem(BaseModel):
    """One error in a request."""

    pointer: str = Field(description="RFC 6901 pointer to the value.", examples=["/subjects/0/box"])
    detail: str = Field(description="What is wrong and what to do.")
    code: str = Field(description="Stable error code.", examples=["invalid_box"])


class Problem(BaseModel):
    """An error, in the form of RFC 9457."""

    type: str = Field(description="URL that describes this kind of problem.", examples=["/problems/invalid_box"])
    title: str = Field(description="Kind of problem.", examples=["Invalid box or mask"])
    status: int = Field(description="HTTP status.", examples=[422])
    detail: str = Field(description="What is wrong and what to do.", examples=[NO_PLACE])
    instance: str = Field(description="Path of the request.", examples=["/generate"])
    code: str = Field(description="Stable error code.", examples=["invalid_box"])
    request_id: str = Field(description="`X-Request-Id` of this response.", examples=["5f0c2b1e8a7d4c0f"])
    errors: list[ProblemItem] = Field(
        default=[],
        description="All errors in the request. If they are of different kinds, such as a picture that is too large and an "
        "invalid box, the answer is 422 with the code `invalid_input`, whatever their order.",
    )


_STATUS_AND_TITLE: Mapping[type[core.MSDiffusionError], tuple[HTTPStatus, str]] = {
    core.MSDiffusionError: (_INTERNAL, "Internal error"),
    core.InvalidInputError: (_UNPROCESSABLE, "Invalid request"),
    core.LayoutError: (_UNPROCESSABLE, "Invalid box or mask"),
    core.PhraseNotFoundError: (_UNPROCESSABLE, "Phrase not in the prompt"),
    core.PictureError: (_UNPROCESSABLE, "Invalid picture"),
    core.PictureTooLargeError: (_TOO_LARGE, "Picture too large"),
    core.PictureNotFetchedError: (_UNPROCESSABLE, "Picture not fetched"),
    core.UnknownUploadError: (_UNPROCESSABLE, "Part of the form not found"),
    core.UnusedUploadError: (_UNPROCESSABLE, "Part of the form not used"),
    core.UnsupportedSchedulerError: (_UNPROCESSABLE, "Unknown scheduler"),
    core.UnknownNameError: (_UNPROCESSABLE, "Unknown name"),
    core.NoScorerError: (_UNPROCESSABLE, "The model has no scorer"),
    core.UnfitLoraError: (_UNPROCESSABLE, "LoRA does not fit the model"),
    core.BatchMismatchError: (_UNPROCESSABLE, "Requests do not fit in one batch"),
    core.ModelError: (_INTERNAL, "Model error"),
    core.ModelNotFoundError: (_INTERNAL, "Model missing or incomplete"),
    core.CheckpointError: (_INTERNAL, "Weights do not fit the model"),
    core.WrongImageEncoderError: (_INTERNAL, "Image encoder does not fit the adapter"),
    core.DownloadError: (_INTERNAL, "Model download failed"),
    core.ModelTargetError: (_INTERNAL, "Model directory cannot be written"),
    core.UnknownAttentionDataError: (_INTERNAL, "Model called with wrong data"),
    core.DeviceError: (_UNAVAILABLE, "Device failed"),
    core.DeviceOutOfMemoryError: (_UNAVAILABLE, "Device out of memory"),
    core.InsufficientMemoryError: (_UNAVAILABLE, "Not enough free memory for the model"),
    core.DeviceLostError: (_UNAVAILABLE, "Device lost"),
    core.ServiceError: (_INTERNAL, "Service error"),
    core.QueueUnavailableError: (_UNAVAILABLE, "Queue unavailable"),
    core.StorageError: (_UNAVAILABLE, "Storage error"),
    core.StorageFullError: (_UNAVAILABLE, "Storage full"),
    core.AttemptOverError: (_INTERNAL, "Attempt is over"),
    core.UnreadableJobError: (_UNAVAILABLE, "Job cannot be read"),
    core.JobNotFoundError: (HTTPStatus.NOT_FOUND, "Job not found"),
    core.JobGoneError: (HTTPStatus.GONE, "Job deleted or expired"),
    core.ImageNotFoundError: (HTTPStatus.NOT_FOUND, "Image not found"),
    core.AssetNotFoundError: (HTTPStatus.NOT_FOUND, "Asset not found"),
    core.CastNotFoundError: (HTTPStatus.NOT_FOUND, "Not in the cast"),
    core.JobConflictError: (HTTPStatus.CONFLICT, "Not possible in the job's state"),
    core.RequestMismatchError: (_UNPROCESSABLE, "Id or key used for another request"),
    core.LimitError: (_TOO_MANY, "Limit reached"),
    core.TooManyWaitingError: (_TOO_MANY, "Too many jobs of this owner wait"),
    core.QueueFullError: (_TOO_MANY, "Queue full"),
    core.StepsSpentError: (_TOO_MANY, "Picture-steps spent"),
    core.AssetsFullError: (_TOO_MANY, "Assets full"),
    core.StartupError: (_INTERNAL, "Service cannot start"),
}

PROBLEMS: Mapping[type[core.MSDiffusionError], ProblemType] = {
    error: ProblemType(error.code, status, title) for error, (status, title) in _STATUS_AND_TITLE.items()
}

# Problems of the HTTP request itself, and unexpected ones.
MALFORMED_JSON = ProblemType("malformed_json", HTTPStatus.BAD_REQUEST, "Body is not valid JSON")
BODY_TOO_LARGE = ProblemType("body_too_large", _TOO_LARGE, "Body too large")
MALFORMED_MULTIPART = ProblemType("malformed_multipart", HTTPStatus.BAD_REQUEST, "Body is not a valid form")
UNSUPPORTED_TYPE = ProblemType(
    "unsupported_media_type", HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Content type not supported"
)
MALFORMED_FIELD = ProblemType("malformed_field", HTTPStatus.BAD_REQUEST, "Field cannot be read")
UNKNOWN_MODEL = ProblemType("unknown_model", HTTPStatus.NOT_FOUND, "No such model here")
NOT_FOUND = ProblemType("not_found", HTTPStatus.NOT_FOUND, "Not found")
METHOD_NOT_ALLOWED = ProblemType("method_not_allowed", HTTPStatus.METHOD_NOT_ALLOWED, "Method not allowed")
BAD_REQUEST = ProblemType("bad_request", HTTPStatus.BAD_REQUEST, "Bad request")
MISDIRECTED = ProblemType("misdirected_request", HTTPStatus.MISDIRECTED_REQUEST, "Host not served here")
UNAUTHENTICATED = ProblemType("unauthenticated", HTTPStatus.UNAUTHORIZED, "No key that works")
MISSING_SCOPE = ProblemType("missing_scope", HTTPStatus.FORBIDDEN, "Not allowed with this key")
TOO_MANY_FAILURES = ProblemType("too_many_failures", HTTPStatus.TOO_MANY_REQUESTS, "Too many wrong keys")
FOREIGN_ORIGIN = ProblemType("foreign_origin", HTTPStatus.FORBIDDEN, "Request of a foreign web page")
TOO_MANY_SUBMITS = ProblemType("too_many_submits", _TOO_MANY, "Too many submissions")
SENT_TOO_MUCH = ProblemType("sent_too_much", _TOO_MANY, "Too much sent")
TOO_MANY_WATCHERS = ProblemType("too_many_watchers", _UNAVAILABLE, "Too many watchers")
TOO_MANY_UPLOADS = ProblemType("too_many_uploads", _UNAVAILABLE, "Too many uploads")
NO_WORKER = ProblemType("no_worker", _UNAVAILABLE, "No worker is ready")
INVALID_HEADER = ProblemType("invalid_header", HTTPStatus.BAD_REQUEST, "Invalid header")
INVALID_PARAMETER = ProblemType("invalid_parameter", HTTPStatus.BAD_REQUEST, "Invalid parameter")
INTERNAL_ERROR = ProblemType("internal_error", _INTERNAL, "Internal error")

# Further reasons for which jobs fail or expire.
START_DEADLINE_PASSED = ProblemType("start_deadline_passed", _TIMEOUT, "Job not started in time")
WAITED_TOO_LONG = ProblemType("waited_too_long", _TIMEOUT, "No worker took the job")
TIMED_OUT = ProblemType("timed_out", _TIMEOUT, "Job timed out")
WORKER_DIED = ProblemType("worker_died", _UNAVAILABLE, "Worker died")

HTTP_PROBLEMS = (
    MALFORMED_JSON,
    BODY_TOO_LARGE,
    MALFORMED_MULTIPART,
    UNSUPPORTED_TYPE,
    MALFORMED_FIELD,
    UNKNOWN_MODEL,
    NOT_FOUND,
    METHOD_NOT_ALLOWED,
    BAD_REQUEST,
    MISDIRECTED,
    UNAUTHENTICATED,
    MISSING_SCOPE,
    TOO_MANY_FAILURES,
    FOREIGN_ORIGIN,
    TOO_MANY_SUBMITS,
    SENT_TOO_MUCH,
    TOO_MANY_WATCHERS,
    TOO_MANY_UPLOADS,
    NO_WORKER,
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
    """Find the problem type of an error; a class that has no row gets its nearest base's."""
    return next(PROBLEMS[base] for base in type(error).__mro__ if base in PROBLEMS)


def problem_of_code(code: str) -> ProblemType | None:
    """Find the problem type of a code, such as a failed job carries; ``None`` if unknown."""
    return _PROBLEM_OF_CODE.get(code)


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Make the OpenAPI responses of an endpoint that answers with these problems, or an unexpected one."""
    content = {PROBLEM_JSON: {"schema": {"$ref": SCHEMA_REF.format(model="Problem")}}}
    known = {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}
    return {**known, "default": {"description": "Any other problem", "content": content}}
