"""uvicorn's HTTP with limits around the body: on the size and time of a head, the pace of a body, the number of connections."""

from __future__ import annotations

import json
import resource
from asyncio import TimerHandle, Transport
from collections.abc import Iterable
from contextlib import suppress
from http import HTTPStatus
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.service.openai_errors import is_openai_path, openai_error
from ms_core.errors import StartupError

MAX_HEAD_BYTES = 64 * 1024
HEAD_TIME_S = 10.0
# A body may take this long, and must bring so much in each period.
BODY_TIME_S = 300.0
PERIOD_S = 10.0
LEAST_BYTES_PER_PERIOD = 256 * 1024
# Bodies that were answered before their end, as too large or too many, are read on so slowly, all together.
UNWANTED_BYTES_PER_S = 64 * 1024 * 1024
MOST_CONNECTIONS = 5000
# Files that a process needs beside connections.
OWN_FILES = 100
_SENTENCES = {
    HTTPStatus.BAD_REQUEST: ("bad_request", "The request is not valid HTTP."),
    HTTPStatus.REQUEST_TIMEOUT: ("request_timeout", "The request arrived too slowly; send it again."),
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: ("headers_too_large", "The request's headers are too large."),
}


def most_connections(max_watchers: int) -> int:
    """Allow this process as many open files as it may have; returns how many connections they suffice for.

    Args:
        max_watchers: how many clients may hold a connection to Redis.

    Raises:
        StartupError: they suffice for none.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_CONNECTIONS + max_watchers + OWN_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        target = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    least = max_watchers + OWN_FILES
    if soft <= least:
        raise StartupError(
            f"This process may open {soft} files, and needs more than {least} with MSD_MAX_WATCHERS={max_watchers}. "
            "Raise the limit (ulimit -n), or lower MSD_MAX_WATCHERS."
        )
    return min(MOST_CONNECTIONS, soft - least)


class Pace:
    """Spreads what all connections bring over time, so that reading it leaves time for others."""

    def __init__(self) -> None:
        """Nothing has come yet."""
        self._free_at = 0.0

    def pause_s(self, size: int, now: float) -> float:
        """How long to wait after so many bytes."""
        self._free_at = max(self._free_at, now) + size / UNWANTED_BYTES_PER_S
        return self._free_at - now


# Of this process.
_UNWANTED = Pace()


class GuardedProtocol(HttpToolsProtocol):
    """One connection; a client that is too slow or says too much is told so, and hung up on."""

    # What uvicorn sets with the first byte of a request.
    url = b""
    _head_bytes = 0
    _body_bytes = 0
    _is_in_head = True
    _is_in_body = False
    _timer: TimerHandle | None = None
    _pause: TimerHandle | None = None
    _body_ends_at = 0.0
    # Opened, or answered last.
    _silent_since = 0.0

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Limit the time for the first head; of too many connections, the one without a request for longest goes."""
        super().connection_made(transport)
        self._silent_since = self.loop.time()
        self._await_head()
        if self.limit_concurrency is not None and len(self.connections) >= self.limit_concurrency:
            idle = [other for other in _guarded(self.connections) if other._is_idle]
            eldest = min(idle, key=lambda other: other._silent_since, default=self)
            # At once, for uvicorn counts these: the transport tells of the end a little later.
            self.connections.discard(eldest)
            eldest.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks."""
        self._stop_timer()
        if self._pause is not None:
            self._pause.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what a head or a body has."""
        if self.transport.is_closing():
            return
        self._body_bytes += len(data)
        super().data_received(data)
        if self._is_in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._hang_up(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif self._is_idle and self._timer is None and self.timeout_keep_alive_task is None:
            # Empty lines before a head stop uvicorn's own clock.
            self._await_head()
        elif self._is_idle and self._is_in_body:
            self._pause_reading(len(data))

    @property
    def _is_idle(self) -> bool:
        """Whether nothing is being asked or answered."""
        return self._is_in_head or (self.cycle is not None and self.cycle.response_complete)

    def on_message_begin(self) -> None:
        """Limit the time for a further head."""
        super().on_message_begin()
        self._await_head()

    def on_headers_complete(self) -> None:
        """Limit the time for the body."""
        self._is_in_head, self._is_in_body = False, True
        self._head_bytes = self._body_bytes = 0
        self._body_ends_at = self.loop.time() + BODY_TIME_S
        self._set_timer(PERIOD_S, self._check_body)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Stop the clock."""
        self._is_in_body = False
        self._stop_timer()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Note when."""
        self._silent_since = self.loop.time()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Tell clients of OpenAI's interface in its form that they do not speak HTTP, others in uvicorn's words."""
        if not is_openai_path(_path(self.url)):
            super().send_400_response(msg)
            return
        self.transport.write(_answer(HTTPStatus.BAD_REQUEST, self.url))
        self.transport.close()

    def _await_head(self) -> None:
        self._is_in_head = True
        self._head_bytes = 0
        self._set_timer(HEAD_TIME_S, lambda: self._hang_up(HTTPStatus.REQUEST_TIMEOUT))

    def _pause_reading(self, size: int) -> None:
        """Wait after so many bytes for which nobody waits any more."""
        self.flow.pause_reading()
        self._pause = self.loop.call_later(_UNWANTED.pause_s(size, self.loop.time()), self.flow.resume_reading)

    def _check_body(self) -> None:
        is_held_up = bool(self.flow.read_paused)
        is_slow = self._body_bytes < LEAST_BYTES_PER_PERIOD and not is_held_up
        if is_slow or self.loop.time() > self._body_ends_at:
            self._hang_up(HTTPStatus.REQUEST_TIMEOUT)
            return
        self._body_bytes = 0
        self._set_timer(PERIOD_S, self._check_body)

    def _hang_up(self, status: HTTPStatus) -> None:
        """Say why, unless an answer has begun or nothing was asked, and close."""
        self._stop_timer()
        if self.transport.is_closing():
            return
        has_begun = self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete
        if not has_begun and (self._head_bytes or not self._is_in_head):
            self.transport.write(_answer(status, self.url))
        self.transport.close()

    def _set_timer(self, seconds: float, call: Any) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, call)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _guarded(connections: Iterable[Any]) -> Iterable[GuardedProtocol]:
    return cast("Iterable[GuardedProtocol]", connections)


def _answer(status: HTTPStatus, target: bytes) -> bytes:
    """An answer in the form of the service's other errors.

    Args:
        target: of the request line, as far as it has arrived.
    """
    kind, body = _error(status, _path(target))
    return (
        f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: {kind}\r\n"
        f"content-length: {len(body)}\r\nx-content-type-options: nosniff\r\nconnection: close\r\n\r\n{body}"
    ).encode()


def _path(target: bytes) -> str:
    return target.partition(b"?")[0].decode("ascii", "replace")


def _error(status: HTTPStatus, path: str) -> tuple[str, str]:
    """Media type and body."""
    code, detail = _SENTENCES[status]
    if is_openai_path(path):
        return "application/json", openai_error(status, code, detail).model_dump_json()
    problem = {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail, "errors": []}
    return "application/problem+json", json.dumps(problem)
