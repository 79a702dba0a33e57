"""Whether a detection's mask holds the colours that the same entity has in the clip's other frames."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from ms_lab.data.geometry import clamped_box
from ms_lab.data.items import Clip, Detection, Frame, Mask, Place

# Around a box, in its sides: where the entity may reach, and what no other subject's colours are taken from.
_REACH, _RIM = 0.5, 0.05
_BINS = (6, 12, 12)
_LEAST_BACKGROUND, _LEAST_SHARE = 200, 1e-5

_Lab = UInt8[np.ndarray, "height width 3"]
_Histogram = Float[np.ndarray, "lightness a b"]


def colour_fit(clip: Clip, place: Place, others: Sequence[Place]) -> float:
    """Soft IoU of a mask with the pixels in and around its box that have the entity's colours.

    These are the colours in the masks of the other frames, against those of this frame outside all boxes; a pixel counts as much
    as it is likelier to be the entity's. 0 where there is nothing to compare with.
    """
    frame, detection = clip.at(place)
    outside = np.ones((frame.height, frame.width), bool)
    for other in frame.detections:
        outside[_around(frame, other, _REACH if other is detection else _RIM)] = False
    if not others or outside.sum() <= _LEAST_BACKGROUND:
        return 0.0
    lab = _lab(frame)
    own = np.mean([_colours(*clip.at(other)) for other in others], 0) + _LEAST_SHARE
    likely: np.ndarray = own / (own + _histogram(lab, outside) + _LEAST_SHARE)
    where = _around(frame, detection, _REACH)
    shares: np.ndarray = np.asarray(cv2.blur(likely[_bins(lab[where])].astype(np.float32), (3, 3)))
    mask = frame.mask_of(detection)[where]
    return float(shares[mask].sum() / (mask.sum() + shares[~mask].sum()))


def _around(frame: Frame, detection: Detection, margin: float) -> tuple[slice, slice]:
    """Rows and columns of a box and of what is around it."""
    box = detection.box
    x, y = margin * (box.x_max - box.x_min), margin * (box.y_max - box.y_min)
    around = clamped_box(box.x_min - x, box.y_min - y, box.x_max + x, box.y_max + y)
    x_min, y_min, x_max, y_max = frame.pixel_box(around if around is not None else box)
    return slice(y_min, y_max), slice(x_min, x_max)


def _lab(frame: Frame) -> _Lab:
    return np.asarray(cv2.cvtColor(frame.pixels, cv2.COLOR_RGB2Lab))


def _colours(frame: Frame, detection: Detection) -> _Histogram:
    """Of a detection without its rim, which mixes with the background."""
    mask = frame.mask_of(detection)
    core = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    return _histogram(_lab(frame), core if core.any() else mask)


def _histogram(lab: _Lab, where: Mask) -> _Histogram:
    """Shares of the colours; neighbouring lightnesses count a little, for light changes."""
    size = _BINS[0], _BINS[1] * _BINS[2]
    counts = cv2.calcHist([lab], [0, 1, 2], where.astype(np.uint8), list(_BINS), [0, 256, 0, 256, 0, 256])
    smooth = cv2.GaussianBlur(counts.reshape(size), (1, 3), 0)
    return np.asarray(smooth).reshape(_BINS) / max(float(smooth.sum()), 1.0)


def _bins(lab: _Lab) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each pixel's place in a histogram."""
    lightness, a, b = (lab[..., axis].astype(np.int64) * count // 256 for axis, count in enumerate(_BINS))
    return lightness, a, b
