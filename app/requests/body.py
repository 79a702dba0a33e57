"""Reads the body of a request up to its limit, and parses it off the event loop."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from email.message import Message
from typing import Annotated, Any, Protocol, TypeVar

from fastapi import Depends, Request
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect

from app.config import Settings
from app.dependencies import given
from app.requests.intake import SentRequest, parse_request
from app.requests.pictures import PictureLimits
from app.requests.turns import ClientLeftError, Turn
from app.service.errors import HTTPProblem
from app.service.problems import BAD_REQUEST, BODY_TOO_LARGE, NOT_JSON, SCHEMA_REF, TOO_MANY_UPLOADS
from ms_core.errors import QueueUnavailableError

Result = TypeVar("Result")

# Most wait for their turns, see ``app.requests.turns``.
THREADS = 32
# How often a request that is decoded looks whether its client is still there.
LOOK_AGAIN_S = 0.5
# A body may be so small although others take all the memory for bodies.
SMALL_BODY_BYTES = 256 * 1024
# As many of the largest bodies are read or decoded at a time.
LARGEST_BODIES = 8
# Lets polls go first, but does not starve requests behind a worker on the same CPU.
NICENESS = 5

REQUEST_BODY: dict[str, Any] = {
    "required": True,
    "content": {"application/json": {"schema": {"$ref": SCHEMA_REF.format(model="GenerateRequest")}}},
}


class Decoders:
    """Threads for long computations, so that polls do not wait for them.

    They have low priority, and most wait: decoding a picture takes much memory, so few are decoded at once.
    """

    def __init__(self) -> None:
        """Start no thread before the first work."""
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="decoder", initializer=_let_others_go_first)

    async def run(self, work: Callable[[], Result]) -> Result:
        """Run ``work`` in a thread; its log lines carry the request's id."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, copy_context().run, work)

    def close(self) -> None:
        """Start no further work."""
        self._pool.shutdown(wait=False, cancel_futures=True)


DecodersDependency = Annotated[Decoders, given("decoders")]
SettingsDependency = Annotated[Settings, given("settings")]


class Uploads:
    """Bounds the memory for the bodies of all requests that are read or decoded."""

    def __init__(self, max_bytes: int) -> None:
        self._left = max_bytes

    @contextmanager
    def open(self) -> Iterator[Upload]:
        """Hold the memory of one body during the block."""
        upload = Upload()
        try:
            yield upload
        finally:
            self._left += upload.held

    def grow(self, upload: Upload, by: int) -> None:
        """Count bytes that arrived.

        Raises:
            HTTPProblem: the bodies of others take all the memory, and this one is not small.
        """
        if by > self._left and len(upload.body) + by > SMALL_BODY_BYTES:
            detail = "Too many large requests are being sent at the moment; try again in a few seconds."
            raise HTTPProblem(TOO_MANY_UPLOADS, detail)
        self._left -= by
        upload.held += by


@dataclass(slots=True)
class Upload:
    """One body as far as it has arrived, and how many bytes are held for it."""

    body: bytearray = field(default_factory=bytearray)
    held: int = 0


class Stopping(Protocol):
    """Knows whether this process was told to stop."""

    is_stopping: bool


StoppingDependency = Annotated[Stopping, given("event_log")]
UploadsDependency = Annotated[Uploads, given("uploads")]


async def _receive(request: Request, limit: int, uploads: Uploads, upload: Upload) -> bytes:
    """Read a JSON body, no further than the limit."""
    _check_form(request.headers)
    too_large = HTTPProblem(BODY_TOO_LARGE, f"The body is larger than {limit} bytes; send smaller or fewer pictures.")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large
    try:
        async for chunk in request.stream():
            uploads.grow(upload, len(chunk))
            upload.body += chunk
            if len(upload.body) > limit:
                raise too_large
    except ClientDisconnect as error:
        raise HTTPProblem(BAD_REQUEST, "The body ended before it was complete.") from error
    body = bytes(upload.body)
    upload.body.clear()
    return body


def _check_form(headers: Headers) -> None:
    """Refuse what is not JSON, or is JSON in a wrapper."""
    content_type = Message()
    content_type["content-type"] = headers.get("content-type", "")
    if content_type.get_content_type() != "application/json":
        raise HTTPProblem(NOT_JSON, "Send the request as JSON, with the header Content-Type: application/json.")
    charset = content_type.get_content_charset("utf-8")
    if charset not in ("utf-8", "utf8", "us-ascii"):
        raise HTTPProblem(NOT_JSON, f"JSON is sent as UTF-8 (RFC 8259), not as {charset}.")
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        detail = "Send the body as it is, without Content-Encoding: it is not unpacked here."
        raise HTTPProblem(NOT_JSON, detail, {"Accept-Encoding": "identity"})


async def _sent_request(
    request: Request,
    decoders: DecodersDependency,
    uploads: UploadsDependency,
    process: StoppingDependency,
    settings: SettingsDependency,
) -> SentRequest:
    """Read the request, check it and decode its pictures, off the event loop, while its client is there."""
    limits = PictureLimits(settings.max_picture_pixels, settings.max_picture_side, settings.max_request_pixels)
    with uploads.open() as upload:
        body = await _unless_stopping(_receive(request, settings.max_body_bytes, uploads, upload), process, _stays)
        turn = Turn()
        try:
            return await _unless_stopping(
                decoders.run(lambda: parse_request(body, limits, turn)), process, request.is_disconnected
            )
        except ClientLeftError as error:
            raise HTTPProblem(BAD_REQUEST, "The client left before its request was read.") from error
        finally:
            turn.leave()


async def _unless_stopping(
    work: Coroutine[Any, Any, Result], process: Stopping, has_left: Callable[[], Awaitable[bool]]
) -> Result:
    """Await ``work`` unless the client leaves or this process is told to stop, which would cut the answer off.

    Raises:
        ClientLeftError: nobody waits for the work.
        QueueUnavailableError: this process stops.
    """
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait({task}, timeout=LOOK_AGAIN_S))[0]:
            if process.is_stopping:
                raise QueueUnavailableError("The service is stopping; send the request again in a few seconds.")
            if await has_left():
                raise ClientLeftError
        return task.result()
    finally:
        task.cancel()


async def _stays() -> bool:
    """Whoever is still sending has not left, or the reading finds out."""
    return False


SentRequestDependency = Annotated[SentRequest, Depends(_sent_request)]


def _let_others_go_first() -> None:
    """Lower this thread's priority, where threads have one."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
