"""Errors below ``/v1``: clients of OpenAI's interface read ``{"error": {...}}``, and of a problem only its status."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, Field

ROOT = "/v1"
_TYPES = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
}
# Codes that the interface names otherwise.
_CODES = {"unknown_model": "model_not_found", "unauthenticated": "invalid_api_key"}


class OpenAIError(BaseModel):
    """What went wrong."""

    message: str = Field(description="What is wrong and what to do.")
    type: str = Field(description="Kind of error.", examples=["invalid_request_error"])
    param: str | None = Field(description="The first field that is wrong.", examples=["subjects[0].box"])
    code: str | None = Field(description="Stable error code.", examples=["invalid_box"])


class OpenAIErrorResponse(BaseModel):
    """An error, in the form of OpenAI's interface."""

    error: OpenAIError


def is_openai_path(path: str, root_path: str = "") -> bool:
    """Whether a path, below the prefix that a proxy removed, belongs to OpenAI's interface."""
    inner = path.removeprefix(root_path)
    return inner == ROOT or inner.startswith(f"{ROOT}/")


def openai_error(status: HTTPStatus, code: str, message: str, pointer: str = "") -> OpenAIErrorResponse:
    """Translate a problem.

    Args:
        pointer: RFC 6901 pointer to the first value that is wrong; empty for the whole request.
    """
    kind = "server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else _TYPES.get(status, "invalid_request_error")
    error = OpenAIError(message=message, type=kind, param=_param(pointer), code=_CODES.get(code, code))
    return OpenAIErrorResponse(error=error)


def openai_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Make the OpenAPI responses of an endpoint that answers with these errors, or an unexpected one."""
    response = {"model": OpenAIErrorResponse}
    known = {status: {"description": HTTPStatus(status).phrase, **response} for status in statuses}
    return {**known, "default": {"description": "Any other error", **response}}


def _param(pointer: str) -> str | None:
    """The name of a field as that interface writes it: ``subjects[0].box`` for ``/subjects/0/box``."""
    parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
    name = "".join(f"[{part}]" if re.fullmatch("[0-9]+", part) else f".{part}" for part in parts)
    return name.removeprefix(".") or None
