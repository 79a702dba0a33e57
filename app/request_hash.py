"""Tells a repeated request from another one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, cast

from PIL import Image

from ms_core.spec import AutoLayout, Pictures, Subject
from ms_jobs.job_request import GenerateRequest


def request_hash(request: GenerateRequest, pictures: Pictures) -> str:
    """SHA-256, in hexadecimal, of what was asked: the same for two bodies that ask for the same.

    It is taken before the model's defaults are filled in, so that a worker that becomes ready does not change it, and
    without values that are the API's own defaults, so that a new field does not change it either.
    """
    text = json.dumps(_plain(request, pictures), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def retry_hash(job_id: str) -> str:
    """The same for the wish to run a job once more."""
    return hashlib.sha256(f"retry {job_id}".encode()).hexdigest()


def _plain(value: Any, pictures: Pictures) -> Any:
    """JSON-ready data: pictures by their SHA-256, of everything declared the fields that are not at their defaults."""
    if isinstance(value, Image.Image):
        return pictures.name(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item, pictures) for item in cast("Iterable[Any]", value)]
    if not is_dataclass(value):
        return value
    given = {
        item.name: getattr(value, item.name) for item in fields(value) if getattr(value, item.name) != _default(item)
    }
    if isinstance(value, Subject) and isinstance(value.image, tuple):
        given["images"] = given.pop("image")
    if isinstance(value, AutoLayout):
        given["mode"] = value.mode
    return {name: _plain(item, pictures) for name, item in given.items()}


def _default(item: Field[Any]) -> Any:
    return None if item.default is MISSING else item.default
