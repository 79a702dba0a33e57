"""The heart of the API: ask for a picture, follow its job, fetch it, cancel it."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from app.dependencies import GenerateRequestDependency, JobsDependency
from app.documentation import REQUEST_BODY, problem_responses
from app.jobs import Jobs
from app.resources import job_resource, job_url
from app.schemas import JobResource
from worker.contract import JobRecord, JobState

POLL_AFTER_S = "1"

JobId = Annotated[str, Path(description="As the answer to POST /generate gave it.")]
ImageIndex = Annotated[int, Path(ge=0, description="Counted from 0.")]
SubjectIndex = Annotated[int, Path(ge=0, description="Position of the subject in the request, counted from 0.")]

router = APIRouter(tags=["jobs"])


@router.post(
    "/generate",
    status_code=HTTPStatus.ACCEPTED,
    operation_id="generate",
    summary="Ask for a picture",
    responses=problem_responses(400, 413, 415, 422, 503),
    openapi_extra={"requestBody": REQUEST_BODY},
)
def generate(
    generate_request: GenerateRequestDependency, jobs: JobsDependency, request: Request, response: Response
) -> JobResource:
    """Queue a picture to be made. The answer comes at once; follow the job at the address in `Location`."""
    record = jobs.submit(generate_request)
    response.headers["Location"] = job_url(record.id, _root_path(request))
    return _show(record, jobs, request, response)


@router.get(
    "/jobs/{job_id}",
    operation_id="get_job",
    summary="See how a job stands",
    responses=problem_responses(404, 503),
)
def get_job(job_id: JobId, jobs: JobsDependency, request: Request, response: Response) -> JobResource:
    """Status 200 for every known job, whatever became of it. `Retry-After` says when to ask again."""
    return _show(jobs.find(job_id), jobs, request, response)


@router.get(
    "/jobs/{job_id}/images/{index}",
    operation_id="get_image",
    summary="Fetch a finished picture",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}, "description": "The PNG."}, **problem_responses(404, 503)},
)
def get_image(job_id: JobId, index: ImageIndex, jobs: JobsDependency) -> Response:
    """The PNG carries the complete recipe of the picture as text metadata under the key `msd`."""
    return _png(jobs.image(job_id, index), f"{job_id}-{index}.png")


@router.get(
    "/jobs/{job_id}/references/{subject}",
    operation_id="get_reference",
    summary="See what the model sees of a subject",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}, "description": "The PNG."}, **problem_responses(404, 503)},
)
def get_reference(job_id: JobId, subject: SubjectIndex, jobs: JobsDependency) -> Response:
    """The subject as it was cut out of its pictures; for subjects with `cutout` only."""
    return _png(jobs.reference(job_id, subject), f"{job_id}-reference-{subject}.png")


@router.post(
    "/jobs/{job_id}/cancel",
    operation_id="cancel_job",
    summary="Cancel a job",
    responses={
        200: {"description": "It is canceled."},
        202: {"model": JobResource, "description": "It is running, and will end as canceled."},
        **problem_responses(404, 409, 503),
    },
)
def cancel_job(job_id: JobId, jobs: JobsDependency, request: Request, response: Response) -> JobResource:
    """200 if it is canceled now, 202 if it is running and will be, 409 if it had ended otherwise."""
    record = jobs.cancel(job_id)
    if record.state is not JobState.CANCELED:
        response.status_code = HTTPStatus.ACCEPTED
    return _show(record, jobs, request, response)


def _png(content: bytes, filename: str) -> Response:
    headers = {
        "Content-Disposition": f'inline; filename="{filename}"',
        "Cache-Control": "private, max-age=86400, immutable",
        "X-Content-Type-Options": "nosniff",
    }
    return Response(content, headers=headers, media_type="image/png")


def _show(record: JobRecord, jobs: Jobs, request: Request, response: Response) -> JobResource:
    response.headers["Cache-Control"] = "no-store"
    if not record.state.ended:
        response.headers["Retry-After"] = POLL_AFTER_S
    return job_resource(record, jobs.position(record), _root_path(request))


def _root_path(request: Request) -> str:
    return request.scope.get("root_path", "")
