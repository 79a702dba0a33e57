"""From the bytes of a body to a request that a worker can run.

Two passes, each of which reports all it finds: first every value for itself (``parse_request``), then the values
together and against the model's card (``complete_request``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from app.errors import HTTPProblem, InvalidRequestError, collected
from app.fields import PICTURE_LIMITS
from app.generate_request import GenerateRequest, SubjectRequest
from app.model_fit import (
    control_errors,
    name_errors,
    score_errors,
    size_errors,
    step_errors,
    stretch_warnings,
    too_many_subjects,
)
from app.pictures import PictureLimits, open_png
from app.places import find_places
from app.problems import MALFORMED_JSON
from ms_core.config import ModelCard
from ms_core.errors import InvalidInputError, PhraseNotFoundError
from ms_core.spec import Box, check_redraw, find_phrases
from ms_jobs.records import JobWarning
from ms_jobs.stored_request import StoredControl, StoredLayout, StoredLora, StoredRequest, StoredStart, StoredSubject

_SENTENCES = {
    "missing": "This field is required.",
    "extra_forbidden": "There is no such field; /docs lists all fields.",
}
_DEFAULTED = (
    "height",
    "width",
    "num_inference_steps",
    "guidance_scale",
    "scale",
    "negative_prompt",
    "scheduler",
    "timestep_spacing",
)
_CODES = {"missing": "missing_field", "extra_forbidden": "unknown_field"}


class FieldError(InvalidInputError):
    """A field that is missing, unknown, or of a wrong type."""

    def __init__(self, detail: str, pointer: str, code: str) -> None:
        super().__init__(detail, pointer)
        self.code = code


@dataclass(frozen=True, slots=True)
class CompleteRequest:
    """A request whose values fit each other and the model.

    Attributes:
        values: those of the fields of ``StoredRequest`` that hold no pictures, but for seed and model; in force, as far
            as the card is known.
        boxes: of each subject, normalised.
        warnings: what the user should know.
    """

    request: GenerateRequest
    values: dict[str, Any]
    boxes: tuple[Box | None, ...]
    warnings: tuple[JobWarning, ...]

    def to_stored(self, keep: Callable[[bytes], str], seed: int, model: str) -> StoredRequest:
        """The form in which the job keeps it.

        Args:
            keep: stores a PNG and gives its SHA-256, such as ``RequestFolder.save_picture``.
        """
        start = self.request.start
        return StoredRequest(
            subjects=tuple(
                _stored_subject(subject, box, keep)
                for subject, box in zip(self.request.subjects, self.boxes, strict=True)
            ),
            loras=tuple(StoredLora(name=lora.name, weight=lora.weight) for lora in self.request.loras),
            controls=tuple(
                StoredControl(**control.model_dump(exclude={"image"}), image=keep(control.image))
                for control in self.request.controls
            ),
            start=None
            if start is None
            else StoredStart(image=keep(start.image), strength=start.strength, redraw=tuple(start.redraw)),
            seed=seed,
            model=model,
            **self.values,
        )


def parse_request(body: bytes, limits: PictureLimits) -> GenerateRequest:
    """Check every value of a JSON body for itself, and decode its pictures.

    Raises:
        HTTPProblem: the body is not JSON.
        InvalidRequestError: with everything that is wrong.
    """
    try:
        return GenerateRequest.model_validate_json(body, context={PICTURE_LIMITS: limits})
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        if details[0]["type"] == "json_invalid":
            reason = details[0]["msg"].removeprefix("Invalid JSON: ")
            raise HTTPProblem(MALFORMED_JSON, f"The body is not valid JSON: {reason}.") from error
        raise InvalidRequestError([_invalid_input(detail) for detail in details]) from error


def complete_request(request: GenerateRequest, card: ModelCard | None) -> CompleteRequest:
    """Check the values of a request together and against the model's card.

    Before the first worker of a model is ready there is no card. Then the model's limits come to bear when the job
    runs, and pixel boxes need both sides of the picture in the request.

    Raises:
        InvalidRequestError: with everything that is wrong.
    """
    values = _values(request, card)
    boxes, errors = find_places(request, values)
    missing = _missing_phrases(request)
    errors += [] if request.layout is None else missing
    errors += step_errors(request, values) + control_errors(request, values)
    if request.start is not None:
        with collected(errors):
            check_redraw(request.start.redraw, len(request.subjects), "/start/redraw")
    warnings = [JobWarning(code=error.code, detail=error.detail, pointer=error.pointer) for error in missing]
    warnings += stretch_warnings(request, values)
    if card is not None:
        errors += size_errors(values, card) + name_errors(request, card) + score_errors(request, card)
        warnings += too_many_subjects(request, card)
    if errors:
        raise InvalidRequestError(errors)
    complete = CompleteRequest(request, values, boxes, tuple(warnings))
    _check_spec(complete)
    return complete


def _invalid_input(detail: ErrorDetails) -> InvalidInputError:
    pointer = "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in detail["loc"])
    kind = detail.get("ctx", {}).get("kind")
    if kind is not None:
        return kind(detail["msg"], pointer)
    name = detail["type"]
    return FieldError(_SENTENCES.get(name, f"{detail['msg'].rstrip('.')}."), pointer, _CODES.get(name, name))


def _values(request: GenerateRequest, card: ModelCard | None) -> dict[str, Any]:
    layout = request.layout
    values: dict[str, Any] = {
        "prompt": request.prompt,
        "num_images": request.num_images,
        "layout": None if layout is None else StoredLayout(threshold=layout.threshold, start_step=layout.start_step),
        "grounding": request.grounding,
        "preset": request.preset,
        "previews": request.previews,
        "score": request.score,
        "retries": request.retries,
    }
    # What is left out takes the preset's value, and what the preset leaves out the card's.
    preset = None if card is None or request.preset is None else card.presets.get(request.preset)
    sources = [request, preset, None if card is None else card.defaults]
    for name in _DEFAULTED:
        given = (getattr(source, name, None) for source in sources)
        values[name] = next((value for value in given if value is not None), None)
    return values


def _missing_phrases(request: GenerateRequest) -> list[PhraseNotFoundError]:
    phrases = [subject.phrase for subject in request.subjects]
    consequence = (
        "the auto layout needs it there" if request.layout is not None else "it may not be drawn as the subject"
    )
    return [
        PhraseNotFoundError(f"The prompt does not hold the phrase {phrase!r}; {consequence}.", f"/subjects/{i}/phrase")
        for i, (phrase, span) in enumerate(zip(phrases, find_phrases(request.prompt, phrases), strict=True))
        if span is None
    ]


def _check_spec(complete: CompleteRequest) -> None:
    """Tell now whatever else ``ms_core.spec`` refuses, which otherwise the worker would.

    Raises:
        InvalidRequestError: with the first thing that is wrong.
    """
    pictures: dict[str, bytes] = {}

    def keep(png: bytes) -> str:
        sha256 = hashlib.sha256(png).hexdigest()
        pictures[sha256] = png
        return sha256

    try:
        complete.to_stored(keep, seed=0, model="any").to_specs(lambda sha256: open_png(pictures[sha256]))
    except InvalidInputError as error:
        raise InvalidRequestError([error]) from error


def _stored_subject(subject: SubjectRequest, box: Box | None, keep: Callable[[bytes], str]) -> StoredSubject:
    return StoredSubject(
        phrase=subject.phrase,
        images=tuple(map(keep, subject.pictures)),
        box=None if box is None else box.as_tuple(),
        scale=subject.scale,
        mask=None if subject.mask is None else keep(subject.mask),
        feather=subject.feather,
        z_index=subject.z_index,
        scene=subject.scene,
        cutout=subject.cutout,
    )
