"""Logs and counts each request, and binds its id to all log lines in between."""

from __future__ import annotations

import logging
import time
from http import HTTPStatus

from anyio import BrokenResourceError
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars, reset_contextvars

from app.service.metrics import HttpMeter
from app.service.request_id import request_id

log = logging.getLogger(__name__)

# As in nginx: the client disconnected before the answer started.
CLIENT_CLOSED_REQUEST = 499
_QUIET_METHODS = ("GET", "HEAD")


class AccessMiddleware:
    """Outermost ASGI middleware: counts, times and logs each request. Paths are logged as templates only."""

    def __init__(self, app: ASGIApp, meter: HttpMeter) -> None:
        self._app = app
        self._meter = meter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = CLIENT_CLOSED_REQUEST

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        bound = bind_contextvars(request_id=request_id(scope))
        try:
            await self._app(scope, receive, send_and_note)
        except Exception as error:
            if not _is_hang_up(error):
                # Answered further out, like every unexpected error.
                status = int(HTTPStatus.INTERNAL_SERVER_ERROR)
                raise
        finally:
            self._note(scope, status, time.perf_counter() - began)
            reset_contextvars(**bound)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        method, route = scope["method"], getattr(scope.get("route"), "path", None)
        self._meter.note(method, route, status, seconds)
        # Most requests are polls, which are not worth a line.
        quiet = method in _QUIET_METHODS and status < HTTPStatus.BAD_REQUEST
        level = logging.DEBUG if quiet else logging.INFO
        if log.isEnabledFor(level):
            fields = {"method": method, "route": route, "status": status, "duration_ms": round(seconds * 1000, 2)}
            log.log(level, "request answered", extra=fields)


def _is_hang_up(error: Exception) -> bool:
    """Whether the client of an event stream disconnected: FastAPI's own writer fails then."""
    return isinstance(error, ExceptionGroup) and error.split(BrokenResourceError)[1] is None
