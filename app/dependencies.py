"""Makes FastAPI dependencies of the process's state."""

from __future__ import annotations

from typing import Any

from fastapi import Depends, Request


def given(name: str) -> Any:
    """Make the dependency that reads this name from ``app.main.State``."""

    # A coroutine, since FastAPI runs plain functions in threads.
    async def get(request: Request) -> Any:
        return getattr(request.state, name)

    return Depends(get)
