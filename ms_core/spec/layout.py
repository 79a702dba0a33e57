"""Where subjects stand: boxes, and the auto layout that finds their places."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from ms_core.errors import LayoutError
from ms_core.spec.limits import MAX_STEPS, check_range


@dataclass(frozen=True, slots=True)
class Box:
    """Where a subject stands: normalised xyxy in [0, 1], origin top left.

    Raises:
        LayoutError: a coordinate is not finite or outside [0, 1], or the box is reversed or has no area.
    """

    x_min: float
    y_min: float
    x_max: float
    y_max: float

    def __post_init__(self) -> None:
        values = self.as_tuple()
        if not all(math.isfinite(value) and 0.0 <= value <= 1.0 for value in values):
            raise LayoutError(
                f"A box is [x_min, y_min, x_max, y_max] with every number from 0 to 1, not {list(values)}. "
                'Give pixels as {"pixels": [...]}.'
            )
        if self.x_min >= self.x_max or self.y_min >= self.y_max:
            raise LayoutError(
                f"The box {list(values)} has no area: x_min must be below x_max and y_min below y_max. "
                "For a subject without a place of its own, use the auto layout."
            )

    @classmethod
    def from_xywh(cls, x: float, y: float, width: float, height: float) -> Self:
        """Box from its normalised top-left corner and its normalised size."""
        # A sum such as 0.7 + 0.3 may pass 1 by rounding alone.
        x_max, y_max = (1.0 if 1.0 < value < 1.0 + 1e-9 else value for value in (x + width, y + height))
        return cls(x, y, x_max, y_max)

    @classmethod
    def from_pixels(cls, pixel_box: Sequence[float], height: int, width: int) -> Self:
        """Box from xyxy pixels of a picture of ``height`` x ``width`` pixels."""
        x_min, y_min, x_max, y_max = pixel_box
        if max(x_min, x_max) > width or max(y_min, y_max) > height:
            raise LayoutError(
                f"The pixel box {list(pixel_box)} reaches outside the picture of {width} x {height} pixels."
            )
        return cls(x_min / width, y_min / height, x_max / width, y_max / height)

    def as_tuple(self) -> tuple[float, float, float, float]:
        """The four numbers, normalised xyxy."""
        return (self.x_min, self.y_min, self.x_max, self.y_max)


@dataclass(frozen=True, slots=True)
class AutoLayout:
    """Masks found from the prompt's own attention (the official ``mask_threshold`` and ``start_step``).

    Attributes:
        threshold: a place belongs to a subject where its scaled attention map is above this, in [0, 1].
        start_step: the found masks act from the ``start_step``-th call of the UNet on (1-based).
    """

    threshold: float = 0.5
    start_step: int = 5

    def __post_init__(self) -> None:
        check_range(self.threshold, 0.0, 1.0, "/threshold")
        check_range(self.start_step, 1, MAX_STEPS, "/start_step")
