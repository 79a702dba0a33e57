"""Lets no request in that shows no key, but for a few paths that say nothing of anybody's jobs."""

from __future__ import annotations

import re

from fastapi import Request
from redis.exceptions import RedisError
from starlette.types import ASGIApp, Receive, Scope, Send

from app.auth.authenticator import Authenticator
from app.auth.callers import SESSION_PATH, needed_scope
from app.service.addresses import inner_path
from app.service.errors import HTTPProblem

# Probes, the page with its parts, and the document with its page.
_OPEN = re.compile(r"/|/livez|/readyz|/openapi\.json|/docs(/[^/]*)?|/app/[^/]*")


class GuardMiddleware:
    """ASGI middleware that finds the caller of each request before anything of it is read; see ``request.state.caller``."""

    def __init__(self, app: ASGIApp, authenticator: Authenticator) -> None:
        self._app = app
        self._authenticator = authenticator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _is_open(scope):
            request = Request(scope)
            try:
                caller = await self._authenticator.caller(request)
                needed = needed_scope(scope["method"], inner_path(scope))
                if needed is not None:
                    caller.require(needed)
            except (HTTPProblem, RedisError) as error:
                # This is outside of what answers the errors of endpoints.
                kind = HTTPProblem if isinstance(error, HTTPProblem) else RedisError
                response = await request.app.exception_handlers[kind](request, error)
                await response(scope, receive, send)
                return
            scope.setdefault("state", {})["caller"] = caller
        await self._app(scope, receive, send)


def _is_open(scope: Scope) -> bool:
    path = inner_path(scope)
    # Whoever ends a session may have none any more.
    return _OPEN.fullmatch(path) is not None or (path == SESSION_PATH and scope["method"] == "DELETE")
