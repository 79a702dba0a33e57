"""The blocking client."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import nullcontext
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


class Client:
    """Asks one service. It may be shared by threads; ``close`` it at the end, or use it as a context manager.

    Args:
        base_url: the service's address.
        api_key: sent as ``Authorization: Bearer``; by default that of the environment, ``MSD_API_KEY``.
        timeout: seconds for each answer; a job may take longer.
        retries: how failures that may pass are dealt with.
        upload: whether pictures are uploaded once and then named; otherwise each request holds its own.

    Raises (every method):
        MsdError: see ``msd_client.errors``.
    """

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
        self._client = httpx2.Client(**self._connection.arguments())
        self._calls = Calls(retries, upload)

    @property
    def url(self) -> str:
        """The service's address, without a slash at its end."""
        return self._connection.url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def generate(  # noqa: PLR0913 - each argument is a choice of the caller
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
        """Make pictures and wait for them. Ctrl-C, or an exception of a callback, cancels the job.

        Args:
            on_progress: sees the job whenever it is new.
            on_preview: sees small previews of the first picture.
            idempotency_key: the same key and request give the same job, however often; by default a new one.
            options: other fields of the request, such as ``seed``.

        Raises:
            JobError: the job ended without pictures.
        """
        if on_preview is not None:
            options.setdefault("previews", True)
        flow = self._calls.generate(request_json(prompt, subjects, options), idempotency_key)
        with ProgressBar() if progress_bar else nullcontext() as bar:
            return self._run(flow, Listener(on_progress, on_preview, bar))

    def submit(
        self,
        prompt: str,
        subjects: Sequence[Subject | Mapping[str, Any]],
        *,
        idempotency_key: str | None = None,
        **options: Unpack[Options],
    ) -> Job:
        """Queue a request and return at once; one job, even if an answer is lost on the way."""
        return self._run(self._calls.submit(request_json(prompt, subjects, options), idempotency_key))

    def job(self, job_id: str) -> Job:
        """Fetch the current state of a job."""
        return self._run(self._calls.job(job_id))

    def wait(
        self,
        job_id: str,
        on_progress: Callable[[Job], object] | None = None,
        on_preview: Callable[[PreviewEvent], object] | None = None,
    ) -> Job:
        """Follow a job to its end, whatever that is; previews come only if the request has ``previews``."""
        flow = self._calls.wait(job_id, on_preview is not None)
        return self._run(flow, Listener(on_progress, on_preview))

    def watch(self, job_id: str, after: int = 0, previews: bool = False) -> Iterator[Event]:
        """The events of a job above a version, past and future, to its end, over as many connections as needed."""
        return self._iterate(Steps(self._calls.watch(job_id, after, previews), self.url))

    def image(self, job_id: str, index: int = 0) -> bytes:
        """Fetch a finished picture, encoded."""
        return self._run(self._calls.image(job_id, index))

    def cancel(self, job_id: str) -> Job:
        """Cancel a job, or ask for it while it runs."""
        return self._run(self._calls.cancel(job_id))

    def upload(self, picture: PictureSource) -> Asset:
        """Keep a picture on the service; the asset stands for it in requests."""
        return self._run(self._calls.upload(picture))

    def inspect(self, picture: PictureSource) -> Inspection:
        """Read how a finished picture was made, out of its file."""
        return self._run(self._calls.inspect(picture))

    def models(self) -> tuple[Model, ...]:
        """List the service's models."""
        return self._run(self._calls.models())

    def readiness(self) -> Readiness:
        """Ask whether the service can make pictures now, and what it lacks."""
        return self._run(self._calls.readiness())

    def reference_url(self, job_id: str, subject: int) -> str:
        """The address of the PNG of what the model sees of a subject."""
        return f"{self.url}/jobs/{job_id}/references/{subject}"

    def _run(self, flow: Flow[T], listener: Listener | None = None) -> T:
        steps = Steps(flow, self.url)
        reports = self._iterate(steps)
        for value in reports:
            try:
                (listener or Listener()).hear(value)
            except BaseException as error:
                reports.throw(error)
        return steps.result

    def _iterate(self, steps: Steps[Any]) -> Generator[Any]:
        """What the flow reports, while its actions are carried out."""
        line = _Line(self._client, self._connection)
        try:
            while (action := steps.action) is not None:
                try:
                    steps.reply((yield action.value) if isinstance(action, Report) else line.do(action))
                except BaseException as error:
                    # What the flow itself raised, it raises again.
                    steps.fail(error)
        finally:
            line.hang_up()


class _Line:
    """Carries out the actions of one flow."""

    def __init__(self, client: httpx2.Client, connection: Connection) -> None:
        self._client = client
        self._connection = connection
        self._stream: httpx2.Response | None = None
        self._events: Iterator[httpx2.ServerSentEvent] = iter(())

    def do(self, action: Action) -> Any:
        """Carry out an action, and give its reply."""
        if isinstance(action, NextEvent):
            return next(self._events, None)
        self.hang_up()
        if isinstance(action, Request):
            response = self._client.request(**action.arguments())
            return answer_of(response, response.content)
        if isinstance(action, Pause):
            time.sleep(action.seconds)
        elif isinstance(action, Connect):
            return self._connect(action)
        return None

    def _connect(self, action: Connect) -> Answer:
        timeout = self._connection.timeout_of_events
        request = self._client.build_request("GET", action.path, headers=action.headers, timeout=timeout)
        self._stream = self._client.send(request, stream=True)
        if self._stream.status_code != HTTPStatus.OK:
            return answer_of(self._stream, self._stream.read())
        self._events = iter(httpx2.EventSource(self._stream))
        return answer_of(self._stream, b"")

    def hang_up(self) -> None:
        """Close the stream, if one is open."""
        if self._stream is not None:
            self._stream.close()
            self._stream, self._events = None, iter(())
