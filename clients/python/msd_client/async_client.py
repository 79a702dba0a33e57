"""The client for asyncio."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, nullcontext, suppress
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx2

from msd_client._calls import DEFAULT_RETRIES, Calls, Retries
from msd_client._connection import DEFAULT_TIMEOUT_S, DEFAULT_URL, Connection, Listener, answer_of
from msd_client._flow import Action, Answer, Connect, Flow, NextEvent, Pause, Report, Request, Steps
from msd_client.bar import ProgressBar
from msd_client.events import Event, PreviewEvent
from msd_client.jobs import Asset, Inspection, Job, Model, Readiness
from msd_client.pictures import PictureSource
from msd_client.requests import Options, Subject, request_json
from msd_client.results import Result

T = TypeVar("T")


class AsyncClient:
    """``Client`` for asyncio: the same calls, to be awaited; callbacks may be coroutine functions."""

    def __init__(
        self,
        base_url: str = DEFAULT_URL,
        api_key: str | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT_S,
        retries: Retries = DEFAULT_RETRIES,
        upload: bool = True,
    ) -> None:
        self._connection = Connection(base_url.rstrip("/"), api_key, timeout)
        self._client = httpx2.AsyncClient(**self._connection.arguments())
        self._calls = Calls(retries, upload)

    @property
    def url(self) -> str:
        """As ``Client.url``."""
        return self._connection.url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def generate(  # noqa: PLR0913 - each argument is a choice of the caller
        self,
        prompt: str,
        subjects: Sequence[Subject | Mapping[str, Any]],
        *,
        on_progress: Callable[[Job], object] | None = None,
        on_preview: Callable[[PreviewEvent], object] | None = None,
        progress_bar: bool = False,
        idempotency_key: str | None = None,
        **options: Unpack[Options],
    ) -> Result:
        """As ``Client.generate``; a cancellation of the task cancels the job."""
        if on_preview is not None:
            options.setdefault("previews", True)
        request = await asyncio.to_thread(request_json, prompt, subjects, options)
        with ProgressBar() if progress_bar else nullcontext() as bar:
            flow = self._calls.generate(request, idempotency_key)
            return await self._run(flow, Listener(on_progress, on_preview, bar))

    async def submit(
        self,
        prompt: str,
        subjects: Sequence[Subject | Mapping[str, Any]],
        *,
        idempotency_key: str | None = None,
        **options: Unpack[Options],
    ) -> Job:
        """As ``Client.submit``."""
        request = await asyncio.to_thread(request_json, prompt, subjects, options)
        return await self._run(self._calls.submit(request, idempotency_key))

    async def job(self, job_id: str) -> Job:
        """As ``Client.job``."""
        return await self._run(self._calls.job(job_id))

    async def wait(
        self,
        job_id: str,
        on_progress: Callable[[Job], object] | None = None,
        on_preview: Callable[[PreviewEvent], object] | None = None,
    ) -> Job:
        """As ``Client.wait``."""
        flow = self._calls.wait(job_id, on_preview is not None)
        return await self._run(flow, Listener(on_progress, on_preview))

    def watch(self, job_id: str, after: int = 0, previews: bool = False) -> AsyncIterator[Event]:
        """As ``Client.watch``."""
        return self._iterate(Steps(self._calls.watch(job_id, after, previews), self.url))

    async def image(self, job_id: str, index: int = 0) -> bytes:
        """As ``Client.image``."""
        return await self._run(self._calls.image(job_id, index))

    async def cancel(self, job_id: str) -> Job:
        """As ``Client.cancel``."""
        return await self._run(self._calls.cancel(job_id))

    async def upload(self, picture: PictureSource) -> Asset:
        """As ``Client.upload``."""
        return await self._run(self._calls.upload(picture))

    async def inspect(self, picture: PictureSource) -> Inspection:
        """As ``Client.inspect``."""
        return await self._run(self._calls.inspect(picture))

    async def models(self) -> tuple[Model, ...]:
        """As ``Client.models``."""
        return await self._run(self._calls.models())

    async def readiness(self) -> Readiness:
        """As ``Client.readiness``."""
        return await self._run(self._calls.readiness())

    async def _run(self, flow: Flow[T], listener: Listener | None = None) -> T:
        steps = Steps(flow, self.url)
        async with aclosing(self._iterate(steps)) as reports:
            async for value in reports:
                try:
                    heard = (listener or Listener()).hear(value)
                    if inspect.isawaitable(heard):
                        await heard
                except BaseException as error:
                    await reports.athrow(error)
        return steps.result

    async def _iterate(self, steps: Steps[Any]) -> AsyncGenerator[Any]:
        """What the flow reports, while its actions are carried out."""
        line = _Line(self._client, self._connection)
        try:
            while (action := steps.action) is not None:
                try:
                    steps.reply((yield action.value) if isinstance(action, Report) else await line.do(action))
                except BaseException as error:
                    # What the flow itself raised, it raises again.
                    steps.fail(error)
        finally:
            await line.hang_up()


class _Line:
    """Carries out the actions of one flow."""

    def __init__(self, client: httpx2.AsyncClient, connection: Connection) -> None:
        self._client = client
        self._connection = connection
        self._stream: httpx2.Response | None = None
        self._events: AsyncIterator[httpx2.ServerSentEvent] | None = None

    async def do(self, action: Action) -> Any:
        """Carry out an action, and give its reply."""
        if isinstance(action, NextEvent):
            return None if self._events is None else await anext(self._events, None)
        await self.hang_up()
        if isinstance(action, Request):
            sending = self._send(action)
            return await (_undisturbed(sending) if action.is_last else sending)
        if isinstance(action, Pause):
            await asyncio.sleep(action.seconds)
        elif isinstance(action, Connect):
            return await self._connect(action)
        return None

    async def _send(self, action: Request) -> Answer:
        response = await self._client.request(**action.arguments())
        return answer_of(response, response.content)

    async def _connect(self, action: Connect) -> Answer:
        timeout = self._connection.timeout_of_events
        request = self._client.build_request("GET", action.path, headers=action.headers, timeout=timeout)
        self._stream = await self._client.send(request, stream=True)
        if self._stream.status_code != HTTPStatus.OK:
            return answer_of(self._stream, await self._stream.aread())
        self._events = aiter(httpx2.EventSource(self._stream))
        return answer_of(self._stream, b"")

    async def hang_up(self) -> None:
        """Close the stream, if one is open."""
        if self._stream is not None:
            stream, self._stream, self._events = self._stream, None, None
            await stream.aclose()


async def _undisturbed(work: Awaitable[T]) -> T:
    """Await ``work`` to its end, even if this task is canceled meanwhile, as cancel scopes do again and again."""
    task = asyncio.ensure_future(work)
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait({task})
    return task.result()
