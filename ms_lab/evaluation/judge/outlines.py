"""How alike two silhouettes are, wherever they stand and however large they are."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float

# Sizes in which the true silhouette is tried.
_SCALES = (0.8, 0.87, 0.93, 1.0, 1.07, 1.15, 1.25)

_Mask = Bool[np.ndarray, "side side"]


def outline_iou(found: _Mask, true: _Mask) -> float:
    """Intersection over union of a found silhouette and the true one, after the best shift and scale; 0 if one is empty.

    Holes, and gaps of a pixel, do not count: what has the background's colour is not found.
    """
    if not found.any() or not true.any():
        return 0.0
    found, true, side = _filled(found), _filled(true), len(true)
    spectrum = np.fft.rfft2(found.astype(np.float32), (2 * side, 2 * side))
    return max(_best_shift(spectrum, float(found.sum()), _scaled(true, scale)) for scale in _SCALES)


def _filled(silhouette: _Mask) -> _Mask:
    closed = cv2.morphologyEx(silhouette.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    outlines, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(np.zeros_like(closed), outlines, -1, 1, cv2.FILLED) > 0


def _best_shift(spectrum: np.ndarray, area: float, silhouette: _Mask) -> float:
    shape = 2 * len(silhouette), 2 * len(silhouette)
    own = np.fft.rfft2(silhouette.astype(np.float32), shape)
    overlaps: Float[np.ndarray, "height width"] = np.fft.irfft2(spectrum * own.conj(), shape)
    common = round(float(overlaps.max()))
    return common / (area + float(silhouette.sum()) - common)


def _scaled(silhouette: _Mask, scale: float) -> _Mask:
    """A silhouette larger or smaller, its middle in the middle of the canvas."""
    if scale == 1:
        return silhouette
    rows, columns = np.nonzero(silhouette)
    middle = np.asarray([(columns.min() + columns.max()) / 2, (rows.min() + rows.max()) / 2])
    offset = (len(silhouette) - 1) / 2 - scale * middle
    matrix: Float[np.ndarray, "2 3"] = np.asarray([[scale, 0, offset[0]], [0, scale, offset[1]]], np.float64)
    moved = cv2.warpAffine(silhouette.astype(np.float32), matrix, silhouette.shape[::-1], flags=cv2.INTER_LINEAR)
    return moved >= 0.5
