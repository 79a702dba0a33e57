"""Streams a job's log as server-sent events; the id of an event is the job's version."""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any

import redis
from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, Field

from app.auth.callers import Caller
from app.jobs.event_log import Advance, EventLog, EventLogDependency, News, Transition
from app.jobs.manage import JobsDependency
from app.jobs.parameters import JobId
from app.jobs.resources import job_resource
from app.schemas import JobResource
from app.service.addresses import service_url
from app.service.problems import problem_responses
from ms_core.errors import JobGoneError, JobNotFoundError
from ms_jobs.keys import JobKey
from ms_jobs.records import JobRecord, JobState

# A client that lost its connection reconnects after this time.
RECONNECT_MS = 1000
# Longest single wait for a change; then the next one starts, unseen by clients.
WAIT_S = 60.0
PREVIEW_TYPE = "image/webp"

log = logging.getLogger(__name__)

router = APIRouter(tags=["jobs"])


class StatusEvent(BaseModel):
    """Data of the event `status`: a change of the job other than its end."""

    version: int = Field(description="Version of the job after this change; the id of the event.")
    status: JobState = Field(description="Status after this change.")
    attempt: int = Field(description="Number of attempts started.")
    event: str = Field(description="Kind of change, such as `running`, `abandoned` or `cancel_requested`.")
    at: datetime = Field(description="Time of the change.")
    cancel_requested: bool = Field(description="Whether the job will end as canceled.")


class ProgressEvent(BaseModel):
    """Data of the event `progress`."""

    phase: str | None = Field(description="Current phase.")
    step: int | None = Field(description="Denoising steps done.")
    steps: int | None = Field(description="Denoising steps in total.")
    fraction: float = Field(description="Fraction of the denoising that is done, from 0 to 1.")


class PreviewEvent(BaseModel):
    """Data of the event `preview`: a small preview of the first picture."""

    index: int = Field(description="Position of the picture in the job, counted from 0.")
    step: int | None = Field(description="Denoising steps done so far.")
    content_type: str = Field(description="`image/webp`.")
    data: str = Field(description="The preview's bytes, in base64.")


class GoneEvent(BaseModel):
    """Data of the event `gone`: the job was deleted or has expired."""

    code: str = Field(description="Stable error code, as `GET /jobs/{id}` gives it.")
    detail: str = Field(description="Why it is gone.")


# Data type of each event; the last event is named after the state in which the job ended.
DATA_OF_EVENT: Mapping[str, type[BaseModel]] = {
    "status": StatusEvent,
    "progress": ProgressEvent,
    "preview": PreviewEvent,
    **{state.value: JobResource for state in JobState if state.ended},
    "gone": GoneEvent,
}


@dataclass(frozen=True, slots=True)
class Watch:
    """One client's subscription to one job.

    Attributes:
        after: the last version it has seen.
        is_over: that version was the final one.
        caller: who watches; the events end when it may do so no longer.
        find: reads the job's record; raises ``JobGoneError`` or ``JobNotFoundError``.
        show: makes the job's resource.
    """

    log: EventLog
    job: JobKey
    after: int
    is_over: bool
    with_previews: bool
    caller: Caller
    find: Callable[[str], JobRecord]
    show: Callable[[JobRecord], JobResource]

    async def events(self) -> AsyncIterator[ServerSentEvent]:
        """Yield all events after ``after``, past and future; ends with the job, or when Redis is down."""
        if self.is_over:
            return
        try:
            yield ServerSentEvent(retry=RECONNECT_MS)
            async for event in self._follow():
                yield event
        except redis.RedisError as error:
            # The client reconnects by itself and resumes.
            log.warning("job %s can no longer be watched: %s", self.job.id, error)

    async def _follow(self) -> AsyncIterator[ServerSentEvent]:
        after, has_changed = self.after, False
        while True:
            news = await self.log.read(self.job, after, self.with_previews)
            for entry in news.entries:
                after = entry.version
                if isinstance(entry, Transition) and entry.state.ended:
                    yield await run_in_threadpool(self._last_event, entry)
                    return
                for event in _events(entry, news):
                    yield event
            if has_changed and not news.entries:
                yield await run_in_threadpool(self._last_event, None)
                return
            if self.log.is_stopping:
                # The client reconnects, to the next process.
                return
            has_changed = await self.log.next_change(self.job, after, min(WAIT_S, self.caller.ask_again_s))
            if not await self.caller.is_valid():
                # The client reconnects, and is told what it lacks.
                return

    def _last_event(self, end: Transition | None) -> ServerSentEvent:
        """Make the last event: the whole job, or ``gone``."""
        try:
            record = self.find(self.job.id)
        except (JobGoneError, JobNotFoundError) as error:
            return ServerSentEvent(event="gone", data=GoneEvent(code=error.code, detail=error.detail))
        if end is None:
            # The log is empty and the job exists: Redis lost data. The client reconnects and starts over.
            return ServerSentEvent(comment="lost")
        # FastAPI would serialize by field names, not by aliases.
        job = self.show(record).model_dump_json(by_alias=True)
        return ServerSentEvent(event=end.state.value, id=str(end.version), raw_data=job)


