"""From the bytes of a body to a request that a worker can run.

Two passes, each of which reports all it finds: first every value for itself (``parse_request``), then the values
together and against the model's card (``complete_request``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from app.errors import HTTPProblem, InvalidRequestError
from app.fields import PICTURE_LIMITS, PixelBox
from app.pictures import PictureLimits
from app.problems import MALFORMED_JSON
from app.schemas import GenerateRequest
from ms_core.errors import InvalidInputError, LayoutError, PhraseNotFoundError
from ms_core.spec import Box, find_phrases
from worker.contract import JobWarning, ModelCard, StoredLayout, StoredRequest, StoredSubject

_SENTENCES = {
    "missing": "This field is required.",
    "extra_forbidden": "There is no such field; /docs lists all fields.",
}
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
        values: the fields of ``StoredRequest`` but for subjects, seed and model; the card's defaults filled in.
        boxes: of each subject, normalised.
        warnings: what the user should know.
    """

    request: GenerateRequest
    values: dict[str, Any]
    boxes: tuple[Box | None, ...]
    warnings: tuple[JobWarning, ...]

    def to_stored(self, images: Sequence[str], seed: int, model: str) -> StoredRequest:
        """The form in which the job keeps it; ``images`` are the SHA-256 of the subjects' pictures."""
        subjects = tuple(
            StoredSubject(
                phrase=subject.phrase, image=image, box=None if box is None else box.as_tuple(), scale=subject.scale
            )
            for subject, image, box in zip(self.request.subjects, images, self.boxes, strict=True)
        )
        return StoredRequest(subjects=subjects, seed=seed, model=model, **self.values)


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
    errors: list[InvalidInputError] = []
    if card is not None:
        errors += _size_errors(values, card)
    boxes: list[Box | None] = []
    for index, subject in enumerate(request.subjects):
        try:
            boxes.append(_place(subject.box, request, values))
        except LayoutError as error:
            errors.append(error.below(f"/subjects/{index}/box"))
    missing = _missing_phrases(request)
    if request.layout is not None:
        errors += missing
    if errors:
        raise InvalidRequestError(errors)
    warnings = [JobWarning(code=error.code, detail=error.detail, pointer=error.pointer) for error in missing]
    if card is not None and len(request.subjects) > card.max_subjects:
        warnings.append(_too_many_subjects(len(request.subjects), card))
    return CompleteRequest(request, values, tuple(boxes), tuple(warnings))


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
    }
    defaults = {} if card is None else asdict(card.defaults)
    for name in ("height", "width", "num_inference_steps", "guidance_scale", "scale", "negative_prompt", "scheduler"):
        given = getattr(request, name)
        values[name] = defaults.get(name) if given is None else given
    return values


def _size_errors(values: dict[str, Any], card: ModelCard) -> list[InvalidInputError]:
    limits = (("width", card.max_width), ("height", card.max_height))
    return [
        InvalidInputError(f"The model {card.name} makes pictures of at most {limit} pixels here.", f"/{name}")
        for name, limit in limits
        if values[name] > limit
    ]


def _place(box: Box | PixelBox | None, request: GenerateRequest, values: dict[str, Any]) -> Box | None:
    """The normalised box of a subject."""
    if box is None and request.layout is None:
        raise LayoutError("This subject has no box; give one, or ask for the auto layout.")
    if not isinstance(box, PixelBox):
        return box
    height, width = values["height"], values["width"]
    if height is None or width is None:
        raise LayoutError("Pixel boxes need width and height in the request until a worker has loaded the model.")
    return Box.from_pixels(box.values, height, width)


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


def _too_many_subjects(count: int, card: ModelCard) -> JobWarning:
    detail = (
        f"The model {card.name} was trained with at most {card.max_subjects} subjects, not {count}; expect mix-ups."
    )
    return JobWarning(code="too_many_subjects", detail=detail, pointer="/subjects")
