"""A request beside a model: the model's defaults filled in, and all that is wrong or worth a warning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Self, TypeVar, cast

from ms_core.config import ModelCard, Preset
from ms_core.errors import (
    BatchMismatchError,
    InvalidInputError,
    LayoutError,
    cannot_begin_with_noise,
    missing_lora,
    no_scorer,
    unknown_name,
)
from ms_core.spec.declared import changed, collected
from ms_core.spec.extras import Lora
from ms_core.spec.generation import GenerationSpec, GenerationWarning
from ms_core.spec.layout import PixelBox
from ms_core.spec.subject import Subject
from ms_core.spec.warnings import find_warnings

T = TypeVar("T")
Spec = TypeVar("Spec", bound=GenerationSpec)

# Each with its pointer in the request.
SHARED_FIELDS = {
    "height": "/height",
    "width": "/width",
    "num_inference_steps": "/num_inference_steps",
    "scheduler": "/scheduler",
    "timestep_spacing": "/timestep_spacing",
    "strength": "/start/strength",
    "control_names": "/controls",
    "loras": "/loras",
}
# Those that a preset or the card's defaults may fill in; where a source has no such field, the next is asked.
_FILLED = (
    "height",
    "width",
    "num_inference_steps",
    "guidance_scale",
    "scale",
    "negative_prompt",
    "scheduler",
    "timestep_spacing",
)


@dataclass(frozen=True, slots=True)
class Resolution(Generic[Spec]):
    """What a request comes to.

    Attributes:
        spec: the request with the values in force, as far as they are known; its boxes are normalised.
        preset: whose values stand in; an empty one if none is asked for, or is known.
        errors: all that is wrong with it.
        warnings: what the user should know.
    """

    spec: Spec
    preset: Preset
    errors: tuple[InvalidInputError, ...]
    warnings: tuple[GenerationWarning, ...]


def resolve(spec: Spec, card: ModelCard | None, *, check_loras: bool = True) -> Resolution[Spec]:
    """Fill in the values of the preset, then the card's defaults, and look at the whole.

    Args:
        card: ``None`` before the first worker has loaded the model: the request's own values are all that is known.
        check_loras: against those of the card; who has the model's folder looks there, and finds newer ones too.
    """
    errors: list[InvalidInputError] = []
    preset = Preset() if card is None else card.presets.get(spec.preset or "", Preset())
    sources = [spec, preset, *([] if card is None else [card.defaults])]
    values = {name: _first(*(getattr(source, name, None) for source in sources)) for name in _FILLED}
    filled = changed(spec, **values)
    subjects = [_with_normalised_box(subject, filled, index, errors) for index, subject in enumerate(spec.subjects)]
    filled = changed(filled, subjects=tuple(subjects))
    errors += filled.conflicts()
    if card is not None:
        errors += _card_conflicts(filled, card) + (_lora_conflicts(filled, card) if check_loras else [])
    return Resolution(filled, preset, tuple(errors), tuple(find_warnings(filled, card)))


def _with_normalised_box(
    subject: Subject, spec: GenerationSpec, index: int, errors: list[InvalidInputError]
) -> Subject:
    if not isinstance(subject.box, PixelBox):
        return subject
    with collected(errors, f"/subjects/{index}/box"):
        if spec.height is None or spec.width is None:
            raise LayoutError("Pixel boxes need width and height in the request until a worker has loaded the model.")
        return changed(subject, box=subject.box.within(spec.height, spec.width))
    return subject


def _card_conflicts(spec: GenerationSpec, card: ModelCard) -> list[InvalidInputError]:
    """What the model cannot do: sizes, names, schedulers and scores."""
    errors: list[InvalidInputError] = []
    for name, limit in (("height", card.max_height), ("width", card.max_width)):
        if getattr(spec, name) > limit:
            detail = f"The model {card.name} makes pictures of at most {limit} pixels in {name}."
            errors.append(InvalidInputError(detail, f"/{name}"))
    if spec.preset is not None and spec.preset not in card.presets:
        errors.append(unknown_name("preset", spec.preset, card.presets, "/preset"))
    for index, control in enumerate(spec.controls):
        if control.name not in card.extras.controls:
            errors.append(unknown_name("ControlNet", control.name, card.extras.controls, f"/controls/{index}/name"))
    if spec.layout is not None and not card.auto_layout:
        detail = (
            f"The model {card.name} cannot place subjects by itself; give each a box or a mask, and leave layout out."
        )
        errors.append(InvalidInputError(detail, "/layout"))
    if spec.score and card.scorer is None:
        errors.append(no_scorer(card.name))
    return errors + _scheduler_conflicts(spec, card)


def _scheduler_conflicts(spec: GenerationSpec, card: ModelCard) -> list[InvalidInputError]:
    """A scheduler that cannot begin with noise alone, unless a start picture lets it begin later."""
    begins_later = spec.start is not None and spec.start.strength < 1
    if card.schedulers is None or spec.scheduler is None or begins_later:
        return []
    usable = card.schedulers.names(spec.timestep_spacing)
    return [] if spec.scheduler in usable else [cannot_begin_with_noise(spec.scheduler, usable)]


def _lora_conflicts(spec: GenerationSpec, card: ModelCard) -> list[InvalidInputError]:
    """LoRAs that the model lacks."""
    known, name = card.extras.loras, spec.preset or ""
    preset = card.presets.get(name, Preset())
    errors: list[InvalidInputError] = [
        missing_lora(name, lora.name, preset.extra) for lora in preset.loras if lora.name not in known
    ]
    for index, lora in enumerate(spec.loras):
        if lora.name not in known:
            errors.append(unknown_name("LoRA", lora.name, known, f"/loras/{index}/name"))
    return errors


@dataclass(frozen=True, slots=True)
class ResolvedSpec:
    """One picture to be made, all values known.

    Attributes:
        spec: with the values in force, and each subject's place as its box.
        timestep_spacing: ``None`` leaves it to the model's scheduler config.
        subject_scales: strength of each subject, its own or the global one.
        loras: the preset's, then the spec's own.
        warnings: what the user should know.
    """

    spec: GenerationSpec
    negative_prompt: str
    height: int
    width: int
    num_inference_steps: int
    guidance_scale: float
    scheduler: str
    timestep_spacing: str | None
    preset: Preset
    subject_scales: tuple[float, ...]
    loras: tuple[Lora, ...]
    warnings: tuple[GenerationWarning, ...] = ()

    @classmethod
    def of(cls, spec: GenerationSpec, card: ModelCard) -> Self:
        """A spec with all values in force and each subject's place as its box.

        Raises:
            InvalidInputError: the first thing that is wrong with it, or that the model cannot do.
        """
        resolution = resolve(spec, card, check_loras=False)
        for error in resolution.errors:
            raise error
        filled, preset, scale = resolution.spec, resolution.preset, resolution.spec.scale
        subjects = tuple(changed(subject, box=subject.place) for subject in filled.subjects)
        return cls(
            spec=changed(filled, subjects=subjects),
            negative_prompt=_known(filled.negative_prompt),
            height=_known(filled.height),
            width=_known(filled.width),
            num_inference_steps=_known(filled.num_inference_steps),
            guidance_scale=_known(filled.guidance_scale),
            scheduler=_known(filled.scheduler),
            timestep_spacing=filled.timestep_spacing,
            preset=preset,
            subject_scales=tuple(_known(_first(subject.own_scale, scale)) for subject in subjects),
            loras=(*(Lora(lora.name, lora.weight) for lora in preset.loras), *filled.loras),
            warnings=resolution.warnings,
        )

    @property
    def do_classifier_free_guidance(self) -> bool:
        """Whether this row needs an unconditional one beside it."""
        return self.guidance_scale > 1.0

    @property
    def strength(self) -> float | None:
        """How much of the start picture may change; ``None`` without one."""
        return None if self.spec.start is None else self.spec.start.strength

    @property
    def num_kept_steps(self) -> int:
        """Steps that are done: with a start picture the last ones only; checked by ``resolve``."""
        start = self.spec.start
        return self.num_inference_steps if start is None else start.num_kept_steps(self.num_inference_steps)

    @property
    def control_names(self) -> tuple[str, ...]:
        """ControlNets, in the order of the request."""
        return tuple(control.name for control in self.spec.controls)


def resolve_batch(specs: GenerationSpec | Sequence[GenerationSpec], card: ModelCard) -> tuple[ResolvedSpec, ...]:
    """Fill in the card's defaults and check that the specs, or the one, can share one UNet call.

    Raises:
        BatchMismatchError: they differ in a field that the batch must share; its ``pointer`` names the field.
        InvalidInputError: there is no spec, or one is larger than the model allows.
    """
    given = list(cast("Sequence[GenerationSpec]", specs)) if isinstance(specs, (list, tuple)) else [specs]
    if not given:
        raise InvalidInputError("A batch needs at least one spec.")
    for spec in given:
        # Python checks no types.
        if not isinstance(cast("object", spec), GenerationSpec):
            raise InvalidInputError(f"Give a GenerationSpec, or a list of them, not {type(spec).__name__}.")
    batch = tuple(ResolvedSpec.of(cast("GenerationSpec", spec), card) for spec in given)
    for name, pointer in SHARED_FIELDS.items():
        values = [getattr(row, name) for row in batch]
        if len(set(values)) > 1:
            listed = "; ".join(_describe(value) for value in values)
            raise BatchMismatchError(f"All specs of one batch must have the same {name}; these have {listed}.", pointer)
    return batch


def _describe(value: object) -> str:
    if isinstance(value, Lora):
        return f"{value.name} at {value.weight:g}"
    if isinstance(value, tuple):
        return ", ".join(_describe(part) for part in cast("tuple[object, ...]", value)) or "none"
    return "none" if value is None else str(value)


def _first(*values: T | None) -> T | None:
    """The first value that is not ``None``."""
    return next((value for value in values if value is not None), None)


def _known(value: T | None) -> T:
    """A value that the card's defaults always give."""
    if value is None:
        raise TypeError("The model card lacks a default.")
    return value
