"""Tells a repeated request from another one."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from app.generate_request import GenerateRequest


def request_hash(request: GenerateRequest) -> str:
    """SHA-256, in hexadecimal, of what was asked: the same for two bodies that ask for the same.

    It is taken before the model's defaults are filled in, so that a worker that becomes ready does not change it, and
    without values that are the API's own defaults, so that a new field does not change it either.
    """
    # Boxes are data of ours that pydantic was not told how to write; it writes their numbers, and would warn.
    data = request.model_dump(exclude_defaults=True, warnings=False)
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()


def retry_hash(job_id: str) -> str:
    """The same for the wish to run a job once more."""
    return hashlib.sha256(f"retry {job_id}".encode()).hexdigest()


def _plain(value: Any) -> str:
    """Pictures by the SHA-256 of their bytes."""
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    raise TypeError(f"A request holds no {type(value).__name__}.")
