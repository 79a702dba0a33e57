"""What of a picture is no background: is a subject there, and how far does it reach?"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float

from ms_core.spec import Box
from ms_lab.evaluation.judge.backdrops import Backdrop
from ms_lab.evaluation.judge.layouts import Layout, Mask
from ms_lab.evaluation.judge.views import SIDE, Opponent, View, box_mask

# The fitted background may be out of place by this many pixels of the judge's size.
_COARSE_SHIFT = 1
# The finer look, in pixels of a canvas of 128: blur, shift of the background, and how far a subject's own edge is from
# its strongest difference, of which it shows at least this share.
_FINE_SIDE = 128
_FINE_BLUR, _FINE_SHIFT, _EDGE_REACH, _EDGE_SHARE = 1.0, 3, 4, 0.35
# What is weaker than this share of what stands out in the box (the level that a tenth of it exceeds) is the
# background's unrest, not the subject.
_STANDS_OUT, _LEAST_STRENGTH = 0.9, 0.3
# Where a subject is looked for: its box, widened by this share of its longer side.
_SEARCH_MARGIN = 0.25
# Separate pieces smaller than this share of the largest one are specks.
_LEAST_PIECE = 0.05
PRESENT_SHARE = 0.25

_Levels = Float[np.ndarray, "side side"]


class Segmentation:
    """What differs from the fitted background of a picture."""

    def __init__(self, view: View, backdrop: Backdrop, layout: Layout) -> None:
        self._layout = layout
        difference = _beyond(view.smooth, backdrop.canvas, _COARSE_SHIFT)
        self._excess = np.maximum(difference - backdrop.tolerance, 0) * layout.seen
        self._fine = _fine_difference(view, backdrop)
        self._outlines = _outlines(self._fine, backdrop.tolerance) & _enlarge(self._excess > 0, len(self._fine))

    def inside_share(self) -> float:
        """Share of what differs that lies in the boxes, half a latent cell around them included; 0 if nothing does."""
        total = float(self._excess.sum())
        return float(self._excess[box_mask(self._layout.boxes)].sum()) / total if total > 0 else 0.0

    def is_present(self, index: int) -> bool:
        """Whether a quarter of the subject's true silhouette, as far as it is its own, differs from the background."""
        own = self._layout.silhouettes[index] & (self._layout.part(index) > 0)
        return bool((self._excess[own] > 0).sum() >= PRESENT_SHARE * max(1, own.sum()))

    def found_box(self, index: int) -> Box | None:
        """Around what stands in and near a subject's box; ``None`` if nothing does."""
        found, side = self._found(index), len(self._fine)
        if found is None:
            return None
        rows, columns = np.flatnonzero(found.any(1)), np.flatnonzero(found.any(0))
        return Box.from_pixels((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1), side, side)

    def found_silhouette(self, index: int) -> Mask | None:
        """What stands in and near a subject's box, at the judge's size; ``None`` if nothing does."""
        found = self._found(index)
        return None if found is None else _shrink(found)

    def _found(self, index: int) -> Bool[np.ndarray, "height width"] | None:
        """The same at the picture's scale, specks and neighbours left out.

        What later subjects cover of its true silhouette cannot be seen, and counts as found.
        """
        layout, side = self._layout, len(self._fine)
        box, part = layout.boxes[index], layout.part(index) > 0
        margin = _SEARCH_MARGIN * max(box.x_max - box.x_min, box.y_max - box.y_min)
        inside, near = (_enlarge(box_mask([box], reach) & part, side) for reach in (0.0, margin))
        if not inside.any():
            return None
        least = _LEAST_STRENGTH * np.quantile(self._fine[inside], _STANDS_OUT)
        found = _without_specks(self._outlines & near & (self._fine >= least))
        if not found.any():
            return None
        return found | _enlarge(layout.hidden(index), side)


def box_iou(first: Box, second: Box) -> float:
    """Intersection over union of two boxes."""
    width = min(first.x_max, second.x_max) - max(first.x_min, second.x_min)
    height = min(first.y_max, second.y_max) - max(first.y_min, second.y_min)
    common = max(0.0, width) * max(0.0, height)
    areas = [(box.x_max - box.x_min) * (box.y_max - box.y_min) for box in (first, second)]
    return common / (sum(areas) - common)


def _fine_difference(view: View, backdrop: Backdrop) -> _Levels:
    """How much a picture differs from its background, at the picture's own scale."""
    side = len(view.colours)
    pixels = side / _FINE_SIDE
    colours = cv2.GaussianBlur(view.colours, (0, 0), _FINE_BLUR * pixels)
    return _beyond(colours, backdrop.enlarged(side), round(_FINE_SHIFT * pixels))


def _outlines(difference: _Levels, tolerance: float) -> Bool[np.ndarray, "side side"]:
    """True where a difference counts, up to the middle of blurred edges."""
    strongest = cv2.dilate(difference, _neighbourhood(round(_EDGE_REACH * len(difference) / _FINE_SIDE)))
    return (difference > tolerance) & (difference >= _EDGE_SHARE * strongest)


def _beyond(colours: Opponent, canvas: Opponent, shift: int) -> _Levels:
    """How far each colour is from all that the canvas has within ``shift`` pixels, in levels."""
    low, high = (change(canvas, _neighbourhood(shift)) for change in (cv2.erode, cv2.dilate))
    return np.linalg.norm(np.maximum(np.maximum(colours - high, low - colours), 0), axis=-1)


def _neighbourhood(reach: int) -> np.ndarray:
    return np.ones((2 * reach + 1,) * 2, np.uint8)


def _enlarge(mask: Mask, side: int) -> Bool[np.ndarray, "height width"]:
    return cv2.resize(mask.astype(np.uint8), (side, side), interpolation=cv2.INTER_NEAREST) > 0


def _shrink(mask: Bool[np.ndarray, "height width"]) -> Mask:
    return cv2.resize(mask.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA) >= 0.5


def _without_specks(mask: Bool[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"]:
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    # Label 0 is everything else.
    areas = statistics[:, cv2.CC_STAT_AREA]
    areas[0] = 0
    return (areas >= _LEAST_PIECE * areas.max())[labels] & mask
