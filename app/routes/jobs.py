"""Jobs as they stand: see one, list all, fetch the pictures, cancel, delete."""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from app.dependencies import JobListDependency, JobsDependency, LookupDependency, WaitingDependency
from app.documentation import PNG, problem_responses
from app.headers import MAX_WAIT_S, is_match
from app.parameters import (
    DEFAULT_PAGE,
    IfNoneMatch,
    ImageIndex,
    JobId,
    Limit,
    PageCursor,
    States,
    SubjectIndex,
    WaitSeconds,
)
from app.resources import job_resource
from app.routes.answers import HEADERS, job_answer, job_response, root_path, unchanged_answer
from app.schemas import JobResource, JobsPage
from ms_jobs.records import JobState

router = APIRouter(tags=["jobs"])


@router.get(
    "/jobs",
    operation_id="list_jobs",
    summary="List all jobs",
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
    """Newest first, a page at a time. Jobs that are added while one goes from page to page do not move the others.

    With `status` a page may hold fewer jobs than `limit`, even none, and yet not be the last: go on until `next` is null.
    """
    states = status or []
    page = job_list.page(states, limit, cursor)
    response.headers["Cache-Control"] = "no-store"
    next_cursor = None if page.next is None else page.next.encode()
    query = urlencode([*(("status", state.value) for state in states), ("limit", limit), ("cursor", next_cursor)])
    return JobsPage(
        jobs=[job_resource(view.record, view.outlook, root_path(request)) for view in page.views],
        next_cursor=next_cursor,
        next=None if next_cursor is None else f"{root_path(request)}/jobs?{query}",
    )


@router.get(
    "/jobs/{job_id}",
    operation_id="get_job",
    summary="See how a job stands",
    response_model=JobResource,
    responses={
        200: job_response("The job.", "ETag", "Retry-After"),
        304: {
            "description": "It is as the `ETag` in `If-None-Match` says.",
            "headers": {name: HEADERS[name] for name in ("ETag", "Retry-After")},
        },
        **problem_responses(400, 404, 410, 503),
    },
)
async def get_job(  # noqa: PLR0913 - each argument is a part of the request
    job_id: JobId,
    lookup: LookupDependency,
    waiting: WaitingDependency,
    request: Request,
    wait: WaitSeconds = 0,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Status 200 for every known job, whatever became of it. `Retry-After` says when to ask again.

    With `wait` the answer comes when the job has ended, at the latest after so many seconds; with `wait` and
    `If-None-Match` as soon as anything about it is new.
    """
    view = await lookup.view(job_id)
    wait_s = min(wait, MAX_WAIT_S)
    if if_none_match is None:
        return job_answer(await waiting.for_end(view, wait_s, request.is_disconnected), request)
    view = await waiting.for_change(view, if_none_match, wait_s, request.is_disconnected)
    return unchanged_answer(view) if is_match(if_none_match, view.etag) else job_answer(view, request)


@router.get(
    "/jobs/{job_id}/images/{index}",
    operation_id="get_image",
    summary="Fetch a finished picture",
    response_class=Response,
    responses={200: {"content": PNG, "description": "The PNG."}, **problem_responses(404, 410, 503)},
)
def get_image(job_id: JobId, index: ImageIndex, jobs: JobsDependency) -> Response:
    """The PNG carries the complete recipe of the picture as text metadata under the key `msd`."""
    return _png(jobs.image(job_id, index), f"{job_id}-{index}.png")


@router.get(
    "/jobs/{job_id}/references/{subject}",
    operation_id="get_reference",
    summary="See what the model sees of a subject",
    response_class=Response,
    responses={200: {"content": PNG, "description": "The PNG."}, **problem_responses(404, 410, 503)},
)
def get_reference(job_id: JobId, subject: SubjectIndex, jobs: JobsDependency) -> Response:
    """The subject as it was cut out of its pictures; for subjects with `cutout` only."""
    return _png(jobs.reference(job_id, subject), f"{job_id}-reference-{subject}.png")


@router.post(
    "/jobs/{job_id}/cancel",
    operation_id="cancel_job",
    summary="Cancel a job",
    response_model=JobResource,
    responses={
        200: job_response("It is canceled.", "ETag"),
        202: job_response("It is running, and will end as canceled.", "ETag", "Retry-After"),
        **problem_responses(404, 409, 410, 503),
    },
)
async def cancel_job(job_id: JobId, jobs: JobsDependency, lookup: LookupDependency, request: Request) -> Response:
    """200 if it is canceled now, 202 if it is running and will be, 409 if it had ended otherwise."""
    record = await run_in_threadpool(jobs.cancel, job_id)
    status = HTTPStatus.OK if record.state is JobState.CANCELED else HTTPStatus.ACCEPTED
    return job_answer(await lookup.view_of(record), request, status)


@router.delete(
    "/jobs/{job_id}",
    status_code=HTTPStatus.NO_CONTENT,
    operation_id="delete_job",
    summary="Delete a job and all its pictures",
    responses=problem_responses(404, 503),
)
def delete_job(job_id: JobId, jobs: JobsDependency) -> None:
    """Cancel the job, also in mid-run, and erase its request, its pictures and all that is known of it.

    204 for a job that is gone already, too: deleting twice is no error. Every other question about it is answered with
    410 for a week, then with 404.
    """
    jobs.delete(job_id)


def _png(content: bytes, filename: str) -> Response:
    headers = {
        "Content-Disposition": f'inline; filename="{filename}"',
        "Cache-Control": "private, max-age=86400, immutable",
        "X-Content-Type-Options": "nosniff",
    }
    return Response(content, headers=headers, media_type="image/png")
