"""One UNet batch of specs: the model's defaults filled in, limits and shared fields checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

from ms_core.config import ModelCard, Preset
from ms_core.errors import BatchMismatchError, InvalidInputError, no_scorer, unknown_name
from ms_core.spec import GenerationSpec, Lora, check_scheduler_steps

T = TypeVar("T")

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


@dataclass(frozen=True, slots=True)
class ResolvedSpec:
    """A spec whose ``None`` values are replaced by the model card's defaults.

    Attributes:
        timestep_spacing: ``None`` leaves it to the model's scheduler config.
        preset: whose values stand in; an empty one if none is asked for.
        subject_scales: strength of each subject, its own or the global one.
        loras: the preset's, then the spec's own.
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


def resolve(spec: GenerationSpec, card: ModelCard) -> ResolvedSpec:
    """Fill in the values of the preset, then the card's defaults.

    Raises:
        InvalidInputError: the picture is larger than the model allows, or there are too many steps or too few.
        UnknownNameError: the model has no such preset, LoRA or ControlNet.
        NoScorerError: scores are asked for, and the model has no scorer.
    """
    if spec.score and card.scorer is None:
        raise no_scorer(card.name)
    preset, defaults = find_preset(spec.preset, card), card.defaults
    scale = _first(spec.scale, preset.scale, defaults.scale)
    resolved = ResolvedSpec(
        spec=spec,
        negative_prompt=_first(spec.negative_prompt, defaults.negative_prompt),
        height=_first(spec.height, defaults.height),
        width=_first(spec.width, defaults.width),
        num_inference_steps=_first(spec.num_inference_steps, preset.num_inference_steps, defaults.num_inference_steps),
        guidance_scale=_first(spec.guidance_scale, preset.guidance_scale, defaults.guidance_scale),
        scheduler=_first(spec.scheduler, preset.scheduler, defaults.scheduler),
        timestep_spacing=preset.timestep_spacing if spec.timestep_spacing is None else spec.timestep_spacing,
        preset=preset,
        subject_scales=tuple(_first(subject.scale, scale) for subject in spec.subjects),
        loras=(*(Lora(lora.name, lora.weight) for lora in preset.loras), *spec.loras),
    )
    for name, limit in (("height", card.max_height), ("width", card.max_width)):
        if getattr(resolved, name) > limit:
            raise InvalidInputError(f"This model makes pictures of at most {limit} pixels in {name}.", f"/{name}")
    check_scheduler_steps(resolved.scheduler, resolved.num_inference_steps)
    if spec.start is not None:
        spec.start.num_kept_steps(resolved.num_inference_steps)
    for index, name in enumerate(resolved.control_names):
        if name not in card.extras.controls:
            raise unknown_name("ControlNet", name, card.extras.controls, f"/controls/{index}/name")
    return resolved


def find_preset(name: str | None, card: ModelCard) -> Preset:
    """The card's preset of this name; an empty one for ``None``.

    Raises:
        UnknownNameError: there is none.
    """
    if name is None:
        return Preset()
    if name not in card.presets:
        raise unknown_name("preset", name, card.presets, "/preset")
    return card.presets[name]


def resolve_batch(specs: Sequence[GenerationSpec], card: ModelCard) -> tuple[ResolvedSpec, ...]:
    """Fill in the card's defaults and check that the specs can share one UNet call.

    Raises:
        BatchMismatchError: they differ in a field that the batch must share; its ``pointer`` names the field.
        InvalidInputError: there is no spec, or one is larger than the model allows.
    """
    if not specs:
        raise InvalidInputError("A batch needs at least one spec.")
    batch = tuple(resolve(spec, card) for spec in specs)
    for name, pointer in SHARED_FIELDS.items():
        values = [getattr(resolved, name) for resolved in batch]
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


def _first(*values: T | None) -> T:
    """The first value that is not ``None``; the last one never is."""
    return next(value for value in values if value is not None)
