"""One UNet batch of specs: the model's defaults filled in, limits and shared fields checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from ms_core.config import ModelCard
from ms_core.errors import BatchMismatchError, InvalidInputError
from ms_core.spec import GenerationSpec

T = TypeVar("T")

SHARED_FIELDS = ("height", "width", "num_inference_steps", "scheduler")


@dataclass(frozen=True, slots=True)
class ResolvedSpec:
    """A spec whose ``None`` values are replaced by the model card's defaults.

    Attributes:
        subject_scales: strength of each subject, its own or the global one.
    """

    spec: GenerationSpec
    negative_prompt: str
    height: int
    width: int
    num_inference_steps: int
    guidance_scale: float
    scheduler: str
    subject_scales: tuple[float, ...]

    @property
    def do_classifier_free_guidance(self) -> bool:
        """Whether this row needs an unconditional one beside it."""
        return self.guidance_scale > 1.0


def resolve(spec: GenerationSpec, card: ModelCard) -> ResolvedSpec:
    """Fill in the card's defaults.

    Raises:
        InvalidInputError: the picture is larger than the model allows.
    """
    defaults = card.defaults
    resolved = ResolvedSpec(
        spec=spec,
        negative_prompt=_default(spec.negative_prompt, defaults.negative_prompt),
        height=_default(spec.height, defaults.height),
        width=_default(spec.width, defaults.width),
        num_inference_steps=_default(spec.num_inference_steps, defaults.num_inference_steps),
        guidance_scale=_default(spec.guidance_scale, defaults.guidance_scale),
        scheduler=_default(spec.scheduler, defaults.scheduler),
        subject_scales=tuple(
            _default(subject.scale, _default(spec.scale, defaults.scale)) for subject in spec.subjects
        ),
    )
    for name, limit in (("height", card.max_height), ("width", card.max_width)):
        if getattr(resolved, name) > limit:
            raise InvalidInputError(f"This model makes pictures of at most {limit} pixels in {name}.", f"/{name}")
    return resolved


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


def _default(value: T | None, default: T) -> T:
    return default if value is None else value
