"""Who is in front, where two subjects are in contact: the picture shows one of two composites."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ms_lab.data.run_lengths import from_run_lengths
from ms_lab.evaluation.judge.layouts import Mask
from ms_lab.evaluation.judge.views import Opponent, View, square_mask
from ms_lab.evaluation.questions.scenes import BenchScene


@dataclass(frozen=True, slots=True)
class Order:
    """The composites of a scene in both orders, at the judge's size and low-passed.

    Attributes:
        right, wrong: the composite, and the one with the other subject in front.
        common: where the silhouettes of both subjects lie.
    """

    right: Opponent
    wrong: Opponent
    common: Mask

    @classmethod
    def of(cls, scene: BenchScene) -> Order | None:
        """The orders of a scene; ``None`` where it is not asked who is in front."""
        if scene.reordered is None:
            return None
        shape = scene.original.height, scene.original.width
        first, second = (from_run_lengths(subject.mask or (), *shape) for subject in scene.original.subjects[:2])
        right, wrong = (View.of(picture).smooth for picture in (scene.original.image, scene.reordered))
        return cls(right, wrong, square_mask(first & second))

    def is_right(self, smooth: Opponent) -> bool:
        """Whether a picture, at the judge's size and low-passed, is nearer to the right order where both lie."""
        right, wrong = (float(np.square(smooth - other)[self.common].sum()) for other in (self.right, self.wrong))
        return right < wrong
