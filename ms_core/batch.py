"""One UNet batch of specs: the model's defaults filled in, limits and shared fields checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from ms_core.config import ModelCard, Preset
from ms_core.errors import BatchMismatchError, InvalidInputError, unknown_name
from ms_core.spec import GenerationSpec, Lora

T = TypeVar("T")

SHARED_FIELDS = ("height", "width", "num_inference_steps", "scheduler", "timestep_spacing")


@dataclass(frozen=True, slots=True)
class ResolvedSpec:
    """A spec whose ``None`` values are replaced by the model card's defaults.

    Attributes:
        timestep_spacing: ``None`` leaves it to the model's scheduler config.
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
    subject_scales: tuple[float, ...]
    loras: tuple[Lora, ...]

    @property
    def do_classifier_free_guidance(self) -> bool:
        """Whether this row needs an unconditional one beside it."""
        return self.guidance_scale > 1.0


def resolve(spec: GenerationSpec, card: ModelCard) -> ResolvedSpec:
    """Fill in the values of the preset, then the card's defaults.

    Raises:
        InvalidInputError: the picture is larger than the model allows.
        UnknownNameError: the model has no such preset, LoRA or ControlNet.
    """
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
        subject_scales=tuple(_first(subject.scale, scale) for subject in spec.subjects),
        loras=(*(Lora(lora.name, lora.weight) for lora in preset.loras), *spec.loras),
    )
    for name, limit in (("height", card.max_height), ("width", card.max_width)):
        if getattr(resolved, name) > limit:
            raise InvalidInputError(f"This model makes pictures of at most {limit} pixels in {name}.", f"/{name}")
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
    for name in SHARED_FIELDS:
        values = [getattr(resolved, name) for resolved in batch]
        if len(set(values)) > 1:
            listed = ", ".join(str(value) for value in values)
            raise BatchMismatchError(
                f"All specs of one batch must have the same {name}; these have {listed}.", f"/{name}"
            )
    return batch


def _first(*values: T | None) -> T:
    """The first value that is not ``None``; the last one never is."""
    return next(value for value in values if value is not None)
