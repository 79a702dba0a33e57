"""Translates a request to OpenAI's images interface into the body of ``POST /generate``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.openai.subjects import named_pictures, read_subjects
from app.service.errors import HTTPProblem
from app.service.problems import UNKNOWN_MODEL
from ms_core.errors import InvalidInputError

MAX_PARTIAL_IMAGES = 3
# What the interface asks for and this service does not have, each with the values that ask for nothing.
_IGNORED: Mapping[str, tuple[Any, ...]] = {
    "quality": ("auto",),
    "background": ("auto", "opaque"),
    "moderation": ("auto",),
    "response_format": ("b64_json",),
    "input_fidelity": (),
    "style": (),
    "complexity": (),
    "user": (),
    "safety_identifier": (),
}
# Its fields for what has another name here.
_RENAMED = {"n": "num_images", "output_compression": "quality"}
# What is read here, and not passed on as it is.
_READ = {"model", "size", "stream", "partial_images", "subjects", "phrases", "boxes", "image"}
OWN_FIELDS = {"model", "size", "stream", "partial_images", "output_format", *_RENAMED, *_IGNORED}
_SIZE = re.compile(r"([0-9]{1,6})x([0-9]{1,6})")


@dataclass(frozen=True, slots=True)
class Translation:
    """What a request asks for.

    Attributes:
        request: the body of ``POST /generate``.
        partial_images: how many previews the stream may have; ``None``: no stream.
        warnings: what was ignored or assumed; in ASCII.
        names: pointers of fields that have another name here, by those in ``request``.
    """

    request: dict[str, Any]
    partial_images: int | None
    warnings: tuple[str, ...]
    names: Mapping[str, str]

    def renamed(self, pointer: str) -> str:
        """Where a value of ``request`` was sent."""
        for ours, theirs in self.names.items():
            if pointer == ours or pointer.startswith(f"{ours}/"):
                return theirs + pointer.removeprefix(ours)
        return pointer


def translate(document: Mapping[str, Any], pictures: Sequence[str], served: str) -> Translation:
    """Translate a request; its values are checked later, with those of all other requests.

    Args:
        document: its fields, as JSON has them.
        pictures: the texts by which it names the pictures that were sent for its subjects, in their order.
        served: name of the model.

    Raises:
        HTTPProblem: the model is another one, or a field cannot be read.
        InvalidInputError: a field that only this interface has is wrong.
    """
    given = {name: value for name, value in document.items() if value is not None}
    given |= named_pictures(given, pictures)
    _check_model(given.get("model", served), served)
    subjects = read_subjects(given, pictures)
    request = {name: value for name, value in given.items() if name not in _READ | _IGNORED.keys() | _RENAMED.keys()}
    request["subjects"] = subjects.items
    names = dict(subjects.names)
    for theirs, ours in _RENAMED.items():
        if theirs in given:
            _set(request, ours, given[theirs], theirs)
            names[f"/{ours}"] = f"/{theirs}"
    for ours, value in _size(given.get("size", "auto")).items():
        _set(request, ours, value, "size")
        names[f"/{ours}"] = "/size"
    partial_images = _partial_images(given)
    if partial_images:
        request["previews"] = True
    ignored = [name for name, plain in _IGNORED.items() if name in given and given[name] not in plain]
    warnings = [f"ignored: {', '.join(ignored)}"] if ignored else []
    return Translation(request, partial_images, (*warnings, *subjects.warnings), names)


def _check_model(model: Any, served: str) -> None:
    if model != served:
        raise HTTPProblem(
            UNKNOWN_MODEL, f"There is no model {model!r} here; this service has {served}.", None, "/model"
        )


def _set(request: dict[str, Any], name: str, value: Any, theirs: str) -> None:
    """Set a field that may have been sent under this name, too."""
    if request.get(name, value) != value:
        raise InvalidInputError(f"Send {theirs} or {name}, not both with different values.", f"/{theirs}")
    request[name] = value


def _size(size: Any) -> dict[str, int]:
    if size == "auto":
        return {}
    match = _SIZE.fullmatch(size) if isinstance(size, str) else None
    if match is None:
        raise InvalidInputError('size is WIDTHxHEIGHT in pixels, such as "1024x1024", or "auto".', "/size")
    return {"width": int(match[1]), "height": int(match[2])}


def _partial_images(given: Mapping[str, Any]) -> int | None:
    stream, partial_images = given.get("stream", False), given.get("partial_images", 0)
    if not isinstance(stream, bool):
        raise InvalidInputError("stream is true or false.", "/stream")
    is_number = isinstance(partial_images, int) and not isinstance(partial_images, bool)
    if not is_number or not 0 <= partial_images <= MAX_PARTIAL_IMAGES:
        raise InvalidInputError(f"partial_images is a number from 0 to {MAX_PARTIAL_IMAGES}.", "/partial_images")
    return partial_images if stream else None
