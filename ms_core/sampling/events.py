"""The pipeline's events: its progress, and at the end the pictures with their scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ms_core.spec import GenerationWarning, SubjectScore
from ms_core.spec.score import Redraw

Phase = Literal["encode", "denoise", "decode", "score"]


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a batch stands; ``encode``, ``decode`` and ``score`` come before their work, ``encode`` also after each subject
    that was cut out, ``denoise`` after each step. ``score`` comes only if scores are asked for.

    Attributes:
        phase: what is being done.
        step: finished denoising steps, 0 to ``num_inference_steps``.
        num_inference_steps: those that are really done: fewer than were asked for with a start picture, and nearly
            twice as many with the scheduler ``heun``; with retries those of all draws that may follow as well.
        warnings: of each spec, in order; known from the first ``denoise`` event on (step 0).
        preview: draws the first picture, small, as this step sees it coming; nothing is done unless it is called, which
            must be before the next event is asked for. ``None`` if no step of the first picture was just done.
    """

    phase: Phase
    step: int
    num_inference_steps: int
    warnings: tuple[tuple[GenerationWarning, ...], ...] = ()
    preview: Callable[[], Image.Image] | None = None


@dataclass(frozen=True, slots=True)
class Generation:
    """One finished picture.

    Attributes:
        image: RGB.
        latents: final latents ``[1, channels, height / 8, width / 8]``, float32 on the CPU, scaled as the UNet sees them.
        seed: of its generator; of the draw that was kept, if there were several. If that drew one subject's place only, the
            spec's: no single draw makes this picture.
        warnings: of its spec.
        scores: of its subjects, in order, ``None`` for a scene or one without a picture; empty unless asked for.
        redraws: its draws after the first.
    """

    image: Image.Image
    latents: Float[Tensor, "1 c h w"]
    seed: int
    warnings: tuple[GenerationWarning, ...]
    scores: tuple[SubjectScore | None, ...] = ()
    redraws: tuple[Redraw, ...] = ()

    @property
    def draws(self) -> int:
        """How often the picture was drawn, in whole or in part."""
        return 1 + len(self.redraws)

    @property
    def weakest(self) -> float:
        """The lowest probability of any subject; 1 if none was scored."""
        weaker = (score.weaker for score in self.scores if score is not None)
        return min((value for value in weaker if value is not None), default=1.0)


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event: one picture for each spec, in order."""

    generations: tuple[Generation, ...]


Event = Progress | Finished
