"""Arithmetic of boxes and masks."""

from __future__ import annotations

import numpy as np

from ms_core.spec import Box
from ms_lab.data.items import Mask


def area(box: Box) -> float:
    """As a share of the picture."""
    return (box.x_max - box.x_min) * (box.y_max - box.y_min)


def intersection(one: Box, other: Box) -> float:
    """Common area of two boxes, as a share of the picture."""
    width = min(one.x_max, other.x_max) - max(one.x_min, other.x_min)
    height = min(one.y_max, other.y_max) - max(one.y_min, other.y_min)
    return max(0.0, width) * max(0.0, height)


def box_iou(one: Box, other: Box) -> float:
    """Common area of two boxes by the area that they cover together."""
    common = intersection(one, other)
    return common / (area(one) + area(other) - common)


def mask_box(mask: Mask) -> Box | None:
    """The box around a mask; ``None`` if it is empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    height, width = mask.shape
    return Box(
        float(columns[0]) / width,
        float(rows[0]) / height,
        float(columns[-1] + 1) / width,
        float(rows[-1] + 1) / height,
    )


def clamped_box(x_min: float, y_min: float, x_max: float, y_max: float) -> Box | None:
    """The part of a normalised box that lies within the picture; ``None`` if none does."""
    x_min, y_min, x_max, y_max = (min(max(float(v), 0.0), 1.0) for v in (x_min, y_min, x_max, y_max))
    if not (x_min < x_max and y_min < y_max):
        return None
    return Box(x_min, y_min, x_max, y_max)
