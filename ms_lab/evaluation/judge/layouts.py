"""Where a composite's subjects stand, and which part of a picture speaks for which of them.

Later subjects lie on top. What belongs to a subject's neighbours is kept away from it by their true silhouettes, so
that even a small subject within the box of a huge one has a part of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import cv2
import numpy as np
from jaxtyping import Bool, Float

from ms_core.spec import Box
from ms_lab.data.records import TrainingSample
from ms_lab.data.run_lengths import from_run_lengths
from ms_lab.evaluation.judge.matching import FORM_DETAIL, FORM_LEVELS, Frame
from ms_lab.evaluation.judge.views import SIDE, box_mask, square_box, square_mask

# Blur carries a neighbour's colours this many pixels of the judge's size beyond its silhouette.
_REACH = 2
# How much counts what lies in several boxes and in no neighbour's silhouette.
_SHARED = 0.5
# If boxes leave less than this share of the canvas, what silhouettes leave of it is taken for background as well.
_LEAST_BACKGROUND = 0.1

Mask = Bool[np.ndarray, "side side"]


@dataclass(frozen=True, slots=True)
class Layout:
    """The drawn subjects of a composite, on its square canvas.

    Attributes:
        boxes: normalised to the canvas.
        silhouettes: whole ones, at the judge's size.
        seen: False where the picture does not reach.
    """

    boxes: tuple[Box, ...]
    silhouettes: tuple[Mask, ...]
    seen: Mask

    @classmethod
    def of(cls, sample: TrainingSample, num_subjects: int) -> Layout:
        """The layout of a composite's first subjects; a scene subject after them has no place."""
        height, width = sample.height, sample.width
        subjects = sample.subjects[:num_subjects]
        return cls(
            boxes=tuple(square_box(subject.box, height, width) for subject in subjects),
            silhouettes=tuple(square_mask(from_run_lengths(subject.mask or (), height, width)) for subject in subjects),
            seen=square_mask(np.ones((height, width), bool)),
        )

    def visible(self, index: int) -> Mask:
        """What later subjects leave of a silhouette."""
        return reduce(lambda rest, later: rest & ~later, self.silhouettes[index + 1 :], self.silhouettes[index])

    def hidden(self, index: int) -> Mask:
        """What later subjects cover of a silhouette."""
        return self.silhouettes[index] & ~self.visible(index)

    def background(self) -> Mask:
        """Where nothing but the background is expected."""
        outside = self.seen & ~box_mask(self.boxes)
        if outside.sum() >= _LEAST_BACKGROUND * SIDE**2:
            return outside
        return self.seen & ~_widen(np.any(self.silhouettes, axis=0))

    def part(self, index: int) -> Float[np.ndarray, "side side"]:
        """How much each pixel speaks for a subject, from 0 to 1: nothing that its neighbours show or may show."""
        neighbours = [other for other in range(len(self.boxes)) if other != index]
        own = box_mask([self.boxes[index]], 0.0)
        weights = np.where(box_mask([self.boxes[other] for other in neighbours], 0.0), _SHARED * own, 1.0)
        for other in neighbours:
            weights[_widen(self.visible(other))] = 0
        return (weights * self.seen).astype(np.float32)

    def frame(self, index: int, side: int) -> Frame:
        """Into which drawings are laid to be compared with a subject's box, for canvases of this side."""
        return Frame(self._enlarged_part(index, side), self.boxes[index])

    def form_frame(self, index: int, side: int) -> Frame:
        """The same, where only detail counts."""
        return Frame(self._enlarged_part(index, side), self.boxes[index], FORM_LEVELS, FORM_DETAIL)

    def _enlarged_part(self, index: int, side: int) -> Float[np.ndarray, "height width"]:
        return cv2.resize(self.part(index), (side, side), interpolation=cv2.INTER_LINEAR)


def _widen(mask: Mask) -> Mask:
    return cv2.dilate(mask.astype(np.uint8), np.ones((2 * _REACH + 1,) * 2, np.uint8)) > 0
