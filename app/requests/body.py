"""Reads the body of a request up to its limit, and parses it off the event loop."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from email.message import Message
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect

from app.config import Settings
from app.dependencies import given
from app.requests.intake import SentRequest, parse_request
from app.requests.pictures import PictureLimits
from app.service.errors import HTTPProblem
from app.service.problems import BAD_REQUEST, BODY_TOO_LARGE, NOT_JSON, SCHEMA_REF

Result = TypeVar("Result")

# As many as ``app.requests.pictures`` decodes at once.
THREADS = 2
# Lets polls go first, but does not starve requests behind a worker on the same CPU.
NICENESS = 5

REQUEST_BODY: dict[str, Any] = {
    "required": True,
    "content": {"application/json": {"schema": {"$ref": SCHEMA_REF.format(model="GenerateRequest")}}},
}


class Decoders:
    """Threads for long computations, so that polls do not wait for them.

    They are few, since decoding a picture takes much memory, and they have low priority.
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


async def _json_body(request: Request, settings: SettingsDependency) -> bytes:
    """Read a JSON body, no further than the limit."""
    _check_form(request.headers)
    limit = settings.max_body_bytes
    too_large = HTTPProblem(BODY_TOO_LARGE, f"The body is larger than {limit} bytes; send smaller or fewer pictures.")
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
    body: Annotated[bytes, Depends(_json_body)], decoders: DecodersDependency, settings: SettingsDependency
) -> SentRequest:
    """Check the request and decode its pictures, off the event loop."""
    limits = PictureLimits(settings.max_picture_pixels, settings.max_picture_side)
    return await decoders.run(lambda: parse_request(body, limits))


SentRequestDependency = Annotated[SentRequest, Depends(_sent_request)]


def _let_others_go_first() -> None:
    """Lower this thread's priority, where threads have one."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
