"""A matcher without a network: colours within the mask, by rings, and the form of the silhouette."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float

from ms_lab.data.items import Mask, Pixels
from ms_lab.data.parts import Seen

_SIDE, _BINS, _RINGS = 48, (4, 16), 3


class ColourShapeMatcher:
    """Compares crops by what turning, moving and scaling leave as it is."""

    def __init__(self, colour_weight: float = 0.8) -> None:
        """``colour_weight``: of the colours; the form has the rest."""
        self.colour_weight = colour_weight

    def compare(self, groups: Sequence[Sequence[Seen]]) -> list[Float[np.ndarray, "n n"]]:
        """Similarities from 0 to 1 within each group."""
        return [self._compare(group) for group in groups]

    def _compare(self, group: Sequence[Seen]) -> Float[np.ndarray, "n n"]:
        described = [describe(seen.crop, seen.crop_mask) for seen in group]
        colours = np.stack([colour for colour, _ in described])
        shapes = np.stack([shape for _, shape in described])
        # Square roots of histograms: their products are Bhattacharyya coefficients.
        by_colour = colours @ colours.T
        by_shape = np.exp(-np.abs(shapes[:, None] - shapes[None]).sum(-1))
        return self.colour_weight * by_colour + (1 - self.colour_weight) * by_shape


def describe(crop: Pixels, mask: Mask) -> tuple[Float[np.ndarray, " colours"], Float[np.ndarray, " shapes"]]:
    """Root of the colour histogram of each ring, and log-scaled invariant moments of the silhouette."""
    small = cv2.resize(crop, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    inside = cv2.resize(mask.astype(np.uint8), (_SIDE, _SIDE), interpolation=cv2.INTER_NEAREST)
    # The rim mixes with the background.
    core = cv2.erode(inside, np.ones((3, 3), np.uint8))
    core = core if core.any() else inside
    if not core.any():
        core = np.ones_like(inside)
    rings = _rings(core)
    colours = cv2.cvtColor(small, cv2.COLOR_RGB2Lab)
    parts = [_histogram(colours, ring) for ring in rings]
    moments = cv2.HuMoments(cv2.moments(core, binaryImage=True)).ravel()[:3]
    return np.concatenate(parts) / np.sqrt(len(parts)), np.log10(np.abs(moments) + 1e-4)


def _rings(core: np.ndarray) -> list[np.ndarray]:
    """The silhouette in rings of equal area around its middle."""
    rows, columns = np.nonzero(core)
    distance = np.hypot(rows - rows.mean(), columns - columns.mean())
    order = np.argsort(distance, kind="stable")
    rings: list[np.ndarray] = []
    for chosen in np.array_split(order, _RINGS):
        ring = np.zeros_like(core)
        ring[rows[chosen], columns[chosen]] = 1
        rings.append(ring)
    return rings


def _histogram(colours: np.ndarray, ring: np.ndarray) -> np.ndarray:
    """Root of the shares of lightness and colour; neighbouring colours count a little, for light changes."""
    bins = [_BINS[0], _BINS[1], _BINS[1]]
    counts = cv2.calcHist([colours], [0, 1, 2], ring, bins, [0, 256, 0, 256, 0, 256])
    for axis in range(3):
        padded = np.pad(counts, [(1, 1) if own == axis else (0, 0) for own in range(3)], mode="edge")
        before, after = (np.take(padded, range(start, start + counts.shape[axis]), axis) for start in (0, 2))
        counts = 0.5 * counts + 0.25 * (before + after)
    total = float(counts.sum())
    return np.sqrt(counts / total).ravel() if total else counts.ravel()
