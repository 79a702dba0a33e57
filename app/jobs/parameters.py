"""Parameters of the endpoints: path, query and headers."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import Depends, Header, Path, Query, Request

from app.jobs.headers import (
    DURATION_PATTERN,
    MAX_WAIT_S,
    Preference,
    parse_duration,
    parse_idempotency_key,
    parse_preference,
)
from app.jobs.submit import SubmitOptions
from app.service.errors import HTTPProblem
from app.service.pages import Cursor, CursorText
from app.service.problems import INVALID_PARAMETER
from app.service.request_id import request_id
from ms_jobs.records import JOB_ID_PATTERN, SHA256_PATTERN, JobState, is_job_id

CANCEL_AFTER = "Cancel-After"
IDEMPOTENCY_KEY = "Idempotency-Key"
START_DEADLINE = "X-Start-Deadline"

# For the document alone, as with headers below: another id is no job's, so the answer is 404.
JobId = Annotated[str, Path(description="Id of the job.", json_schema_extra={"pattern": f"^{JOB_ID_PATTERN}$"})]
ImageIndex = Annotated[int, Path(ge=0, description="Position of the picture in the job, counted from 0.")]
SubjectIndex = Annotated[int, Path(ge=0, description="Position of the subject in the request, counted from 0.")]
PictureHash = Annotated[
    str, Path(pattern=rf"^{SHA256_PATTERN}$", description="SHA-256 of the picture's PNG, as the request names it.")
]

WaitSeconds = Annotated[
    int,
    Query(ge=0, description=f"Seconds to wait for the job to end before answering; at most {MAX_WAIT_S}."),
]
Signed = Annotated[
    bool,
    Query(
        description="Whether the answer has `urls.signed`: addresses that work for some minutes without a key. It is never 304."
    ),
]
IfNoneMatch = Annotated[
    str | None,
    Header(
        alias="If-None-Match", description="The `ETag` of an earlier answer; the answer is 304 if nothing has changed."
    ),
]
States = Annotated[
    list[JobState] | None, Query(alias="status", description="Only jobs with this status; can be repeated.")
]

# Patterns of headers are for the document alone: their own checks say more of what is wrong.
_CancelAfter = Annotated[
    str | None,
    Header(
        alias=CANCEL_AFTER,
        description="Cancel the job if it has not ended after this time; in seconds, or with a unit.",
        examples=["30", "30s", "5m", "1h"],
        json_schema_extra={"pattern": DURATION_PATTERN},
    ),
]
_StartDeadline = Annotated[
    str | None,
    Header(
        alias=START_DEADLINE,
        description="Let the job expire if it has not started after this time; in seconds, or with a unit.",
        examples=["30", "30s", "5m", "1h"],
        json_schema_extra={"pattern": DURATION_PATTERN},
    ),
]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias=IDEMPOTENCY_KEY,
        json_schema_extra={"pattern": "^[!-~]{1,255}$"},
        description="1 to 255 visible ASCII characters, such as a UUID. Requests with the same key make one job; the key is "
        "kept as long as the job.",
    ),
]
_Prefer = Annotated[
    str | None,
    Header(
        alias="Prefer",
        description=f"`wait=N` waits up to N seconds (at most {MAX_WAIT_S}) for the job to end; `respond-async` does not wait.",
        examples=["wait=30", "respond-async"],
    ),
]
_ChosenId = Annotated[
    str,
    Path(description="An id that you choose, such as a UUID.", json_schema_extra={"pattern": f"^{JOB_ID_PATTERN}$"}),
]


async def _page_cursor(cursor: CursorText = None) -> Cursor | None:
    return None if cursor is None else Cursor.decode(cursor, JOB_ID_PATTERN, "/jobs")


async def _preference(prefer: _Prefer = None) -> Preference:
    return parse_preference(prefer)


async def _deadlines(
    request: Request, cancel_after: _CancelAfter = None, start_deadline: _StartDeadline = None
) -> SubmitOptions:
    return SubmitOptions(
        cancel_after_s=parse_duration(CANCEL_AFTER, cancel_after),
        start_within_s=parse_duration(START_DEADLINE, start_deadline),
        request_id=request_id(request.scope),
    )


async def _keyed(
    deadlines: Annotated[SubmitOptions, Depends(_deadlines)], idempotency_key: IdempotencyKey = None
) -> SubmitOptions:
    return replace(deadlines, idempotency_key=parse_idempotency_key(idempotency_key))


async def _named(deadlines: Annotated[SubmitOptions, Depends(_deadlines)], job_id: _ChosenId) -> SubmitOptions:
    if not is_job_id(job_id):
        raise HTTPProblem(INVALID_PARAMETER, "A job's id is 16 to 64 letters, digits, '-' and '_'; choose another.")
    return replace(deadlines, job_id=job_id)


PageCursor = Annotated[Cursor | None, Depends(_page_cursor)]
PreferenceHeader = Annotated[Preference, Depends(_preference)]
KeyedOptions = Annotated[SubmitOptions, Depends(_keyed)]
NamedOptions = Annotated[SubmitOptions, Depends(_named)]
