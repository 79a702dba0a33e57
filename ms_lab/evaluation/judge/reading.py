"""One picture read with a composite's layout: its background, what differs from it, and what each box shows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image

from ms_lab.data.records import TrainingSample
from ms_lab.evaluation.judge.backdrops import fit_backdrop
from ms_lab.evaluation.judge.layouts import Layout
from ms_lab.evaluation.judge.matching import Frame, Matcher
from ms_lab.evaluation.judge.segmentation import Segmentation
from ms_lab.evaluation.judge.views import Opponent, View
from ms_lab.mini.painting import PLAIN, cut_centre, paint_backdrop

# Levels beyond which a pixel speaks less and less against a backdrop.
_BACKDROP_NOISE = 12.0


class Reading:
    """One picture, read with one composite's layout.

    Args:
        picture: RGB, of the composite's shape.
        sample: the composite that the picture should look like.
        layout: of that composite.
        lights: those that the background may stand in.

    Attributes:
        layout: of the composite.
        backdrop: fitted from the picture.
        segmentation: of the picture.
    """

    def __init__(
        self, picture: Image.Image, sample: TrainingSample, layout: Layout, lights: Sequence[str] = (PLAIN,)
    ) -> None:
        self._sample = sample
        self._view = View.of(picture)
        self.layout = layout
        self.backdrop = fit_backdrop(self._view, self.layout.background(), lights)
        self.segmentation = Segmentation(self._view, self.backdrop, self.layout)

    @property
    def side(self) -> int:
        """Of the picture's square canvas, in pixels."""
        return len(self._view.colours)

    @property
    def smooth(self) -> Opponent:
        """The picture at the judge's size, low-passed."""
        return self._view.smooth

    def matcher(self, frame: Frame) -> Matcher:
        """Compares drawings with what a subject's box shows; the frame is of ``Layout.frame``."""
        return Matcher(self._view.colours, self.backdrop.enlarged(self.side), frame)

    def nearest_backdrop(self, backdrops: Sequence[tuple[str, int]]) -> int:
        """Which of these backdrops, each a kind and its painter's seed, is nearest to what stands outside the boxes."""
        outside = self.layout.background()
        height, width = self._sample.height, self._sample.width
        costs: list[float] = []
        for kind, seed in backdrops:
            squares = (
                (self._view.smooth - _smooth_backdrop(kind, seed, height, width))[outside] / _BACKDROP_NOISE
            ) ** 2
            costs.append(float(np.log1p(squares).sum()))
        return int(np.argmin(costs))


@lru_cache(maxsize=64)
def _smooth_backdrop(kind: str, seed: int, height: int, width: int) -> Opponent:
    backdrop = paint_backdrop(kind, np.random.default_rng(seed), max(height, width))
    return View.of(cut_centre(backdrop, height, width)).smooth
