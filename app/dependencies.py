"""What the endpoints are given."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from starlette.requests import ClientDisconnect

from app.config import Settings
from app.decoders import Decoders
from app.errors import HTTPProblem
from app.event_log import EventLog
from app.generate_request import GenerateRequest
from app.health import Health
from app.intake import parse_request
from app.job_list import JobList
from app.jobs import Jobs
from app.lookup import Lookup
from app.models import Models
from app.pictures import PictureLimits
from app.problems import BAD_REQUEST, BODY_TOO_LARGE, NOT_JSON
from app.submissions import Submissions
from app.waiting import Waiting


# Coroutines, for FastAPI runs plain functions in threads, and these only look something up.
async def _settings(request: Request) -> Settings:
    return request.app.state.settings


async def _jobs(request: Request) -> Jobs:
    return request.app.state.jobs


async def _job_list(request: Request) -> JobList:
    return request.app.state.job_list


async def _submissions(request: Request) -> Submissions:
    return request.app.state.submissions


async def _lookup(request: Request) -> Lookup:
    return request.app.state.lookup


async def _waiting(request: Request) -> Waiting:
    return request.app.state.waiting


async def _event_log(request: Request) -> EventLog:
    return request.app.state.event_log


async def _models(request: Request) -> Models:
    return request.app.state.models


async def _health(request: Request) -> Health:
    return request.app.state.health


SettingsDependency = Annotated[Settings, Depends(_settings)]
JobsDependency = Annotated[Jobs, Depends(_jobs)]
JobListDependency = Annotated[JobList, Depends(_job_list)]
SubmissionsDependency = Annotated[Submissions, Depends(_submissions)]
LookupDependency = Annotated[Lookup, Depends(_lookup)]
WaitingDependency = Annotated[Waiting, Depends(_waiting)]
EventLogDependency = Annotated[EventLog, Depends(_event_log)]
ModelsDependency = Annotated[Models, Depends(_models)]
HealthDependency = Annotated[Health, Depends(_health)]


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
    body: Annotated[bytes, Depends(_json_body)], request: Request, settings: SettingsDependency
) -> GenerateRequest:
    """The checked request; its pictures are decoded beside the event loop."""
    limits = PictureLimits(settings.max_picture_pixels, settings.max_picture_side)
    decoders: Decoders = request.app.state.decoders
    return await decoders.run(lambda: parse_request(body, limits))


GenerateRequestDependency = Annotated[GenerateRequest, Depends(_generate_request)]
