"""Waits for the pictures of a job and answers with them, whole or as a stream of events."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from redis.exceptions import RedisError
from starlette.responses import Response, StreamingResponse

from app.jobs.event_log import Advance, EventLog, News, Transition
from app.jobs.manage import Jobs, shown_images
from app.jobs.read import Reader
from app.jobs.resources import job_resource
from app.openai.retries import Attendance, AttendedResponse
from app.openai.schemas import (
    COMPLETED,
    PARTIAL,
    Kind,
    OpenAICompletedImage,
    OpenAIImage,
    OpenAIImages,
    OpenAIPartialImage,
)
from app.openai.translation import Translation
from app.service.errors import QUEUE_AWAY, HTTPProblem
from app.service.openai_errors import openai_error
from app.service.problems import BAD_REQUEST, INTERNAL_ERROR, PROBLEMS, ProblemType, problem_of, problem_of_code
from ms_core.errors import JobGoneError, MSDiffusionError, QueueUnavailableError, StorageError
from ms_jobs.records import JobRecord, JobState, StoredImage

JOB, WARNING = "MSD-Job", "MSD-Warning"
# A comment goes out after so long, in seconds, so that no proxy takes the connection for dead.
SILENCE_S = 15.0
NO_LONGER = "The service can wait for this job no longer; send the request again in a few seconds."

Result = TypeVar("Result")


class _Gone(Exception):
    """The client closed its connection."""


@dataclass(frozen=True, slots=True)
class Answers:
    """Makes the answers of one process."""

    jobs: Jobs
    reader: Reader
    event_log: EventLog

    async def answer(self, request: Request, attendance: Attendance, translation: Translation, kind: Kind) -> Response:
        """Answer one who waits for a job.

        Raises:
            HTTPProblem, MSDiffusionError, redis.exceptions.RedisError: there are no pictures.
        """
        headers = {JOB: attendance.record.id, "Cache-Control": "no-store"}
        if translation.warnings:
            headers[WARNING] = "; ".join(translation.warnings)
        if translation.partial_images is not None:
            stream = _Stream(self, attendance, kind, translation)
            inner = StreamingResponse(stream.texts(), headers=headers, media_type="text/event-stream")
            return AttendedResponse(inner, attendance, answers=False)
        try:
            body = await _unless_gone(request, self._whole(attendance.record))
        except _Gone as error:
            await attendance.end()
            raise HTTPProblem(BAD_REQUEST, "The client left before its pictures were made.") from error
        except BaseException as error:
            # Before the answer is sent, so that the client's next try finds the job; a refusal is an answer, too.
            attendance.answered = _problem_of(error).status < HTTPStatus.INTERNAL_SERVER_ERROR
            await attendance.end()
            raise
        return AttendedResponse(
            Response(body, headers=headers, media_type="application/json"), attendance, answers=True
        )

    async def _whole(self, record: JobRecord) -> bytes:
        view = await self.reader.view_of(record)
        view = await self.reader.wait_for_end(view, float("inf"), _stays)
        return await run_in_threadpool(self._pictures, require_pictures(view.record))

    def _pictures(self, record: JobRecord) -> bytes:
        images = shown_images(record)
        answer = OpenAIImages(
            created=int(record.created_at),
            data=[OpenAIImage(b64_json=self.load(record, image), seed=image.seed) for image in images],
            size=_size(images[0]),
            output_format=_format(images[0]),
            job=record.id,
            warnings=list(record.warnings),
        )
        return answer.model_dump_json().encode()

    def load(self, record: JobRecord, image: StoredImage) -> str:
        """The bytes of a picture, in base64."""
        _, content = self.jobs.image(record.id, image.index)
        return base64.b64encode(content).decode()


class _Stream:
    """The events of one job."""

    def __init__(self, answers: Answers, attendance: Attendance, kind: Kind, translation: Translation) -> None:
        self._answers = answers
        self._attendance = attendance
        self._record = attendance.record
        self._kind: Kind = kind
        self._wanted = translation.partial_images or 0
        self._sent = 0
        sides = (translation.request.get("width"), translation.request.get("height"))
        self._size = "auto" if None in sides else f"{sides[0]}x{sides[1]}"

    async def texts(self) -> AsyncIterator[str]:
        """Yield previews, then the pictures, or what went wrong; a comment now and then."""
        try:
            with self._answers.event_log.watching(self._record.owner):
                async for text in self._previews():
                    yield text
            record = require_pictures((await self._answers.reader.view(self._record.id)).record)
            for image in shown_images(record):
                b64_json = await run_in_threadpool(self._answers.load, record, image)
                yield self._event(
                    OpenAICompletedImage(
                        type=COMPLETED[self._kind],
                        b64_json=b64_json,
                        created_at=int(record.created_at),
                        size=_size(image),
                        output_format=_format(image),
                        seed=image.seed,
                    )
                )
            self._attendance.answered = True
        except (HTTPProblem, MSDiffusionError, RedisError) as error:
            problem = _problem_of(error)
            self._attendance.answered = problem.status < HTTPStatus.INTERNAL_SERVER_ERROR
            detail = QUEUE_AWAY if isinstance(error, RedisError) else error.detail
            body = openai_error(problem.status, problem.code, detail).model_dump_json()
            yield f"event: error\ndata: {body}\n\n"

    async def _previews(self) -> AsyncIterator[str]:
        """Yield the previews until the job has ended."""
        log, job = self._answers.event_log, self._record.key
        after, has_changed = 0, False
        while True:
            news = await log.read(job, after, with_preview=self._sent < self._wanted)
            after = news.entries[-1].version if news.entries else after
            is_over = any(isinstance(entry, Transition) and entry.state.ended for entry in news.entries)
            if is_over or (has_changed and not news.entries):
                # Ended, gone, or lost by Redis: the record says which.
                return
            if (preview := self._due(news)) is not None:
                yield self._partial(preview)
            if log.is_stopping:
                return
            has_changed = await log.next_change(job, after, SILENCE_S)
            if not has_changed:
                yield ": waiting\n\n"

    def _due(self, news: News) -> bytes | None:
        """The newest preview, if it is time for the next one: they are spread over the steps."""
        drawn = [entry for entry in news.entries if isinstance(entry, Advance) and entry.has_preview]
        # None is read once as many as wanted were sent.
        if news.preview is None or not drawn:
            return None
        step, steps = drawn[-1].step or 0, drawn[-1].steps or 1
        return news.preview if step / steps >= self._sent / self._wanted else None

    def _partial(self, preview: bytes) -> str:
        self._sent += 1
        return self._event(
            OpenAIPartialImage(
                type=PARTIAL[self._kind],
                b64_json=base64.b64encode(preview).decode(),
                partial_image_index=self._sent - 1,
                created_at=int(self._record.created_at),
                size=self._size,
                output_format="webp",
            )
        )

    def _event(self, data: OpenAIPartialImage | OpenAICompletedImage) -> str:
        return f"event: {data.type}\ndata: {data.model_dump_json()}\n\n"


def require_pictures(record: JobRecord) -> JobRecord:
    """Return the record of a job that succeeded.

    Raises:
        HTTPProblem: the job failed or expired.
        JobGoneError: it was canceled.
        QueueUnavailableError: it has not ended, and this process stops.
    """
    if not record.state.ended:
        raise QueueUnavailableError(NO_LONGER)
    if record.state is JobState.CANCELED:
        raise JobGoneError("The job was canceled.")
    error = job_resource(record).error
    if error is not None:
        raise HTTPProblem(problem_of_code(error.code) or INTERNAL_ERROR, error.detail)
    if not shown_images(record):
        raise StorageError("The job has no pictures; send the request again.")
    return record


def _problem_of(error: BaseException) -> ProblemType:
    if isinstance(error, HTTPProblem):
        return error.problem
    if isinstance(error, RedisError):
        return PROBLEMS[QueueUnavailableError]
    return problem_of(error) if isinstance(error, MSDiffusionError) else INTERNAL_ERROR


async def _unless_gone(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Await ``work`` unless the client closes its connection.

    Raises:
        _Gone: it did.
    """
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise _Gone
        return task.result()
    finally:
        task.cancel()
        gone.cancel()


async def _disconnected(request: Request) -> None:
    """Return when the client closes its connection; the body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _stays() -> bool:
    """``_unless_gone`` looks, and hears of it at once."""
    return False


def _size(image: StoredImage) -> str:
    return f"{image.width}x{image.height}"


def _format(image: StoredImage) -> str:
    return image.content_type.removeprefix("image/")
