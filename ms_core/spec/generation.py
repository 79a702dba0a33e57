"""One picture to be made."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, cast

from pydantic import BeforeValidator, ConfigDict, Field

from ms_core.errors import InvalidInputError, LayoutError, PhraseNotFoundError
from ms_core.spec.declared import Declared, FieldError, collected, declared, gathered_by_pydantic
from ms_core.spec.extras import Control, Lora, StartPicture
from ms_core.spec.fields import (
    Integer,
    count,
    in_range,
    known_scheduler,
    known_timestep_spacing,
    plain_name,
    side_in_pixels,
    text,
)
from ms_core.spec.layout import AutoLayout
from ms_core.spec.limits import (
    MAX_CONTROLS,
    MAX_GUIDANCE_SCALE,
    MAX_LORAS,
    MAX_PROMPT_CHARACTERS,
    MAX_RETRIES,
    MAX_SEED,
    MAX_STEPS,
    MAX_SUBJECT_SCALE,
    MAX_SUBJECTS,
    check_scheduler_steps,
)
from ms_core.spec.phrases import find_phrases
from ms_core.spec.subject import Subject

# The API shows this sentence as its example of a problem.
NO_PLACE = "This subject has no box; give a box or a mask."

Side = Annotated[Integer, side_in_pixels(), Field(description="In pixels, a multiple of 8.")]


@dataclass(frozen=True, slots=True)
class GenerationWarning:
    """A warning; the job still runs."""

    # Stored with jobs; a newer version of the service may say more. A worker writes the list whole, so what only a newer version
    # says is lost when an older one runs the job: it is advice, and a job needs none of it.
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="ignore")

    code: Annotated[str, Field(description="Stable name of the warning.")]
    detail: Annotated[str, Field(description="What the warning means, in one sentence.")]
    pointer: Annotated[
        str, Field(description="RFC 6901 pointer to the value in the request; empty for the whole request.")
    ] = ""


def _read_layout(value: Any) -> Any:
    if isinstance(value, dict) and "mode" not in value:
        with gathered_by_pydantic():
            raise FieldError("This field is required.", "/mode", "missing_field")
    return None if value == "boxes" else cast("Any", value)


@declared()
class GenerationSpec(Declared):
    """A picture to make. Fields that are left out take the model's defaults."""

    prompt: Annotated[
        str,
        text(MAX_PROMPT_CHARACTERS, "The prompt is empty: say what the picture shows."),
        Field(description="What the picture shows. Text beyond the text encoder's limit is cut off, with a warning."),
    ]
    subjects: Annotated[
        tuple[Subject, ...],
        count(1, MAX_SUBJECTS, "subjects"),
        Field(strict=False, description="More than the model was trained with are allowed, with a warning."),
    ]
    negative_prompt: Annotated[
        Annotated[str, text(MAX_PROMPT_CHARACTERS)] | None,
        Field(description='What the picture should not show; "" turns off the model\'s default.'),
    ] = None
    height: Annotated[Side | None, Field(description="Height of the picture, in pixels.")] = None
    width: Annotated[Side | None, Field(description="Width of the picture, in pixels.")] = None
    num_inference_steps: Annotated[
        Annotated[Integer, in_range(1, MAX_STEPS)] | None,
        Field(description="Denoising steps. More steps take longer and look better, up to a point."),
    ] = None
    guidance_scale: Annotated[
        Annotated[float, in_range(0, MAX_GUIDANCE_SCALE)] | None,
        Field(description="How strongly the picture follows the prompt; 1 or less turns guidance off."),
    ] = None
    scale: Annotated[
        Annotated[float, in_range(0, MAX_SUBJECT_SCALE)] | None,
        Field(description="Strength of every subject that does not set its own `scale`."),
    ] = None
    seed: Annotated[
        Integer, in_range(0, MAX_SEED), Field(description="The same seed and request give the same picture.")
    ] = 0
    layout: Annotated[
        AutoLayout | None,
        BeforeValidator(_read_layout, json_schema_input_type=Literal["boxes"] | AutoLayout | None),
        Field(description='"boxes" (the default) uses the subjects\' boxes; in auto mode the model places them.'),
    ] = None
    grounding: Annotated[
        bool, Field(description="Whether phrase and box influence how the model reads a reference.")
    ] = True
    scheduler: Annotated[Annotated[str, known_scheduler()] | None, Field(description="The sampler.")] = None
    timestep_spacing: Annotated[
        Annotated[str, known_timestep_spacing()] | None,
        Field(description="How the sampler spaces its steps; most few-step LoRAs need `trailing`."),
    ] = None
    preset: Annotated[
        Annotated[str, plain_name()] | None,
        Field(
            description="A named set of the model's values, as listed by `GET /models`. It fills in fields that are "
            "left out; its LoRAs are added to `loras`."
        ),
    ] = None
    loras: Annotated[
        tuple[Lora, ...],
        count(0, MAX_LORAS, "LoRAs"),
        Field(strict=False, description="The model's LoRAs to use for this picture."),
    ] = ()
    controls: Annotated[
        tuple[Control, ...],
        count(0, MAX_CONTROLS, "controls"),
        Field(strict=False, description="The model's ControlNets to use, each with the picture it follows."),
    ] = ()
    start: Annotated[
        StartPicture | None,
        Field(description="A picture to start from: change all of it, or redraw some subjects only."),
    ] = None
    score: Annotated[
        bool,
        Field(
            description="Whether to score how well the subjects of each picture turned out. Needs a model with a "
            "scorer (see `GET /models`); not available with auto layout."
        ),
    ] = False
    retries: Annotated[
        Integer,
        in_range(0, MAX_RETRIES),
        Field(
            description="How often a picture may be drawn again, with another seed, while the score of one of its "
            "subjects is too low: only at the place of the weakest if at most half of them fail. The best is kept. Needs "
            "`score`."
        ),
    ] = 0

    @property
    def phrase_spans(self) -> tuple[tuple[int, int] | None, ...]:
        """Where each subject's phrase stands in the prompt: half-open character spans, ``None`` where it does not."""
        return find_phrases(self.prompt, [subject.phrase for subject in self.subjects])

    @property
    def num_unet_calls(self) -> int | None:
        """How often the UNet is called; ``None`` while the steps are not known.

        Raises:
            InvalidInputError: the start picture leaves no step to do.
        """
        steps = self.num_inference_steps
        if steps is None:
            return None
        kept = steps if self.start is None else self.start.num_kept_steps(steps)
        return 2 * kept - 1 if self.scheduler == "heun" else kept

    def conflicts(self) -> list[InvalidInputError]:
        """All that is wrong with the fields together, as far as their values are known."""
        parts = [(f"/subjects/{index}", subject) for index, subject in enumerate(self.subjects)]
        parts += [(f"/controls/{index}", control) for index, control in enumerate(self.controls)]
        of_parts = [error.below(pointer) for pointer, part in parts for error in part.conflicts()]
        return [
            *of_parts,
            *_layout_conflicts(self),
            *_step_conflicts(self),
            *_control_conflicts(self),
            *_score_conflicts(self),
        ]


