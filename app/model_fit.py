"""How a request fits a model: names that it has, sizes, steps, and what it was trained for.

``values`` are those in force: as asked for, or the preset's, or the card's; ``None`` where no card is known yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.errors import collected
from app.generate_request import GenerateRequest
from app.pictures import open_png
from ms_core.config import ModelCard
from ms_core.errors import InvalidInputError, missing_lora, no_scorer, unknown_name
from ms_core.spec import StartPicture, check_control_size, check_scheduler_steps
from ms_jobs.records import JobWarning

# A picture is stretched visibly where its ratio of width to height differs by more from the result's.
STRETCH_TOLERANCE = 0.02


def name_errors(request: GenerateRequest, card: ModelCard) -> list[InvalidInputError]:
    """What is asked for by a name that the model does not have."""
    loras, controls = card.extras.loras, card.extras.controls
    return [
        *([] if request.preset is None else _preset_errors(request.preset, card)),
        *(
            unknown_name("LoRA", lora.name, loras, f"/loras/{index}/name")
            for index, lora in enumerate(request.loras)
            if lora.name not in loras
        ),
        *(
            unknown_name("ControlNet", control.name, controls, f"/controls/{index}/name")
            for index, control in enumerate(request.controls)
            if control.name not in controls
        ),
    ]


def score_errors(request: GenerateRequest, card: ModelCard) -> list[InvalidInputError]:
    """Scores that the model cannot tell."""
    return [no_scorer(card.name)] if request.score and card.scorer is None else []


def size_errors(values: Mapping[str, Any], card: ModelCard) -> list[InvalidInputError]:
    """Sides that are longer than the model allows."""
    limits = (("width", card.max_width), ("height", card.max_height))
    return [
        InvalidInputError(f"The model {card.name} makes pictures of at most {limit} pixels here.", f"/{name}")
        for name, limit in limits
        if values[name] > limit
    ]


def step_errors(request: GenerateRequest, values: Mapping[str, Any]) -> list[InvalidInputError]:
    """Steps that the scheduler does not have, or of which the start picture leaves none."""
    errors: list[InvalidInputError] = []
    scheduler, steps = values["scheduler"], values["num_inference_steps"]
    if scheduler is not None and steps is not None:
        with collected(errors):
            check_scheduler_steps(scheduler, steps)
    start = request.start
    if start is not None and steps is not None:
        with collected(errors), open_png(start.image) as picture:
            StartPicture(picture, start.strength).num_kept_steps(steps)
    return errors


def control_errors(request: GenerateRequest, values: Mapping[str, Any]) -> list[InvalidInputError]:
    """Pictures to follow that are not as large as the result."""
    errors: list[InvalidInputError] = []
    height, width = values["height"], values["width"]
    if height is None or width is None:
        return errors
    for index, control in enumerate(request.controls):
        with collected(errors):
            check_control_size(_size(control.image), height, width, f"/controls/{index}/image")
    return errors


def stretch_warnings(request: GenerateRequest, values: Mapping[str, Any]) -> list[JobWarning]:
    """Masks and start pictures of quite another shape than the result, over which they are stretched."""
    height, width = values["height"], values["width"]
    if height is None or width is None:
        return []
    pictures = [("mask", f"/subjects/{index}/mask", subject.mask) for index, subject in enumerate(request.subjects)]
    if request.start is not None:
        pictures.append(("start", "/start/image", request.start.image))
    warnings: list[JobWarning] = []
    for kind, pointer, png in pictures:
        if png is None:
            continue
        own_width, own_height = _size(png)
        stretch = (own_width * height) / (own_height * width)
        if max(stretch, 1 / stretch) > 1 + STRETCH_TOLERANCE:
            detail = f"The {kind} picture has {own_width} x {own_height} pixels; it is stretched to {width} x {height}."
            warnings.append(JobWarning(code=f"{kind}_stretched", detail=detail, pointer=pointer))
    return warnings


def too_many_subjects(request: GenerateRequest, card: ModelCard) -> list[JobWarning]:
    """More subjects than the model was trained with."""
    count = len(request.subjects)
    if count <= card.max_subjects:
        return []
    detail = (
        f"The model {card.name} was trained with at most {card.max_subjects} subjects, not {count}; expect mix-ups."
    )
    return [JobWarning(code="too_many_subjects", detail=detail, pointer="/subjects")]


def _size(png: bytes) -> tuple[int, int]:
    """Width and height, in pixels."""
    with open_png(png) as picture:
        return picture.size


def _preset_errors(name: str, card: ModelCard) -> list[InvalidInputError]:
    if name not in card.presets:
        return [unknown_name("preset", name, card.presets, "/preset")]
    preset = card.presets[name]
    return [missing_lora(name, lora.name, preset.extra) for lora in preset.loras if lora.name not in card.extras.loras]
