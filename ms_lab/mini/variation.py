"""Variations of a drawing: the same artwork mirrored, stretched and turned, as if another artist had drawn it.

Reference and target show the same variation, so it is another subject, not another treatment. A few thousand drawings alone
would be learnt by heart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from ms_lab.mini.artwork import fit_square

_STRETCH = 0.2


@dataclass(frozen=True, slots=True)
class Variation:
    """How a drawing is changed.

    Attributes:
        mirrored: before everything else.
        stretch: its width is multiplied by this.
        degrees: it is then turned anticlockwise.
    """

    mirrored: bool
    stretch: float
    degrees: float


def draw_variation(rng: np.random.Generator) -> Variation:
    """A random variation: half of them mirrored, half of them turned by any angle, all stretched."""
    mirrored, turned = bool(rng.random() < 0.5), bool(rng.random() < 0.5)
    stretch, degrees = float(np.exp(rng.normal(0.0, _STRETCH))), float(rng.uniform(-180.0, 180.0))
    return Variation(mirrored, stretch, degrees if turned else 0.0)


def vary(drawing: Image.Image, variation: Variation | None) -> Image.Image:
    """The varied drawing, RGBA, square, cut to its opaque part and centred; without a variation the drawing itself."""
    if variation is None:
        return drawing
    side = drawing.height
    changed = drawing.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if variation.mirrored else drawing
    changed = changed.resize((max(1, round(side * variation.stretch)), side), Image.Resampling.BILINEAR)
    if variation.degrees:
        changed = changed.rotate(variation.degrees, Image.Resampling.BILINEAR, expand=True)
    return fit_square(changed, side)
