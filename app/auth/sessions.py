"""Sessions of browsers: a page exchanges a key for a cookie that no script can read."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field
from redis import Redis

from app.auth.authenticator import COOKIE, Authenticator, token_in
from app.auth.callers import SESSION_PATH, Caller, CallerDependency
from app.config import Settings
from app.dependencies import given
from app.service.addresses import cookie_path, is_https
from app.service.errors import HTTPProblem
from app.service.problems import UNAUTHENTICATED, problem_responses
from ms_jobs.api_keys import ApiKey, Scope
from ms_jobs.sessions import SessionStore

router = APIRouter(tags=["service"])


class SessionResource(BaseModel):
    """As whom a client asks."""

    owner: str = Field(description="Whose jobs and pictures it reaches.")
    scopes: list[Scope] = Field(description="What it may do; `admin` is all, of all owners' jobs.")
    expires_at: datetime | None = Field(description="When its key or session ends; null if that is not known.")


class Sessions:
    """Opens and closes the sessions of one process.

    Raises (every method):
        redis.exceptions.RedisError: Redis cannot be reached.
    """

    def __init__(self, client: Redis, authenticator: Authenticator, settings: Settings) -> None:
        """Ask nothing of Redis yet."""
        self._store = SessionStore(client)
        self._authenticator = authenticator
        self._lifetime_s = settings.session_lifetime_s

    async def open(self, key: ApiKey) -> tuple[str, float]:
        """Begin a session; returns its token and how many seconds it lasts, which is no longer than its key."""
        left_s = self._lifetime_s if key.expires_at is None else min(self._lifetime_s, key.expires_at - time.time())
        return await run_in_threadpool(self._store.open, key, left_s), left_s

    async def left_s(self, token: str) -> float:
        """How many seconds a session lasts from now."""
        return await run_in_threadpool(self._store.left_s, token)

    async def close(self, token: str) -> None:
        """End a session."""
        await run_in_threadpool(self._store.close, token)
        self._authenticator.forget(token)


SessionsDependency = Annotated[Sessions, given("sessions")]


@router.post(
    SESSION_PATH,
    operation_id="open_session",
    summary="Exchange a key for a session",
    responses=problem_responses(401, 429, 503),
)
async def open_session(
    caller: CallerDependency, sessions: SessionsDependency, request: Request, response: Response
) -> SessionResource:
    """For web pages of this service: the answer sets a cookie that stands for the key, which the page then need not keep.

    Send the key as `Authorization: Bearer`. The session ends by itself after some hours, with its key, or by
    `DELETE /session`.
    """
    response.headers["Cache-Control"] = "no-store"
    if caller.key is None:
        # Nobody is asked for a key.
        return _resource(caller, caller.expires_at)
    if not caller.has_sent_key:
        detail = "A session is opened with the key itself, in the header Authorization."
        raise HTTPProblem(UNAUTHENTICATED, detail, {"WWW-Authenticate": "Bearer"})
    token, left_s = await sessions.open(caller.key)
    response.set_cookie(
        COOKIE,
        token,
        max_age=math.floor(left_s),
        path=cookie_path(request),
        secure=is_https(request),
        httponly=True,
        samesite="strict",
    )
    return _resource(caller, time.time() + left_s)


@router.get(
    SESSION_PATH,
    operation_id="get_session",
    summary="Get as whom you ask",
    responses=problem_responses(401, 503),
)
async def get_session(
    caller: CallerDependency, sessions: SessionsDependency, request: Request, response: Response
) -> SessionResource:
    """401 if the service asks for a key and none came, nor a session."""
    response.headers["Cache-Control"] = "no-store"
    token = None if caller.key is None or caller.has_sent_key else token_in(request)
    return _resource(caller, caller.expires_at if token is None else time.time() + await sessions.left_s(token))


@router.delete(
    SESSION_PATH,
    status_code=HTTPStatus.NO_CONTENT,
    operation_id="close_session",
    summary="End a session",
    responses=problem_responses(503),
)
async def close_session(sessions: SessionsDependency, request: Request, response: Response) -> None:
    """And take the cookie back. It does nothing without a session; the key goes on working."""
    token = token_in(request)
    if token is not None:
        await sessions.close(token)
    response.delete_cookie(
        COOKIE, path=cookie_path(request), secure=is_https(request), httponly=True, samesite="strict"
    )


def _resource(caller: Caller, expires_at: float | None) -> SessionResource:
    return SessionResource(
        owner=caller.owner,
        scopes=sorted(caller.scopes),
        expires_at=None if expires_at is None else datetime.fromtimestamp(expires_at, UTC),
    )
