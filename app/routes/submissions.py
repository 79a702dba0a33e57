"""Ask for a picture: the three ways to a new job."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from app.dependencies import SentRequestDependency, SubmissionsDependency, WaitingDependency
from app.documentation import REQUEST_BODY, problem_responses
from app.headers import Preference
from app.parameters import JobId, KeyedWishes, NamedWishes, PreferenceHeader
from app.routes.answers import PREFERENCE_APPLIED, REPLAYED, job_answer, job_response, own_url
from app.schemas import JobResource
from app.submissions import Submitted
from app.waiting import Waiting

_HEADERS = ("Location", "ETag", PREFERENCE_APPLIED, REPLAYED)


def _responses(*problems: int) -> dict[int | str, dict[str, Any]]:
    return {
        200: job_response("It has ended: within `Prefer: wait`, or earlier if this is a repeat.", *_HEADERS),
        202: job_response("It is accepted.", *_HEADERS, "Retry-After"),
        **problem_responses(*problems),
    }


router = APIRouter(tags=["jobs"])


@router.post(
    "/generate",
    status_code=HTTPStatus.ACCEPTED,
    operation_id="generate",
    summary="Ask for a picture",
    response_model=JobResource,
    responses=_responses(400, 413, 415, 422, 503),
    openapi_extra={"requestBody": REQUEST_BODY},
)
async def generate(  # noqa: PLR0913 - each argument is a part of the request
    wishes: KeyedWishes,
    preference: PreferenceHeader,
    sent: SentRequestDependency,
    submissions: SubmissionsDependency,
    waiting: WaitingDependency,
    request: Request,
) -> Response:
    """Queue a picture to be made. The answer comes at once, unless `Prefer: wait=N` says that it may wait for the end.

    Follow the job at the address in `Location`. With an `Idempotency-Key` a request that was sent twice makes one job:
    the second answer has `Idempotency-Replayed: true`, and another request with the same key is refused with 422.
    """
    submitted = await run_in_threadpool(submissions.submit, sent, wishes)
    return await _answer(submitted, preference, waiting, request)


@router.put(
    "/jobs/{job_id}",
    status_code=HTTPStatus.ACCEPTED,
    operation_id="put_job",
    summary="Ask for a picture, under an id of your choice",
    response_model=JobResource,
    responses=_responses(400, 410, 413, 415, 422, 503),
    openapi_extra={"requestBody": REQUEST_BODY},
)
async def put_job(  # noqa: PLR0913 - each argument is a part of the request
    wishes: NamedWishes,
    preference: PreferenceHeader,
    sent: SentRequestDependency,
    submissions: SubmissionsDependency,
    waiting: WaitingDependency,
    request: Request,
) -> Response:
    """As `POST /generate`, and safe to repeat: however often and by how many at once, there is one job of this id.

    A repeat is answered with the job as it stands and `Idempotency-Replayed: true`: 202 until it has ended, then 200.
    Its other headers change nothing. Another request under the same id is refused with 422; the id of a job that was
    deleted or is over its lifetime with 410.
    """
    submitted = await run_in_threadpool(submissions.submit, sent, wishes)
    return await _answer(submitted, preference, waiting, request)


@router.post(
    "/jobs/{job_id}/retry",
    status_code=HTTPStatus.ACCEPTED,
    operation_id="retry_job",
    summary="Run a job once more",
    response_model=JobResource,
    responses=_responses(400, 404, 409, 410, 422, 503),
)
async def retry_job(  # noqa: PLR0913 - each argument is a part of the request
    job_id: JobId,
    wishes: KeyedWishes,
    preference: PreferenceHeader,
    submissions: SubmissionsDependency,
    waiting: WaitingDependency,
    request: Request,
) -> Response:
    """A new job with the same request and the same seed, whatever became of the old one; 409 until that has ended.

    The new job keeps pictures of its own: the old one can be deleted.
    """
    submitted = await run_in_threadpool(submissions.retry, job_id, wishes)
    return await _answer(submitted, preference, waiting, request)


async def _answer(submitted: Submitted, preference: Preference, waiting: Waiting, request: Request) -> Response:
    """The job, as soon as it has ended or the client wants to wait no longer."""
    view = await waiting.for_end_of_accepted(submitted.record, preference.wait_s, request.is_disconnected)
    headers = {"Location": own_url(view, request)}
    if submitted.replayed:
        headers[REPLAYED] = "true"
    if preference.applied is not None:
        headers[PREFERENCE_APPLIED] = preference.applied
    # A client that did not ask to wait need not expect 200, however fast the job was.
    is_awaited = submitted.replayed or preference.wait_s > 0
    status = HTTPStatus.OK if is_awaited and view.record.state.ended else HTTPStatus.ACCEPTED
    return job_answer(view, request, status, headers)
