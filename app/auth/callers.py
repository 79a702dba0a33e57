"""Who sent a request, and what that caller may do."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from app.service.errors import HTTPProblem
from app.service.problems import MISSING_SCOPE
from ms_jobs.api_keys import ApiKey, Scope
from ms_jobs.records import LOCAL_OWNER

SESSION_PATH = "/session"
# How often a stream asks whether its caller may still see it.
ASK_AGAIN_S = 1.0

_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


async def _always() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request.

    Attributes:
        owner: whose things it reaches.
        key: of whom it came; ``None``: of an address that was signed, or of anybody while no keys are asked for.
        has_sent_key: it came with the key itself, not with a session.
        expires_at: when it has to show itself again, in Unix seconds.
        is_valid: asks whether it still may what it might when it came.
        ask_again_s: how often that is worth asking.
    """

    owner: str
    scopes: frozenset[Scope]
    key: ApiKey | None = None
    has_sent_key: bool = False
    expires_at: float | None = None
    is_valid: Callable[[], Awaitable[bool]] = _always
    ask_again_s: float = math.inf

    @property
    def sees_all(self) -> bool:
        """Whether it sees the jobs of all owners."""
        return Scope.ADMIN in self.scopes

    def require(self, scope: Scope) -> None:
        """Refuse what needs a scope that the caller lacks.

        Raises:
            HTTPProblem: it lacks it.
        """
        if scope not in self.scopes and not self.sees_all:
            challenge = f'Bearer error="insufficient_scope", scope="{scope}"'
            detail = f"This key may not do that: it lacks the scope {scope}."
            raise HTTPProblem(MISSING_SCOPE, detail, {"WWW-Authenticate": challenge})


# Whoever asks while no keys are asked for.
ANYBODY = Caller(LOCAL_OWNER, frozenset({Scope.READ, Scope.GENERATE}))


def needed_scope(method: str, path: str) -> Scope | None:
    """The scope that a request needs; ``None``: any caller may send it. A new endpoint needs nothing more to be guarded."""
    if path == SESSION_PATH:
        return None
    return Scope.READ if method in _SAFE_METHODS else Scope.GENERATE


async def _caller(request: Request) -> Caller:
    return request.state.caller


CallerDependency = Annotated[Caller, Depends(_caller)]
