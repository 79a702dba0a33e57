"""Boxes of other editors, as the service takes them: x_min, y_min, x_max, y_max from 0 to 1, from the top left corner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# Ideogram's whole picture.
IDEOGRAM_SIDE = 1000

Box = tuple[float, float, float, float]


def from_comfyui(box: Mapping[str, Any], width: int, height: int) -> Box:
    """Convert ``{x, y, width, height}`` in pixels of a picture of that size; what lies outside is cut off.

    Raises:
        ValueError: nothing of it lies in the picture.
    """
    x, y = float(box["x"]), float(box["y"])
    return _inside(x / width, y / height, (x + box["width"]) / width, (y + box["height"]) / height)


def from_ideogram(box: Sequence[float]) -> Box:
    """Convert ``[y_min, x_min, y_max, x_max]`` from 0 to 1000.

    Raises:
        ValueError: nothing of it lies in the picture.
    """
    y_min, x_min, y_max, x_max = (edge / IDEOGRAM_SIDE for edge in box)
    return _inside(x_min, y_min, x_max, y_max)


def _inside(*edges: float) -> Box:
    x_min, y_min, x_max, y_max = (min(1.0, max(0.0, edge)) for edge in edges)
    if x_min >= x_max or y_min >= y_max:
        raise ValueError(f"The box {tuple(round(edge, 3) for edge in edges)} has no area within the picture.")
    return x_min, y_min, x_max, y_max
