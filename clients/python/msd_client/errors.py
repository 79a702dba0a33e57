"""What can go wrong; every error says it in a sentence, ``detail``.

MsdError
├── PictureError          a picture cannot be read on this side
├── NoAnswerError         no answer came; ``is_lost``: the request may have arrived
├── ApiError              the service refused
│   ├── InputError            400, 413, 415, 422: something in the request; see ``errors``
│   ├── AccessError           401, 403: a key is missing or wrong
│   ├── NotFoundError         404, 410: there is no such job, or not any more
│   ├── ConflictError         409: not possible in the job's state
│   ├── RateLimitError        429: too many requests
│   └── ServiceError          5xx: the service cannot do it now
└── JobError              the job ended without pictures; see ``job``
    ├── JobFailedError
    ├── JobCanceledError
    └── JobExpiredError
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from msd_client.jobs import Job


@dataclass(frozen=True, slots=True)
class InputProblem:
    """One value of a request that cannot be used.

    Attributes:
        pointer: where it stands, such as ``/subjects/0/box`` (RFC 6901); empty for the whole request.
        detail: what is wrong and what to do.
        code: a stable name.
    """

    pointer: str
    detail: str
    code: str


class MsdError(Exception):
    """The service did not do what was asked.

    Attributes:
        detail: a sentence for the user.
        status: the HTTP status; ``None`` if there was no answer.
        code: a stable name of the problem; ``None`` if the service gave none.
        errors: all values of the request that cannot be used.
        request_id: the service's name for the request, which its logs have; ``None`` if it gave none.
        retry_after_s: seconds after which the service asks to try again; ``None`` if it does not.
    """

    def __init__(
        self,
        detail: str,
        *,
        status: int | None = None,
        code: str | None = None,
        errors: tuple[InputProblem, ...] = (),
        request_id: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status
        self.code = code
        self.errors = errors
        self.request_id = request_id
        self.retry_after_s: float | None = None

    @property
    def may_pass(self) -> bool:
        """Whether the same request may succeed in a while."""
        return False


class PictureError(MsdError):
    """A picture cannot be read on this side."""


class NoAnswerError(MsdError):
    """No answer came.

    Attributes:
        is_lost: the request may have arrived; only its answer was lost.
    """

    def __init__(self, detail: str, is_lost: bool) -> None:
        super().__init__(detail)
        self.is_lost = is_lost

    @property
    def may_pass(self) -> bool:
        """The service may be starting."""
        return True


_PASSING = (
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
)


class ApiError(MsdError):
    """The service refused."""

    @property
    def may_pass(self) -> bool:
        """Whether the status is one of those that pass."""
        return self.status in _PASSING


class InputError(ApiError):
    """Something in the request cannot be used; ``errors`` names all of it."""


class AccessError(ApiError):
    """A key is missing or wrong."""


class NotFoundError(ApiError):
    """There is no such job, or not any more."""


class ConflictError(ApiError):
    """It is not possible in the job's state."""


class RateLimitError(ApiError):
    """Too many requests."""

    @property
    def may_pass(self) -> bool:
        """Whether the service says when; a limit that names no time may never pass."""
        return self.retry_after_s is not None


class ServiceError(ApiError):
    """The service cannot do it now."""


class JobError(MsdError):
    """The job ended without pictures.

    Attributes:
        job: as it ended.
    """

    def __init__(self, job: Job) -> None:
        detail = job.error or f"The job was {job.status}; no picture was made."
        super().__init__(detail, status=job.error_status, code=job.error_code)
        self.job = job


class JobFailedError(JobError):
    """The job failed."""


class JobCanceledError(JobError):
    """Somebody canceled the job, or its time was over."""


class JobExpiredError(JobError):
    """No worker took the job in time."""


_OF_STATUS: Mapping[int, type[ApiError]] = {
    400: InputError,
    401: AccessError,
    403: AccessError,
    404: NotFoundError,
    409: ConflictError,
    410: NotFoundError,
    413: InputError,
    415: InputError,
    422: InputError,
    429: RateLimitError,
}
_OF_END: Mapping[str, type[JobError]] = {
    "failed": JobFailedError,
    "canceled": JobCanceledError,
    "expired": JobExpiredError,
}


def api_error(status: int, problem: Mapping[str, Any], request_id: str | None) -> ApiError:
    """Make the error of a problem that the service answered with (RFC 9457)."""
    kind = _OF_STATUS.get(status, ServiceError if status >= HTTPStatus.INTERNAL_SERVER_ERROR else ApiError)
    errors = tuple(
        InputProblem(item["pointer"], item["detail"], item.get("code", "")) for item in problem.get("errors", ())
    )
    return kind(
        problem["detail"],
        status=status,
        code=problem.get("code"),
        errors=errors,
        request_id=problem.get("request_id", request_id),
    )


def job_error(job: Job) -> JobError:
    """Make the error of a job that ended without pictures."""
    return _OF_END.get(job.status, JobError)(job)