def _layout_conflicts(spec: GenerationSpec) -> list[InvalidInputError]:
    """Subjects without a place, phrases that the auto layout needs, places that cannot be redrawn."""
    if spec.layout is None:
        return [
            LayoutError(NO_PLACE, f"/subjects/{index}/box")
            for index, subject in enumerate(spec.subjects)
            if subject.box is None and subject.mask is None and not subject.scene
        ] + _redraw_conflicts(spec)
    errors: list[InvalidInputError] = [
        PhraseNotFoundError(
            f"The auto layout needs {subject.phrase!r} in the prompt; add it, or give boxes instead.",
            f"/subjects/{index}/phrase",
        )
        for index, (subject, span) in enumerate(zip(spec.subjects, spec.phrase_spans, strict=True))
        if span is None
    ]
    if spec.start is not None and spec.start.redraw:
        detail = "The auto layout places subjects only while it draws, so it cannot redraw them; give boxes instead."
        errors.append(LayoutError(detail, "/start/redraw"))
    return errors + _redraw_conflicts(spec)


def _redraw_conflicts(spec: GenerationSpec) -> list[InvalidInputError]:
    last = len(spec.subjects) - 1
    return [
        InvalidInputError(f"There is no subject {position}; subjects are counted from 0 to {last}.", "/start/redraw")
        for position in (() if spec.start is None else spec.start.redraw)
        if not 0 <= position <= last
    ]


def _step_conflicts(spec: GenerationSpec) -> list[InvalidInputError]:
    """Steps that the scheduler does not have, or of which the start picture leaves none."""
    steps = spec.num_inference_steps
    if steps is None:
        return []
    errors: list[InvalidInputError] = []
    if spec.scheduler is not None:
        with collected(errors):
            check_scheduler_steps(spec.scheduler, steps)
    if spec.start is not None:
        with collected(errors, "/start"):
            spec.start.num_kept_steps(steps)
    return errors


def _control_conflicts(spec: GenerationSpec) -> list[InvalidInputError]:
    if spec.height is None or spec.width is None:
        return []
    sized = enumerate(control.size_error(spec.height, spec.width) for control in spec.controls)
    return [error.below(f"/controls/{index}") for index, error in sized if error is not None]


def _score_conflicts(spec: GenerationSpec) -> list[InvalidInputError]:
    errors: list[InvalidInputError] = []
    if spec.retries and not spec.score:
        detail = "retries needs score; turn score on, or leave retries out."
        errors.append(InvalidInputError(detail, "/retries"))
    if spec.score and spec.layout is not None:
        detail = (
            "Scoring looks into each subject's box, and the auto layout has no boxes; give boxes, or leave score out."
        )
        errors.append(InvalidInputError(detail, "/score"))
    return errors


def derived_seed(seed: int, draw: int) -> int:
    """The seed of a picture's draw, 0 being the first: its own, then others that no neighbouring seed leads to.

    Returns:
        from 0 to ``MAX_SEED``; the same for the same arguments, always.
    """
    if draw == 0:
        return seed
    digest = hashlib.sha256(f"{seed} {draw}".encode()).digest()
    return int.from_bytes(digest[:8], "big") & MAX_SEED
