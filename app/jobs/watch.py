"""A job's log as server-sent events. The id of an event is the version of the job that it tells of."""

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

from app.jobs.event_log import Advance, EventLog, EventLogDependency, News, Transition
from app.jobs.manage import JobsDependency
from app.jobs.parameters import JobId
from app.jobs.resources import job_resource, root_path
from app.schemas import JobResource
from app.service.problems import problem_responses
from ms_core.errors import JobGoneError, JobNotFoundError
from ms_jobs.records import JobRecord, JobState

# A client that lost its connection comes back after this time.
RECONNECT_MS = 1000
# A wait ends at the latest then, and begins anew; clients hear nothing of it.
WAIT_S = 60.0
PREVIEW_TYPE = "image/webp"

log = logging.getLogger(__name__)

router = APIRouter(tags=["jobs"])


class StatusEvent(BaseModel):
    """Data of the event `status`: one step of the job's life that is not its end."""

    version: int = Field(description="Of the job after this step; the id of the event.")
    status: JobState = Field(description="Where the job stands then.")
    attempt: int = Field(description="How often a worker has begun it.")
    event: str = Field(description="What happened, such as `running`, `abandoned` or `cancel_requested`.")
    at: datetime = Field(description="When it happened.")
    cancel_requested: bool = Field(description="It will end as canceled.")


class ProgressEvent(BaseModel):
    """Data of the event `progress`."""

    phase: str | None = Field(description="What the worker is doing.")
    step: int | None = Field(description="Denoising steps done.")
    steps: int | None = Field(description="Denoising steps in all.")
    fraction: float = Field(description="Part of the denoising that is done, from 0 to 1.")


class PreviewEvent(BaseModel):
    """Data of the event `preview`: a small picture of how far the first image is."""

    index: int = Field(description="Of the image, counted from 0.")
    step: int | None = Field(description="Denoising steps done by then.")
    content_type: str = Field(description="`image/webp`.")
    data: str = Field(description="The picture's bytes, in base64.")


class GoneEvent(BaseModel):
    """Data of the event `gone`: the job was deleted, or its lifetime is over."""

    code: str = Field(description="Stable name of the problem that asking for the job has.")
    detail: str = Field(description="What became of it.")


# What the data of each event is; the last events are called as the states in which jobs end.
DATA_OF_EVENT: Mapping[str, type[BaseModel]] = {
    "status": StatusEvent,
    "progress": ProgressEvent,
    "preview": PreviewEvent,
    **{state.value: JobResource for state in JobState if state.ended},
    "gone": GoneEvent,
}


@dataclass(frozen=True, slots=True)
class Watch:
    """What one client wants to see of one job.

    Attributes:
        after: the version that it has seen already.
        is_over: that version was the last one.
        find: the job's record; raises ``JobGoneError`` or ``JobNotFoundError``.
        show: the job as the API shows it.
    """

    log: EventLog
    job_id: str
    after: int
    is_over: bool
    with_previews: bool
    find: Callable[[str], JobRecord]
    show: Callable[[JobRecord], JobResource]

    async def events(self) -> AsyncIterator[ServerSentEvent]:
        """All that happened after ``after``, then what happens; ends when the job does, or when Redis goes away."""
        if self.is_over:
            return
        try:
            yield ServerSentEvent(retry=RECONNECT_MS)
            async for event in self._follow():
                yield event
        except redis.RedisError as error:
            # The client comes back by itself, and goes on where it was.
            log.warning("job %s can be watched no longer: %s", self.job_id, error)

    async def _follow(self) -> AsyncIterator[ServerSentEvent]:
        after, has_changed = self.after, False
        while True:
            news = await self.log.read(self.job_id, after, self.with_previews)
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
                # The client comes back, to the next process.
                return
            has_changed = await self.log.next_change(self.job_id, after, WAIT_S)

    def _last_event(self, end: Transition | None) -> ServerSentEvent:
        """The whole job after its end, or that the job is gone."""
        try:
            record = self.find(self.job_id)
        except (JobGoneError, JobNotFoundError) as error:
            return ServerSentEvent(event="gone", data=GoneEvent(code=error.code, detail=error.detail))
        if end is None:
            # Its log was emptied and it lives: Redis lost something. The client comes back and begins anew.
            return ServerSentEvent(comment="lost")
        # FastAPI would write the data of an event by the names of fields, not by their aliases.
        job = self.show(record).model_dump_json(by_alias=True)
        return ServerSentEvent(event=end.state.value, id=str(end.version), raw_data=job)


def seen_version(last_event_id: str | None, record: JobRecord) -> int:
    """The version that a client has seen, by the id of its last event; 0 if that is none of this job's."""
    version = int(last_event_id) if last_event_id and re.fullmatch(r"[0-9]{1,15}", last_event_id) else 0
    # Redis may have lost its newest changes in a crash: a version that is not reached yet was another's.
    return version if version <= record.version else 0


def _events(entry: Transition | Advance, news: News) -> Iterator[ServerSentEvent]:
    """What a client is told of an entry that is not the end."""
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
            show=lambda ended: job_resource(ended, None, root_path(request)),
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
