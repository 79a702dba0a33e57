"""What a call does, apart from how it reaches the service.

A flow is a generator: it yields actions, gets the reply of each, and returns the result of the call. ``Steps`` runs one; a
transport, blocking or not, carries its actions out. So each call is written once.
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Generic, TypeVar

import httpx2

from msd_client.errors import ApiError, ConflictError, MsdError, NoAnswerError, RateLimitError, api_error
from msd_client.events import Event, read_event

T = TypeVar("T")

POLL_INTERVAL_S = 0.25
MAX_PAUSE_S = 4.0
# How long a call waits for a limit of the service to pass.
AT_LIMIT_S = 10.0
# The service says something at least every 15 s to those who watch.
SILENCE_S = 40.0
IDEMPOTENCY_KEY = "Idempotency-Key"


@dataclass(frozen=True, slots=True)
class Request:
    """Send it; the reply is an ``Answer``. ``files`` are (file name, bytes, media type)."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    json: Any = None
    files: tuple[tuple[str, bytes, str], ...] = ()
    timeout_s: float | None = None
    # Not to be broken off by a further cancellation.
    is_last: bool = False

    def arguments(self) -> dict[str, Any]:
        """As httpx2 takes them.

        Raises:
            MsdError: a number that JSON does not know.
        """
        body: dict[str, Any] = {}
        if self.files:
            body["files"] = [("picture", file) for file in self.files]
        elif self.json is not None:
            body["content"] = _json(self.json)
        headers = dict(self.headers) | ({"Content-Type": "application/json"} if "content" in body else {})
        timeout = {} if self.timeout_s is None else {"timeout": self.timeout_s}
        return {"method": self.method, "url": self.path, "headers": headers, **body, **timeout}


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, whole; of a stream without its content."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    host: str

    def read(self, read: Callable[[Any], T]) -> T:
        """What ``read`` makes of the content, which is JSON.

        Raises:
            ApiError: this is not the service.
        """
        try:
            return read(json.loads(self.content))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise not_the_service(self) from error


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Connect:
    """Open a stream of events; the reply is its ``Answer``. It stays open until the next request or pause."""

    path: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class NextEvent:
    """Wait for an event of the open stream; the reply is ``None`` at its end."""


@dataclass(frozen=True, slots=True)
class Report:
    """Tell the caller."""

    value: Any


Action = Request | Pause | Connect | NextEvent | Report
Flow = Generator[Action, Any, T]


class Steps(Generic[T]):
    """A flow that is being run.

    Attributes:
        action: what to do next; ``None`` at the end.
        result: of the call, at the end.
    """

    result: T

    def __init__(self, flow: Flow[T], url: str) -> None:
        self._flow = flow
        self._url = url
        self.action: Action | None = None
        self._advance(lambda: next(flow))

    def reply(self, value: Any) -> None:
        """Tell what the action gave."""
        self._advance(lambda: self._flow.send(value))

    def fail(self, error: BaseException) -> None:
        """Tell that the action failed; raises what the flow does not deal with."""
        told = no_answer(error, self._url) if isinstance(error, httpx2.TransportError) else error
        self._advance(lambda: self._flow.throw(told))

    def _advance(self, move: Callable[[], Action]) -> None:
        try:
            self.action = move()
        except StopIteration as end:
            self.action = None
            self.result = end.value


class Patience:
    """How long a call goes on after failures that may pass."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: float | None = None
        self._failures = 0

    def renew(self) -> None:
        """All is well."""
        self._since, self._failures = None, 0

    def pause_after(self, error: MsdError) -> Pause:
        """How long to wait before the next try.

        Raises:
            MsdError: the error, if it does not pass or the patience ends.
        """
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        pause_s = min(POLL_INTERVAL_S * 2**self._failures, MAX_PAUSE_S)
        if error.retry_after_s is not None:
            pause_s = max(pause_s, error.retry_after_s)
        seconds = min(self._seconds, AT_LIMIT_S) if isinstance(error, RateLimitError) else self._seconds
        if now + pause_s > self._since + seconds:
            raise error
        self._failures += 1
        return Pause(pause_s)


def ask(request: Request, patience_s: float, retry_refusals: bool) -> Flow[Answer]:
    """Send a request until it is answered.

    One whose answer was lost may have been accepted, so it is sent again until that is known; without ``retry_refusals``
    one that was refused or did not arrive is not.
    """
    patience = Patience(patience_s)
    is_lost = False
    while True:
        try:
            return (yield from ask_once(request))
        except MsdError as error:
            is_lost = is_lost or (isinstance(error, NoAnswerError) and error.is_lost)
            # The first one may still be read.
            is_at_it = is_lost and isinstance(error, ConflictError) and IDEMPOTENCY_KEY in request.headers
            if not (error.may_pass or is_at_it) or not (is_lost or retry_refusals):
                raise
            pause = patience.pause_after(error)
        yield pause


def ask_once(request: Request) -> Flow[Answer]:
    """Send a request; raises ``ApiError`` for a refusal."""
    answer: Answer = yield request
    if not is_success(answer.status):
        raise refusal(answer)
    return answer


def next_event() -> Flow[Event | None]:
    """The next event that is known; ``None`` at the end of the stream, and when it is cut."""
    while True:
        try:
            received = yield NextEvent()
        except NoAnswerError:
            return None
        if received is None:
            return None
        event = read_event(received)
        if event is not None:
            return event


def is_success(status: int) -> bool:
    """Whether it did what was asked."""
    return HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES


def refusal(answer: Answer) -> ApiError:
    """The error behind an answer that is not a success."""
    if answer.headers.get("content-type", "").partition(";")[0] != "application/problem+json":
        return not_the_service(answer)
    error = answer.read(lambda problem: api_error(answer.status, problem, answer.headers.get("x-request-id")))
    error.retry_after_s = _seconds(answer.headers.get("retry-after"))
    return error


def not_the_service(answer: Answer) -> ApiError:
    """Another program answers, or a gateway before the service."""
    detail = f"The program at {answer.host} is not this service (HTTP status {answer.status})."
    error = api_error(answer.status, {"detail": detail}, None)
    error.retry_after_s = _seconds(answer.headers.get("retry-after"))
    return error


def no_answer(error: BaseException, url: str) -> MsdError:
    """The error behind a failure of the transport."""
    if (reason := _distrust(error)) is not None:
        # Another try would find the same certificate.
        told = MsdError(
            f"The certificate of {url} is not trusted: {reason}. If an authority of your own made it, let SSL_CERT_FILE name its file."
        )
    elif isinstance(error, httpx2.TimeoutException):
        is_lost = not isinstance(error, (httpx2.ConnectTimeout, httpx2.PoolTimeout))
        told = NoAnswerError(f"The service at {url} does not answer in time; try again.", is_lost)
    else:
        is_lost = not isinstance(error, httpx2.ConnectError)
        told = NoAnswerError(f"No service answers at {url}; start one with: msd up", is_lost)
    told.__cause__ = error
    return told


def _distrust(error: BaseException) -> str | None:
    """Why a certificate was refused, if that is what failed."""
    link: BaseException | None = error
    while link is not None:
        for part in (link, *link.args):
            if isinstance(part, ssl.SSLCertVerificationError):
                return part.verify_message
        link = link.__cause__
    return None


def _json(value: Any) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise MsdError(f"The request cannot be written as JSON: {error}.") from error


def _seconds(retry_after: str | None) -> float | None:
    return float(retry_after) if retry_after is not None and retry_after.strip().isdecimal() else None
