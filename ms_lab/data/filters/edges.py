"""How strong a detection's edges are, and beside those around it: through a blurred thing the sharp background can be seen."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from ms_lab.data.geometry import clamped_box
from ms_lab.data.items import Detection, Frame, Mask, Pixels

_MARGIN, _SIDE = 0.3, 154
# In pixels at that side: what a mask lacks is closed, the outline is this wide, and what lies around begins this far away.
_CLOSED, _OUTLINE, _AWAY = 7, 5, 9
_LEAST_PIXELS = 10
# What noise alone has, of the Laplacian and of the gradient.
_LEAST_LAPLACIAN, _LEAST_GRADIENT = 4.0, 2.0


class EdgeRatios(NamedTuple):
    """A detection's strongest edges by those around it; 1 where both are as strong.

    Attributes:
        inside: of the Laplacian within the mask.
        outline: of the gradient on its outline.
    """

    inside: float
    outline: float


def edge_ratios(frame: Frame, detection: Detection) -> EdgeRatios | None:
    """The ratios of the 95th percentiles, at no more than 154 pixels; ``None`` where next to nothing lies around."""
    pixels, whole = _surroundings(frame, detection)
    outline = (cv2.dilate(whole, _square(_OUTLINE)) > 0) & ~(cv2.erode(whole, _square(_OUTLINE)) > 0)
    away = ~(cv2.dilate(whole, _square(_AWAY)) > 0)
    if away.sum() < _LEAST_PIXELS or not whole.any():
        return None
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
    laplacian, gradient = np.abs(cv2.Laplacian(grey, cv2.CV_32F)), _gradient(grey)
    return EdgeRatios(
        _strongest(laplacian, whole > 0) / (_strongest(laplacian, away) + _LEAST_LAPLACIAN),
        _strongest(gradient, outline) / (_strongest(gradient, away) + _LEAST_GRADIENT),
    )


def edge_strength(frame: Frame, detection: Detection) -> float:
    """The 95th percentile within the mask of the gradient of the colour that changes most, in levels of 255 a pixel."""
    pixels, whole = _surroundings(frame, detection)
    if not whole.any():
        return 0.0
    return _strongest(_gradient(pixels.astype(np.float32)).max(2), whole > 0)


def _surroundings(frame: Frame, detection: Detection) -> tuple[Pixels, np.ndarray]:
    """The pixels in and around a box, at no more than 154, and the mask there without what it lacks."""
    box = detection.box
    x, y = _MARGIN * (box.x_max - box.x_min), _MARGIN * (box.y_max - box.y_min)
    around = clamped_box(box.x_min - x, box.y_min - y, box.x_max + x, box.y_max + y)
    x_min, y_min, x_max, y_max = frame.pixel_box(around if around is not None else box)
    pixels = frame.pixels[y_min:y_max, x_min:x_max]
    mask = frame.mask_of(detection)[y_min:y_max, x_min:x_max].astype(np.uint8)
    scale = _SIDE / max(mask.shape)
    if scale < 1:
        size = max(3, round(mask.shape[1] * scale)), max(3, round(mask.shape[0] * scale))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        mask = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
    return np.asarray(pixels), np.asarray(cv2.morphologyEx(mask, cv2.MORPH_CLOSE, _square(_CLOSED)))


def _gradient(values: np.ndarray) -> np.ndarray:
    """Its magnitude for each pixel and channel."""
    return np.hypot(cv2.Sobel(values, cv2.CV_32F, 1, 0), cv2.Sobel(values, cv2.CV_32F, 0, 1)) / 8


def _square(side: int) -> np.ndarray:
    return np.ones((side, side), np.uint8)


def _strongest(edges: np.ndarray, where: Mask) -> float:
    return float(np.percentile(edges[where], 95))
