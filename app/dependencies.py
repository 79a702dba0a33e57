"""What the endpoints are given."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Request
from starlette.requests import ClientDisconnect

from app.config import Settings
from app.decoders import Decoders
from app.errors import HTTPProblem
from app.event_log import EventLog
from app.health import Health
from app.intake import SentRequest, parse_request
from app.job_list import JobList
from app.jobs import Jobs
from app.lookup import Lookup
from app.metrics import Metrics
from app.models import Models
from app.pictures import PictureLimits
from app.problems import BAD_REQUEST, BODY_TOO_LARGE, NOT_JSON
from app.submissions import Submissions
from app.waiting import Waiting


def given(name: str) -> Any:
    """What ``app.main.State`` holds under this name, as a dependency."""

    # A coroutine, for FastAPI runs plain functions in threads, and this only looks something up.
    async def get(request: Request) -> Any:
        return getattr(request.state, name)

    return Depends(get)


SettingsDependency = Annotated[Settings, given("settings")]
DecodersDependency = Annotated[Decoders, given("decoders")]
JobsDependency = Annotated[Jobs, given("jobs")]
JobListDependency = Annotated[JobList, given("job_list")]
SubmissionsDependency = Annotated[Submissions, given("submissions")]
LookupDependency = Annotated[Lookup, given("lookup")]
WaitingDependency = Annotated[Waiting, given("waiting")]
EventLogDependency = Annotated[EventLog, given("event_log")]
MetricsDependency = Annotated[Metrics, given("metrics")]
ModelsDependency = Annotated[Models, given("models")]
HealthDependency = Annotated[Health, given("health")]


async def _json_body(request: Request, settings: SettingsDependency) -> bytes:
    """The bytes of a JSON body, read no further than the limit."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise HTTPProblem(NOT_JSON, "Send the request as JSON, with the header Content-Type: application/json.")
    limit = settings.max_body_bytes
    too_large = HTTPProblem(
        BODY_TOO_LARGE, f"The body is above the limit of {limit} bytes; send smaller or fewer pictures."
    )
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                raise too_large
    except ClientDisconnect as error:
        raise HTTPProblem(BAD_REQUEST, "The body ended before it was complete.") from error
    return bytes(body)


async def _generate_request(
    body: Annotated[bytes, Depends(_json_body)], decoders: DecodersDependency, settings: SettingsDependency
) -> SentRequest:
    """The checked request; its pictures are decoded beside the event loop."""
    limits = PictureLimits(settings.max_picture_pixels, settings.max_picture_side)
    return await decoders.run(lambda: parse_request(body, limits))


SentRequestDependency = Annotated[SentRequest, Depends(_generate_request)]
