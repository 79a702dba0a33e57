"""A job watched live."""

from __future__ import annotations

from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from app.dependencies import EventLogDependency, JobsDependency
from app.documentation import problem_responses
from app.events import Watch, seen_version
from app.resources import job_resource
from app.routes.jobs import JobId
from ms_jobs.records import JobRecord

router = APIRouter(tags=["jobs"])

LastEventId = Annotated[
    str | None, Header(alias="Last-Event-ID", description="Of the last event seen; browsers send it by themselves.")
]
LastEventIdParameter = Annotated[
    str | None, Query(alias="last_event_id", description="The same, for clients that cannot send headers.")
]
Preview = Annotated[bool, Query(description="Whether to send small pictures, of jobs that asked for `previews`.")]

_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "Events until the end of the job."},
    204: {"description": "The last event was seen already; do not come back."},
    **problem_responses(404, 410, 503),
}


def _record(job_id: JobId, jobs: JobsDependency) -> JobRecord:
    """A plain function, so that Redis is asked beside the event loop."""
    return jobs.find(job_id)


async def _watch(  # noqa: PLR0913 - each argument is a part of the request
    record: Annotated[JobRecord, Depends(_record)],
    jobs: JobsDependency,
    event_log: EventLogDependency,
    request: Request,
    response: Response,
    last_event_id: LastEventId = None,
    last_event_id_parameter: LastEventIdParameter = None,
    preview: Preview = False,
) -> AsyncIterator[Watch]:
    root_path = request.scope.get("root_path", "")
    after = seen_version(last_event_id or last_event_id_parameter, record)
    is_over = record.state.ended and after == record.version
    if is_over:
        response.status_code = HTTPStatus.NO_CONTENT
    with event_log.watching():
        yield Watch(
            log=event_log,
            job_id=record.id,
            after=after,
            is_over=is_over,
            with_previews=preview,
            find=jobs.find,
            show=lambda ended: job_resource(ended, None, root_path),
        )


@router.get(
    "/jobs/{job_id}/events",
    operation_id="watch_job",
    summary="Watch a job live",
    response_class=EventSourceResponse,
    responses=_RESPONSES,
)
async def watch_job(watch: Annotated[Watch, Depends(_watch)]) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events, the id of each being the job's `version`.

    `status` tells of each step of the job's life, `progress` of how far the worker is, `preview` shows it (only with
    `?preview=true`). The last event is called as the state in which the job ended, `succeeded`, `failed`, `canceled` or
    `expired`, and carries the whole job; or it is `gone`, if the job was deleted meanwhile. Coming back with
    `Last-Event-ID` misses nothing but old progress and previews. After the last event the answer is 204.
    """
    async for event in watch.events():
        yield event