def seen_version(last_event_id: str | None, record: JobRecord) -> int:
    """Parse the id of a client's last event into a version; 0 if it cannot be one of this job's."""
    version = int(last_event_id) if last_event_id and re.fullmatch(r"[0-9]{1,15}", last_event_id) else 0
    # Redis may have lost its newest changes in a crash: a version above the current one cannot be trusted.
    return version if version <= record.version else 0


def _events(entry: Transition | Advance, news: News) -> Iterator[ServerSentEvent]:
    """Make the events of a log entry other than the last."""
    if isinstance(entry, Transition):
        yield _event("status", entry.version, _status(entry))
        return
    yield _event("progress", entry.version, _progress(entry))
    newest = max(
        (other.version for other in news.entries if isinstance(other, Advance) and other.has_preview), default=0
    )
    if entry.version == newest and news.preview is not None:
        data = base64.b64encode(news.preview).decode()
        preview = PreviewEvent(index=0, step=entry.step, content_type=PREVIEW_TYPE, data=data)
        yield _event("preview", entry.version, preview)


def _event(name: str, version: int, data: BaseModel) -> ServerSentEvent:
    return ServerSentEvent(event=name, id=str(version), data=data)


def _status(entry: Transition) -> StatusEvent:
    return StatusEvent(
        version=entry.version,
        status=entry.state,
        attempt=entry.attempt,
        event=entry.event,
        at=datetime.fromtimestamp(entry.at, UTC),
        # After this event only the end follows.
        cancel_requested=entry.event == "cancel_requested",
    )


def _progress(entry: Advance) -> ProgressEvent:
    fraction = entry.step / entry.steps if entry.step is not None and entry.steps else 0.0
    return ProgressEvent(phase=entry.phase, step=entry.step, steps=entry.steps, fraction=round(fraction, 4))


LastEventId = Annotated[
    str | None, Header(alias="Last-Event-ID", description="Id of the last event seen; browsers send it by themselves.")
]
LastEventIdParameter = Annotated[
    str | None, Query(alias="last_event_id", description="Like `Last-Event-ID`, for clients that cannot send headers.")
]
Preview = Annotated[bool, Query(description="Whether to send previews; the job must have `previews`.")]

_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "Events until the job ends."},
    204: {"description": "The last event was already seen; do not reconnect."},
    **problem_responses(404, 410, 503),
}


def _record(job_id: JobId, jobs: JobsDependency) -> JobRecord:
    """Read the record; a plain function, so FastAPI runs it in a thread."""
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
    after = seen_version(last_event_id or last_event_id_parameter, record)
    is_over = record.state.ended and after == record.version
    if is_over:
        response.status_code = HTTPStatus.NO_CONTENT
    with event_log.watching(record.owner):
        yield Watch(
            log=event_log,
            job=record.key,
            after=after,
            is_over=is_over,
            with_previews=preview,
            caller=request.state.caller,
            find=jobs.find,
            show=lambda ended: job_resource(ended, None, service_url(request)),
        )


@router.get(
    "/jobs/{job_id}/events",
    operation_id="watch_job",
    summary="Watch a job",
    response_class=EventSourceResponse,
    responses=_RESPONSES,
)
async def watch_job(watch: Annotated[Watch, Depends(_watch)]) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events; the id of each is the job's `version`.

    `status` reports a change of the job, `progress` the steps done, and `preview` a small picture (only with
    `?preview=true`). The last event is named after the final status, `succeeded`, `failed`, `canceled` or `expired`, and
    holds the whole job; it is `gone` if the job was deleted. A client that reconnects with `Last-Event-ID` misses only old
    progress and previews. After the last event the answer is 204.
    """
    async for event in watch.events():
        yield event
