"""What the endpoints are given."""

from __future__ import annotations

from typing import Any

from fastapi import Depends, Request


def given(name: str) -> Any:
    """What ``app.main.State`` holds under this name, as a dependency."""

    # A coroutine, for FastAPI runs plain functions in threads, and this only looks something up.
    async def get(request: Request) -> Any:
        return getattr(request.state, name)

    return Depends(get)
