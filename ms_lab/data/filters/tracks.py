"""Whether a box goes with the same entity's boxes in the clip's other frames."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from ms_lab.data.items import Clip, Place

UNTRACKED = math.inf
# A tripled area weighs as much as a shift by a third of the box.
_AREA_WEIGHT = 1 / 3


def partners(clip: Clip, floor: float) -> dict[Place, list[Place]]:
    """For each detection the same entity in other frames, by the pairs that are similar enough."""
    found: dict[Place, list[Place]] = {}
    for pair in clip.pairs:
        if pair.similarity >= floor:
            found.setdefault(pair.one, []).append(pair.other)
            found.setdefault(pair.other, []).append(pair.one)
    return found


def deviation(clip: Clip, place: Place, others: Sequence[Place]) -> float:
    """How far a box is from where the others lead: in box sides, and for the area in thirds of its logarithm.

    Each two of the others lead somewhere, on a straight line; the median of all counts, so that one wrong box among them
    does no harm. With fewer than two others nothing can be said: ``UNTRACKED``.
    """
    frame, detection = clip.at(place)
    states = [(clip.frames[other.frame].time_s, _state(clip, other)) for other in others]
    led = [
        one + (two - one) * (frame.time_s - start) / (end - start)
        for (start, one), (end, two) in itertools.combinations(states, 2)
        if abs(end - start) > 1e-6
    ]
    if not led:
        return UNTRACKED
    off = np.abs(np.median(led, 0) - _state(clip, place))
    width, height = detection.box.x_max - detection.box.x_min, detection.box.y_max - detection.box.y_min
    return float(max(off[0] / width, off[1] / height, off[2] * _AREA_WEIGHT))


def _state(clip: Clip, place: Place) -> np.ndarray:
    """Middle and logarithm of the area."""
    frame, detection = clip.at(place)
    box = detection.box
    # Every second run is inside.
    runs = detection.mask if detection.mask is not None else (0, 1)
    share = sum(runs[1::2]) / (frame.height * frame.width)
    return np.asarray([(box.x_min + box.x_max) / 2, (box.y_min + box.y_max) / 2, math.log(share + 1e-6)])
