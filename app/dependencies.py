"""Makes FastAPI dependencies of the process's state."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Request


def given(name: str) -> Any:
    """Make the dependency that reads this name from ``app.main.State``."""

    # A coroutine, since FastAPI runs plain functions in threads.
    async def get(request: Request) -> Any:
        return getattr(request.state, name)

    return Depends(get)


async def _own(request: Request) -> Any:
    return await request.state.owners.of(request)


def owned(name: str) -> Any:
    """Make the dependency that reads this name from what the caller's owner has, ``app.owners.Own``."""

    async def get(own: Annotated[Any, Depends(_own)]) -> Any:
        return getattr(own, name)

    return Depends(get)
