"""One job for each request of OpenAI's interface, however often its client sends it; see ``ms_jobs.waiters``."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from redis.exceptions import RedisError
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.config import Settings
from app.dependencies import owned
from app.jobs.manage import Jobs
from app.jobs.submit import Submissions, SubmitOptions, request_hash
from app.requests.intake import SentRequest
from ms_core.errors import JobNotFoundError
from ms_jobs.records import JobRecord
from ms_jobs.waiters import Waiters

RETRY_COUNT = "x-stainless-retry-count"
# How often somebody's leaving is noted again while Redis is away.
AGAIN_AFTER_S = 0.5

log = logging.getLogger(__name__)


class Attendance:
    """One connection that waits for a job.

    Attributes:
        record: the job's when the connection began to wait.
        answered: whether the client got what it waits for.
    """

    def __init__(self, record: JobRecord, leave: Callable[[bool], None], patience_s: float) -> None:
        self.record = record
        self.answered = False
        self._leave = leave
        self._patience_s = patience_s
        self._leaving: asyncio.Task[None] | None = None

    async def end(self) -> None:
        """Wait no longer; goes on by itself if the caller is cancelled. Only the first call does anything."""
        if self._leaving is None:
            self._leaving = asyncio.create_task(self._note())
            # The event loop keeps no task alive.
            _leaving.add(self._leaving)
            self._leaving.add_done_callback(_leaving.discard)
        await asyncio.shield(self._leaving)

    async def _note(self) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + self._patience_s
        while True:
            try:
                return await run_in_threadpool(self._leave, self.answered)
            except RedisError as error:
                if loop.time() >= until:
                    log.warning("job %s keeps a connection that is gone: %s", self.record.id, error)
                    return None
            await asyncio.sleep(AGAIN_AFTER_S)


_leaving: set[asyncio.Task[None]] = set()


class Retries:
    """Finds the job of a request that is sent again, else submits it."""

    def __init__(self, waiters: Waiters, submissions: Submissions, jobs: Jobs, settings: Settings) -> None:
        self._waiters = waiters
        self._submissions = submissions
        self._jobs = jobs
        self._model = settings.model
        self._window_s = settings.retry_window_s

    def attend(self, sent: SentRequest, options: SubmitOptions, request: Request) -> Attendance:
        """Wait for the job of a request; errors as ``Submissions.submit``."""
        digest = self._digest(sent, request)
        record = None if options.idempotency_key else self._rejoin(digest, is_retry(request))
        if record is None:
            record = self._submissions.submit(sent, options).record
            self._waiters.begin(record.id, digest)
        job_id = record.id

        def leave(answered: bool) -> None:
            self._waiters.end(job_id, digest, answered)

        return Attendance(record, leave, self._window_s)

    def _digest(self, sent: SentRequest, request: Request) -> str:
        """Hash what was sent to which model, and by whom, as far as that is known."""
        host = "" if request.client is None else request.client.host
        client = (host, request.headers.get("authorization", ""))
        parts = (self._model, *client, request_hash(sent.request, sent.pictures))
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def _rejoin(self, digest: str, is_retry: bool) -> JobRecord | None:
        job_id = self._waiters.rejoin(digest, is_retry)
        try:
            return None if job_id is None else self._jobs.find(job_id)
        except JobNotFoundError:
            return None


RetriesDependency = Annotated[Retries, owned("retries")]


def options_of(idempotency_key: str | None, request_id: str) -> SubmitOptions:
    """Options of a submission.

    Args:
        idempotency_key: as ``app.jobs.headers.parse_idempotency_key`` returns it. It is another one than that of ``POST
            /generate``, whose jobs nobody cancels because a connection is closed.
    """
    options = SubmitOptions(request_id=request_id)
    if idempotency_key is None:
        return options
    return replace(options, idempotency_key=hashlib.sha256(f"openai {idempotency_key}".encode()).hexdigest())


def is_retry(request: Request) -> bool:
    """Whether a client of OpenAI says that it sends a request again."""
    count = request.headers.get(RETRY_COUNT, "")
    # Python refuses to read numbers of thousands of digits.
    return count.isdecimal() and count.strip("0") != ""


class AttendedResponse(Response):
    """An answer to one who waits for a job; when it has been sent, or the client is gone, nobody waits any longer."""

    def __init__(self, inner: Response, attendance: Attendance, answers: bool) -> None:
        """Wrap another answer.

        Args:
            answers: sending it whole is the answer; else whoever streams it says when.
        """
        super().__init__()
        self._inner = inner
        self._attendance = attendance
        self._answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer."""
        try:
            await self._inner(scope, receive, send)
            self._attendance.answered |= self._answers
        finally:
            await self._attendance.end()
