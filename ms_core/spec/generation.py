"""One picture to be made."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from ms_core.errors import InvalidInputError, LayoutError
from ms_core.spec.additions import Control, Lora, StartPicture
from ms_core.spec.layout import AutoLayout
from ms_core.spec.limits import (
    MAX_CONTROLS,
    MAX_GUIDANCE_SCALE,
    MAX_LORAS,
    MAX_PROMPT_CHARACTERS,
    MAX_SEED,
    MAX_STEPS,
    MAX_SUBJECT_SCALE,
    MAX_SUBJECTS,
    check_count,
    check_name,
    check_range,
    check_retries,
    check_scheduler,
    check_scheduler_steps,
    check_size,
    check_text,
    check_timestep_spacing,
)
from ms_core.spec.phrases import find_phrases, require_phrases
from ms_core.spec.subject import Subject


@dataclass(frozen=True, slots=True)
class GenerationWarning:
    """Something the user should know about a picture that is made all the same.

    Attributes:
        code: stable, machine-readable name.
        detail: one sentence.
        pointer: RFC 6901 pointer to the value in the request.
    """

    code: str
    detail: str
    pointer: str = ""


@dataclass(frozen=True, slots=True)
class GenerationSpec:
    """One picture to be made. ``None`` means the model card's default.

    Attributes:
        prompt: what the picture shows.
        subjects: at least one.
        negative_prompt: what it should not show; "" switches the model's default off.
        height, width: of the picture, in pixels; multiples of 8.
        num_inference_steps: 1 to 150.
        guidance_scale: at 1 or below the unconditional half is not computed at all.
        scale: strength of all subjects without a scale of their own.
        seed: of this picture's own CPU generator, 0 to 2**53 - 1.
        layout: ``None`` takes the subjects' boxes; ``AutoLayout`` finds the places.
        grounding: whether phrase and box steer the resampler's queries.
        scheduler: one of ``SCHEDULERS``.
        timestep_spacing: one of ``TIMESTEP_SPACINGS``.
        preset: name of one of the model card's presets; it stands in for fields that are ``None``, and its LoRAs are
            added to those given.
        loras: act on this picture only.
        controls: ControlNets; they see the prompt and never the subjects.
        start: a picture to start from.
        score: estimate how well the picture turned out, subject by subject; needs a model with a scorer, and boxes.
        retries: how often at most a picture whose weakest subject fails is drawn again, 0 to ``MAX_RETRIES``; each time
            with its ``derived_seed``.

    Raises:
        InvalidInputError: a value is out of range; its ``pointer`` names the field.
    """

    prompt: str
    subjects: tuple[Subject, ...]
    negative_prompt: str | None = None
    height: int | None = None
    width: int | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    scale: float | None = None
    seed: int = 0
    layout: AutoLayout | None = None
    grounding: bool = True
    scheduler: str | None = None
    timestep_spacing: str | None = None
    preset: str | None = None
    loras: tuple[Lora, ...] = ()
    controls: tuple[Control, ...] = ()
    start: StartPicture | None = None
    score: bool = False
    retries: int = 0
    phrase_spans: tuple[tuple[int, int] | None, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("subjects", "loras", "controls"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        _check_texts(self)
        _check_numbers(self)
        _check_subjects(self)
        _check_additions(self)
        _check_score(self)
        spans = find_phrases(self.prompt, [subject.phrase for subject in self.subjects])
        object.__setattr__(self, "phrase_spans", spans)


def _check_texts(spec: GenerationSpec) -> None:
    if not spec.prompt.strip():
        raise InvalidInputError("The prompt is empty: say what the picture shows.", "/prompt")
    check_text(spec.prompt, "/prompt", MAX_PROMPT_CHARACTERS)
    if spec.negative_prompt is not None:
        check_text(spec.negative_prompt, "/negative_prompt", MAX_PROMPT_CHARACTERS)


def _check_numbers(spec: GenerationSpec) -> None:
    check_range(spec.seed, 0, MAX_SEED, "/seed")
    for name, low, high in (
        ("num_inference_steps", 1, MAX_STEPS),
        ("guidance_scale", 0.0, MAX_GUIDANCE_SCALE),
        ("scale", 0.0, MAX_SUBJECT_SCALE),
    ):
        value = getattr(spec, name)
        if value is not None:
            check_range(value, low, high, f"/{name}")
    for name in ("height", "width"):
        value = getattr(spec, name)
        if value is not None:
            check_size(value, f"/{name}")
    if spec.scheduler is not None:
        check_scheduler(spec.scheduler)
        if spec.num_inference_steps is not None:
            check_scheduler_steps(spec.scheduler, spec.num_inference_steps)
    if spec.timestep_spacing is not None:
        check_timestep_spacing(spec.timestep_spacing)


def _check_subjects(spec: GenerationSpec) -> None:
    check_count(len(spec.subjects), 1, MAX_SUBJECTS, "subjects", "/subjects")
    for index, subject in enumerate(spec.subjects):
        if subject.box is None and spec.layout is None:
            raise LayoutError(
                "This subject has no box; give one, or ask for the auto layout.", f"/subjects/{index}/box"
            )
    if spec.layout is not None:
        require_phrases(spec.prompt, [subject.phrase for subject in spec.subjects])


def _check_additions(spec: GenerationSpec) -> None:
    if spec.preset is not None:
        check_name(spec.preset, "/preset")
    check_count(len(spec.loras), 0, MAX_LORAS, "LoRAs", "/loras")
    check_count(len(spec.controls), 0, MAX_CONTROLS, "controls", "/controls")
    if spec.start is not None:
        check_redraw(spec.start.redraw, len(spec.subjects), "/start/redraw")
        if spec.start.redraw and spec.layout is not None:
            detail = "The auto layout finds no places before the picture is drawn; redraw subjects by their boxes."
            raise LayoutError(detail, "/start/redraw")


def _check_score(spec: GenerationSpec) -> None:
    check_retries(spec.retries, spec.score)
    if spec.score and spec.layout is not None:
        detail = "Scores ask what stands in each subject's box, and the auto layout has none; give boxes, or leave score out."
        raise InvalidInputError(detail, "/score")


def check_redraw(redraw: Sequence[int], num_subjects: int, pointer: str) -> None:
    """Raise ``InvalidInputError`` for a position that no subject has."""
    for position in redraw:
        if not 0 <= position < num_subjects:
            last = num_subjects - 1
            raise InvalidInputError(f"There is no subject {position}; they count from 0 to {last}.", pointer)


def derived_seed(seed: int, draw: int) -> int:
    """The seed of a picture's draw, 0 being the first: its own, then others that no neighbouring seed leads to.

    Returns:
        from 0 to ``MAX_SEED``; the same for the same arguments, always.
    """
    if draw == 0:
        return seed
    digest = hashlib.sha256(f"{seed} {draw}".encode()).digest()
    return int.from_bytes(digest[:8], "big") & MAX_SEED
