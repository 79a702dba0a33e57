"""Job endpoints: submit, read, list, fetch pictures, cancel, retry, delete."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from app.auth.signatures import SignaturesDependency
from app.jobs.headers import MAX_WAIT_S, Preference, is_match
from app.jobs.list import JobListDependency
from app.jobs.manage import JobsDependency
from app.jobs.parameters import (
    IfNoneMatch,
    ImageIndex,
    JobId,
    KeyedOptions,
    NamedOptions,
    PageCursor,
    PictureHash,
    PreferenceHeader,
    Signed,
    States,
    SubjectIndex,
    WaitSeconds,
)
from app.jobs.read import Reader, ReaderDependency
from app.jobs.resources import (
    HEADERS,
    PREFERENCE_APPLIED,
    REPLAYED,
    job_answer,
    job_resource,
    job_response,
    own_url,
    request_resource,
    unchanged_answer,
)
from app.jobs.submit import SubmissionsDependency, Submitted
from app.requests.submitted import REQUEST_BODY, SentRequestDependency
from app.schemas import JobResource, JobsPage, RequestResource
from app.service.addresses import service_url
from app.service.files import BINARY, file_answer
from app.service.pages import DEFAULT_PAGE, Limit, next_page
from app.service.problems import problem_responses
from ms_jobs.records import JobState
from ms_jobs.result_files import FILE_FORMATS, PNG, SUFFIXES

router = APIRouter(tags=["jobs"])

_PNG: dict[str, Any] = {PNG: BINARY}
_PICTURE: dict[str, Any] = {file_format.media_type: BINARY for file_format in FILE_FORMATS.values()}
_HEADERS = ("Location", "ETag", PREFERENCE_APPLIED, REPLAYED)


def _responses(*problems: int) -> dict[int | str, dict[str, Any]]:
    return {
        200: job_response(
            "The job has ended: within `Prefer: wait`, or before, if the request is a repeat.", *_HEADERS
        ),
        202: job_response("The job is accepted.", *_HEADERS, "Retry-After"),
        **problem_responses(*problems),
    }


@router.post(
    "/generate",
    status_code=HTTPStatus.ACCEPTED,
    operation_id="generate",
    summary="Submit a job",
    response_model=JobResource,
    responses=_responses(400, 413, 415, 422, 429, 503),
    openapi_extra={"requestBody": REQUEST_BODY},
)
async def generate(  # noqa: PLR0913 - each argument is a part of the request
    options: KeyedOptions,
    preference: PreferenceHeader,
    sent: SentRequestDependency,
    submissions: SubmissionsDependency,
    reader: ReaderDependency,
    request: Request,
) -> Response:
    """Queue a job that makes pictures. Answers at once, or with `Prefer: wait=N` when the job ends or N seconds have passed.

    The request is JSON, or a form: the part `request` with the JSON, and its pictures in other parts, which it names as
    `upload:` and the part's name. Pictures that were uploaded before are named as `asset:` and the asset's id.

    `Location` is the URL of the job. With an `Idempotency-Key`, a request sent twice makes one job: the second answer has
    `Idempotency-Replayed: true`. A different request with the same key gets 422.
    """
    submitted = await run_in_threadpool(submissions.submit, sent, options)
    return await _answer(submitted, preference, reader, request)


@router.put(
    "/jobs/{job_id}",
    status_code=HTTPStatus.ACCEPTED,
    operation_id="put_job",
    summary="Submit a job under an id that you choose",
    response_model=JobResource,
    responses=_responses(400, 410, 413, 415, 422, 429, 503),
    openapi_extra={"requestBody": REQUEST_BODY},
)
async def put_job(  # noqa: PLR0913 - each argument is a part of the request
    options: NamedOptions,
    preference: PreferenceHeader,
    sent: SentRequestDependency,
    submissions: SubmissionsDependency,
    reader: ReaderDependency,
    request: Request,
) -> Response:
    """Like `POST /generate`, but safe to repeat: there is one job per id, however often the request is sent.

    A repeat is answered with the current job and `Idempotency-Replayed: true`: 202 until the job has ended, then 200. Other
    headers of a repeat have no effect. A different request with the same id gets 422, and the id of a deleted or expired
    job 410.
    """
    submitted = await run_in_threadpool(submissions.submit, sent, options)
    return await _answer(submitted, preference, reader, request)


@router.post(
    "/jobs/{job_id}/retry",
    status_code=HTTPStatus.ACCEPTED,
    operation_id="retry_job",
    summary="Retry a job",
    response_model=JobResource,
    responses=_responses(400, 404, 409, 410, 422, 429, 503),
)
async def retry_job(  # noqa: PLR0913 - each argument is a part of the request
    job_id: JobId,
    options: KeyedOptions,
    preference: PreferenceHeader,
    submissions: SubmissionsDependency,
    reader: ReaderDependency,
    request: Request,
) -> Response:
    """Make a new job with the same request and seed; 409 until the old job has ended.

    The new job has its own copies of the pictures, so the old one can be deleted.
    """
    submitted = await run_in_threadpool(submissions.retry, job_id, options)
    return await _answer(submitted, preference, reader, request)


@router.get(
    "/jobs",
    operation_id="list_jobs",
    summary="List jobs",
    responses=problem_responses(400, 503),
)
def list_jobs(  # noqa: PLR0913 - each argument is a part of the request
    job_list: JobListDependency,
    request: Request,
    response: Response,
    cursor: PageCursor,
    status: States = None,
    limit: Limit = DEFAULT_PAGE,
) -> JobsPage:
    """Newest first, in pages. Jobs added while you page through do not shift the others.

    With `status`, a page may hold fewer jobs than `limit`, even none, and not be the last: continue until `next` is null.
    """
    states = status or []
    page = job_list.page(states, limit, cursor)
    response.headers["Cache-Control"] = "no-store"
    filters = [("status", state.value) for state in states]
    following = next_page(f"{service_url(request)}/jobs", page.next, limit, filters)
    return JobsPage(
        jobs=[job_resource(view.record, view.outlook, service_url(request)) for view in page.views],
        next_cursor=following.cursor,
        next=following.url,
    )


@router.get(
    "/jobs/{job_id}",
    operation_id="get_job",
    summary="Get a job",
    response_model=JobResource,
    responses={
        200: job_response("The job.", "ETag", "Retry-After"),
        304: {
            "description": "Nothing has changed since the `ETag` in `If-None-Match`.",
            "headers": {name: HEADERS[name] for name in ("ETag", "Retry-After")},
        },
        **problem_responses(400, 404, 410, 503),
    },
)
async def get_job(  # noqa: PLR0913 - each argument is a part of the request
    job_id: JobId,
    reader: ReaderDependency,
    signatures: SignaturesDependency,
    request: Request,
    wait: WaitSeconds = 0,
    signed: Signed = False,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """200 for every known job, failed ones included. `Retry-After` says when to ask again.

    With `wait`, answers when the job ends, or after that many seconds; with `wait` and `If-None-Match`, as soon as the job
    changes.
    """
    view = await reader.view(job_id)
    wait_s = min(wait, MAX_WAIT_S)
    if if_none_match is None:
        view = await reader.wait_for_end(view, wait_s, request.is_disconnected)
    else:
        view = await reader.wait_for_change(view, if_none_match, wait_s, request.is_disconnected)
    if signed:
        return job_answer(view, request, signer=await signatures.signer(view.record.owner))
    return unchanged_answer(view) if is_match(if_none_match, view.etag) else job_answer(view, request)


@router.get(
    "/jobs/{job_id}/images/{index}",
    operation_id="get_image",
    summary="Get a finished picture",
    response_class=Response,
    responses={
        200: {"content": _PICTURE, "description": "In the `output_format` of the request."},
        **problem_responses(404, 410, 503),
    },
)
def get_image(job_id: JobId, index: ImageIndex, jobs: JobsDependency) -> Response:
    """The file holds the complete recipe of the picture: in a PNG as text under the key `msd`, in WebP and JPEG as XMP."""
    image, encoded = jobs.image(job_id, index)
    return file_answer(encoded, f"{job_id}-{index}{SUFFIXES[image.content_type]}", image.content_type)


@router.get(
    "/jobs/{job_id}/references/{subject}",
    operation_id="get_reference",
    summary="Get what the model sees of a subject",
    response_class=Response,
    responses={200: {"content": _PNG, "description": "The PNG."}, **problem_responses(404, 410, 503)},
)
def get_reference(job_id: JobId, subject: SubjectIndex, jobs: JobsDependency) -> Response:
    """The subject, cut out of its pictures; only for subjects with `cutout`."""
    return file_answer(jobs.reference(job_id, subject), f"{job_id}-reference-{subject}.png")


@router.get(
    "/jobs/{job_id}/request",
    operation_id="get_request",
    summary="Get what a job was asked for",
    responses=problem_responses(404, 410, 503),
)
def get_request(job_id: JobId, jobs: JobsDependency, request: Request, response: Response) -> RequestResource:
    """Prompt, subjects, boxes and options as they were sent, pictures by their URLs; gone with the job."""
    record, asked = jobs.asked(job_id)
    # It never changes, but may be deleted.
    response.headers["Cache-Control"] = "private, no-cache"
    return request_resource(record, asked, service_url(request))


@router.get(
    "/jobs/{job_id}/pictures/{sha256}",
    operation_id="get_request_picture",
    summary="Get a picture of a job's request",
    response_class=Response,
    responses={200: {"content": _PNG, "description": "The PNG."}, **problem_responses(404, 410, 503)},
)
def get_request_picture(job_id: JobId, sha256: PictureHash, jobs: JobsDependency) -> Response:
    """A reference, mask, control or start picture as it is stored: upright, in sRGB, without metadata."""
    return file_answer(jobs.request_picture(job_id, sha256), f"{sha256[:16]}.png")


@router.post(
    "/jobs/{job_id}/cancel",
    operation_id="cancel_job",
    summary="Cancel a job",
    response_model=JobResource,
    responses={
        200: job_response("The job is canceled.", "ETag"),
        202: job_response("The job is running and will end as canceled.", "ETag", "Retry-After"),
        **problem_responses(404, 409, 410, 503),
    },
)
async def cancel_job(job_id: JobId, jobs: JobsDependency, reader: ReaderDependency, request: Request) -> Response:
    """200 if the job is canceled, 202 if it is running and will be, 409 if it ended in another way."""
    record = await run_in_threadpool(jobs.cancel, job_id)
    status = HTTPStatus.OK if record.state is JobState.CANCELED else HTTPStatus.ACCEPTED
    return job_answer(await reader.view_of(record), request, status)


@router.delete(
    "/jobs/{job_id}",
    status_code=HTTPStatus.NO_CONTENT,
    operation_id="delete_job",
    summary="Delete a job and all its pictures",
    responses=problem_responses(404, 503),
)
def delete_job(job_id: JobId, jobs: JobsDependency) -> None:
    """Cancel the job, even while it runs, and delete its request, its pictures and its record.

    Assets that the request named stay; `DELETE /assets/{id}` erases those. Deleting a deleted job gives 204 again. Other
    requests for it get 410 for a week, then 404.
    """
    jobs.delete(job_id)


async def _answer(submitted: Submitted, preference: Preference, reader: Reader, request: Request) -> Response:
    """Answer with the job once it has ended, or after the wait that the client asked for."""
    view = await reader.wait_for_accepted(submitted.record, preference.wait_s, request.is_disconnected)
    headers = {"Location": own_url(view, request)}
    if submitted.replayed:
        headers[REPLAYED] = "true"
    if preference.applied is not None:
        headers[PREFERENCE_APPLIED] = preference.applied
    # A client that did not ask to wait gets 202, however fast the job was.
    is_awaited = submitted.replayed or preference.wait_s > 0
    status = HTTPStatus.OK if is_awaited and view.record.state.ended else HTTPStatus.ACCEPTED
    return job_answer(view, request, status, headers)
