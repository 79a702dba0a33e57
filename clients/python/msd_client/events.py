"""Events of a job that is watched."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from PIL import Image

from msd_client.jobs import ENDS, Job


class ReceivedEvent(Protocol):
    """An event as it arrives: name, text and id."""

    @property
    def event(self) -> str: ...
    @property
    def data(self) -> str: ...
    @property
    def id(self) -> str: ...


@dataclass(frozen=True, slots=True)
class StatusEvent:
    """A change of the job other than its end; ``event`` is its kind, such as ``running``."""

    version: int
    status: str
    event: str
    attempt: int


@dataclass(frozen=True, slots=True)
class ProgressEvent:
    """Denoising steps done; ``fraction`` is from 0 to 1."""

    version: int
    phase: str | None
    step: int | None
    steps: int | None
    fraction: float


@dataclass(frozen=True, slots=True)
class PreviewEvent:
    """A small preview of picture ``index`` after so many steps; ``data`` are its encoded bytes."""

    version: int
    index: int
    step: int | None
    content_type: str
    data: bytes = field(repr=False)

    @property
    def image(self) -> Image.Image:
        """The preview, decoded."""
        image = Image.open(io.BytesIO(self.data))
        image.load()
        return image


@dataclass(frozen=True, slots=True)
class EndEvent:
    """The last event: the job has ended."""

    version: int
    job: Job


@dataclass(frozen=True, slots=True)
class GoneEvent:
    """The last event: the job was deleted, or has expired; ``code`` is a stable name."""

    code: str
    detail: str


Event = StatusEvent | ProgressEvent | PreviewEvent | EndEvent | GoneEvent


def read_event(received: ReceivedEvent) -> Event | None:
    """Read an event; ``None`` for one that has no data or that only a newer service sends."""
    if not received.data:
        return None
    if received.event in ENDS:
        return EndEvent(_version(received), Job.from_json(json.loads(received.data)))
    read = _READERS.get(received.event)
    return None if read is None else read(received, json.loads(received.data))


def _version(received: ReceivedEvent) -> int:
    return int(received.id) if received.id.isdecimal() else 0


def _status(received: ReceivedEvent, data: Mapping[str, Any]) -> StatusEvent:
    return StatusEvent(_version(received), data["status"], data["event"], data["attempt"])


def _progress(received: ReceivedEvent, data: Mapping[str, Any]) -> ProgressEvent:
    return ProgressEvent(_version(received), data["phase"], data["step"], data["steps"], data["fraction"])


def _preview(received: ReceivedEvent, data: Mapping[str, Any]) -> PreviewEvent:
    content = base64.b64decode(data["data"])
    return PreviewEvent(_version(received), data["index"], data["step"], data["content_type"], content)


def _gone(_: ReceivedEvent, data: Mapping[str, Any]) -> GoneEvent:
    return GoneEvent(data.get("code", ""), data.get("detail", ""))


_READERS: Mapping[str, Callable[[ReceivedEvent, Mapping[str, Any]], Event]] = {
    "status": _status,
    "progress": _progress,
    "preview": _preview,
    "gone": _gone,
}
