"""Bounds how many jobs an owner sends within a minute, before anything of a request is read."""

from __future__ import annotations

import re
from typing import NamedTuple

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from limits import RateLimitItemPerMinute
from redis import Redis
from redis.exceptions import RedisError
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.auth.callers import Caller
from app.service.addresses import inner_path
from app.service.errors import problem_response
from app.service.problems import TOO_MANY_SUBMITS
from app.service.windows import Window

# What may be sent in which time, and what is left of it.
RESPONSE_HEADERS = ("RateLimit-Policy", "RateLimit")

_PERIOD_S = 60
_SUBMITS = re.compile(r"POST (/generate|/jobs/[^/]+/retry|/v1/images/[^/]+)|PUT /jobs/[^/]+")


class Turn(NamedTuple):
    """What is left to an owner after a submission.

    Attributes:
        is_free: whether the submission may go on.
        left: how many more may follow at once.
        reset_s: seconds until the next is free.
    """

    is_free: bool
    left: int
    reset_s: int


class SubmitRate:
    """Counts the submissions of each owner in Redis, so those of all API processes."""

    def __init__(self, client: Redis, model: str, per_minute: int) -> None:
        """Ask nothing of Redis yet; ``per_minute`` is at least 1."""
        self._window = Window(client, RateLimitItemPerMinute(per_minute), model)
        self.per_minute = per_minute

    def take(self, owner: str) -> Turn:
        """Count one submission.

        Raises:
            redis.exceptions.RedisError: Redis cannot be reached.
        """
        is_free = self._window.take(owner)
        return Turn(is_free, *self._window.left(owner))


class SubmitRateMiddleware:
    """ASGI middleware that refuses submissions beyond the rate of their owner, and tells all others what is left."""

    def __init__(self, app: ASGIApp, rate: SubmitRate) -> None:
        self._app = app
        self._rate = rate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _SUBMITS.fullmatch(f"{scope['method']} {inner_path(scope)}"):
            await self._app(scope, receive, send)
            return
        caller: Caller = scope["state"]["caller"]
        try:
            turn = await run_in_threadpool(self._rate.take, caller.owner)
        except RedisError:
            # The endpoint says so itself.
            await self._app(scope, receive, send)
            return
        headers = self._headers(turn)
        if not turn.is_free:
            detail = f"You may send {self._rate.per_minute} jobs a minute; send this one in {turn.reset_s} s."
            refusal = {**headers, "Retry-After": str(turn.reset_s)}
            response = problem_response(Request(scope), TOO_MANY_SUBMITS, detail, headers=refusal)
            await response(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(headers)
            await send(message)

        await self._app(scope, receive, send_with_headers)

    def _headers(self, turn: Turn) -> dict[str, str]:
        """As draft-ietf-httpapi-ratelimit-headers-10 writes them."""
        policy = f'"submits";q={self._rate.per_minute};w={_PERIOD_S}'
        return dict(zip(RESPONSE_HEADERS, (policy, f'"submits";r={turn.left};t={turn.reset_s}'), strict=True))
