"""Reads the body of a request up to its limit, and parses it off the event loop."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from typing import Annotated, Any, Generic, Protocol, TypeVar

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from app.config import Settings
from app.dependencies import given
from app.requests.body_types import boundary_of, content_type_of, require_unpacked
from app.requests.fetching import Fetched, Fetcher
from app.requests.sent import SentBytes
from app.requests.turns import ClientLeftError, Turn, Turns
from app.service.errors import HTTPProblem
from app.service.problems import BAD_REQUEST, BODY_TOO_LARGE, TOO_MANY_UPLOADS
from app.service.shares import Shares
from ms_core.errors import PictureTooLargeError, QueueUnavailableError

Result = TypeVar("Result")

# Most wait for their turns, see ``app.requests.turns``.
THREADS = 32
# Requests whose pictures have no more pixels together have threads and turns of their own.
SMALL_PIXELS = 4_000_000
SMALL_THREADS = 8
# An owner has one in so many threads; more of its requests wait, so that others find one.
OWNERS_PART = 4
# How often a request that is decoded looks whether its client is still there.
LOOK_AGAIN_S = 0.5
# A body may be so small although others take all the memory for bodies.
SMALL_BODY_BYTES = 256 * 1024
# As many of the largest bodies are read or decoded at a time.
LARGEST_BODIES = 8
# Lets polls go first, but does not starve requests behind a worker on the same CPU.
NICENESS = 5


class Lane:
    """Threads for long computations, so that polls do not wait for them, and the turns in which they decode.

    They have low priority, and most wait: decoding a picture takes much memory, so few are decoded at once.
    """

    def __init__(self, threads: int, *, by_owner: bool = False) -> None:
        """Start no thread before the first work."""
        self.turns = Turns(by_owner=by_owner)
        most = threads // OWNERS_PART if by_owner else threads
        self._places = defaultdict[str, asyncio.Semaphore](lambda: asyncio.Semaphore(most))
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decoder", initializer=_let_others_go_first)

    async def run(self, owner: str, work: Callable[[], Result]) -> Result:
        """Run an owner's ``work`` in a thread; its log lines carry the request's id."""
        places, loop = self._places[owner], asyncio.get_running_loop()
        await places.acquire()
        future = self._pool.submit(copy_context().run, work)

        def free(_: Future[Result]) -> None:
            # After the loop's end nobody waits.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(places.release)

        # Also whoever has left holds its place until the thread is free.
        future.add_done_callback(free)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Start no further work."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class Decoders:
    """The lanes of large and small requests: a small one waits for no large one.

    Attributes:
        small: also for what waits for no turn.
    """

    def __init__(self, *, by_owner: bool = False) -> None:
        self.large, self.small = Lane(THREADS, by_owner=by_owner), Lane(SMALL_THREADS, by_owner=by_owner)

    def lane_for(self, pixels: int) -> Lane:
        """The lane of a request whose pictures have so many pixels together."""
        return self.small if pixels <= SMALL_PIXELS else self.large

    def close(self) -> None:
        """Start no further work."""
        self.large.close()
        self.small.close()


DecodersDependency = Annotated[Decoders, given("decoders")]
SettingsDependency = Annotated[Settings, given("settings")]


class Uploads:
    """Bounds the memory for the bodies of all requests that are read or decoded."""

    def __init__(self, max_bytes: int, *, by_owner: bool = False) -> None:
        self._bytes = Shares(max_bytes, by_owner=by_owner)

    @contextmanager
    def open(self, owner: str) -> Iterator[Upload]:
        """Hold the memory of one body during the block."""
        upload = Upload(owner)
        try:
            yield upload
        finally:
            self._bytes.give_back(owner, upload.held)

    def grow(self, upload: Upload, by: int) -> None:
        """Count bytes that arrived, of the body or of a picture that is fetched for it.

        Raises:
            HTTPProblem: other bodies take all the memory, or all of this owner's share, and this one is not small.
        """
        if not self._bytes.has(upload.owner, by) and upload.held + by > SMALL_BODY_BYTES:
            detail = "Too many large requests are being sent at the moment; try again in a few seconds."
            raise HTTPProblem(TOO_MANY_UPLOADS, detail)
        self._bytes.take(upload.owner, by)
        upload.held += by


@dataclass(slots=True)
class Upload:
    """One body as far as it has arrived, and how many bytes are held for it."""

    owner: str
    body: BytesIO = field(default_factory=BytesIO)
    held: int = 0


class Stopping(Protocol):
    """Knows whether this process was told to stop."""

    is_stopping: bool


StoppingDependency = Annotated[Stopping, given("event_log")]
UploadsDependency = Annotated[Uploads, given("uploads")]
FetcherDependency = Annotated[Fetcher, given("fetcher")]
SentDependency = Annotated[SentBytes, given("sent")]


@dataclass(frozen=True, slots=True)
class Body:
    """A body as it arrived.

    Attributes:
        boundary: between the parts of a form; ``None``: it is JSON, or a picture.
        is_picture: it is the file of a picture itself.
        fetched: pictures that it names by address; ``None`` if no addresses are followed.
    """

    content: bytes
    boundary: bytes | None = None
    is_picture: bool = False
    fetched: Fetched | None = None


@dataclass(frozen=True, slots=True)
class Measured(Generic[Result]):
    """A body whose pictures are not decoded yet.

    Attributes:
        pixels: of all of them together, by their headers.
        decode: does the rest, in the turns of the request.
    """

    pixels: int
    decode: Callable[[Turn], Result]


class BodyReader:
    """Reads the bodies of requests."""

    def __init__(
        self,
        decoders: Decoders,
        uploads: Uploads,
        fetcher: Fetcher,
        sent: SentBytes,
        process: Stopping,
        settings: Settings,
    ) -> None:
        self._decoders = decoders
        self._uploads = uploads
        self._sent = sent
        self._fetcher = fetcher
        self._process = process
        self._max_bytes = settings.max_body_bytes

    async def read(
        self, request: Request, measure: Callable[[Body], Measured[Result]], *, takes_picture: bool = False
    ) -> Result:
        """Read a body, JSON or a form, and parse it off the event loop, while its client is there.

        Args:
            measure: runs in a thread, once more when pictures were fetched; what it returns runs in one for requests of its size.
            takes_picture: the body may be the file of a picture, too.

        Raises:
            HTTPProblem: it is none of them, is too large or more than its owner may still send, or the client left.
            QueueUnavailableError: this process stops.
        """
        content_type = content_type_of(request.headers)
        is_picture = takes_picture and content_type.get_content_maintype() == "image"
        require_unpacked(request.headers)
        boundary = None if is_picture else boundary_of(content_type, takes_picture)
        with self._uploads.open(request.state.caller.owner) as upload:
            received = await _unless_stopping(self._receive(request, upload), self._process, _stays)
            body = Body(received, boundary, is_picture, self._fetcher.of_request())
            try:
                measured = await self._measure(body, measure, upload, request)
                await run_in_threadpool(self._sent.charge, upload.owner, upload.held)
                return await self._decode(measured, upload.owner, request)
            except ClientLeftError as error:
                raise HTTPProblem(BAD_REQUEST, "The client left before its request was read.") from error

    async def _measure(
        self, body: Body, measure: Callable[[Body], Measured[Result]], upload: Upload, request: Request
    ) -> Measured[Result]:
        """Measure a body, with the pictures that it names by address."""
        measured = await self._while_wanted(self._decoders.small.run(upload.owner, lambda: measure(body)), request)
        if body.fetched is None or not body.fetched.wanted:
            return measured
        await self._while_wanted(
            self._fetcher.fetch(body.fetched, upload.owner, partial(self._count_fetched, upload)), request
        )
        return await self._while_wanted(self._decoders.small.run(upload.owner, lambda: measure(body)), request)

    def _count_fetched(self, upload: Upload, by: int) -> None:
        self._uploads.grow(upload, by)
        if upload.held > self._max_bytes:
            detail = f"The request and the pictures at its addresses have more than {self._max_bytes} bytes together"
            raise PictureTooLargeError(f"{detail}; use smaller or fewer pictures.")

    async def _decode(self, measured: Measured[Result], owner: str, request: Request) -> Result:
        lane = self._decoders.lane_for(measured.pixels)
        turn = Turn(lane.turns, owner)
        try:
            return await self._while_wanted(lane.run(owner, lambda: measured.decode(turn)), request)
        finally:
            turn.leave()

    async def _while_wanted(self, work: Coroutine[Any, Any, Any], request: Request) -> Any:
        return await _unless_stopping(work, self._process, request.is_disconnected)

    async def _receive(self, request: Request, upload: Upload) -> bytes:
        """Read a body, no further than the limit."""
        detail = f"The body is larger than {self._max_bytes} bytes; send smaller or fewer pictures."
        too_large = HTTPProblem(BODY_TOO_LARGE, detail)
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > self._max_bytes:
            raise too_large
        try:
            async for chunk in request.stream():
                self._uploads.grow(upload, len(chunk))
                upload.body.write(chunk)
                if upload.body.tell() > self._max_bytes:
                    raise too_large
        except ClientDisconnect as error:
            raise HTTPProblem(BAD_REQUEST, "The body ended before it was complete.") from error
        # Without a copy, for which the event loop would stand still.
        body, upload.body = upload.body.getvalue(), BytesIO()
        return body


async def _body_reader(
    decoders: DecodersDependency,
    uploads: UploadsDependency,
    fetcher: FetcherDependency,
    sent: SentDependency,
    process: StoppingDependency,
    settings: SettingsDependency,
) -> BodyReader:
    return BodyReader(decoders, uploads, fetcher, sent, process, settings)


BodyReaderDependency = Annotated[BodyReader, Depends(_body_reader)]


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


def _let_others_go_first() -> None:
    """Lower this thread's priority, where threads have one."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
