"""Whether a box goes with the same entity's boxes in the clip's other frames."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from ms_lab.data.geometry import box_iou, clamped_box
from ms_lab.data.items import Clip, Place

_ONE_MOMENT_S = 1e-6


def partners(clip: Clip, floor: float) -> dict[Place, list[Place]]:
    """For each detection the same entity in other frames, by the pairs that are similar enough."""
    found: dict[Place, list[Place]] = {}
    for pair in clip.pairs:
        if pair.similarity >= floor:
            found.setdefault(pair.one, []).append(pair.other)
            found.setdefault(pair.other, []).append(pair.one)
    return found


def track_fit(clip: Clip, place: Place, others: Sequence[Place]) -> float:
    """IoU of a box with the one to which the others lead; 0 with fewer than two others, which lead nowhere.

    Each two of the others lead to a box, on straight lines; of each edge the median counts, so that one wrong box among them
    does no harm. Lines count the more the nearer their ends are in time: a way that curves leaves its chord by the product of
    the two distances.
    """
    frame, detection = clip.at(place)
    known = [(clip.at(other)[0].time_s, np.asarray(clip.at(other)[1].box.as_tuple())) for other in others]
    led: list[np.ndarray] = []
    weights: list[float] = []
    for (start, one), (end, two) in itertools.combinations(known, 2):
        since, left = frame.time_s - start, end - frame.time_s
        if abs(end - start) > _ONE_MOMENT_S:
            led.append(one + (two - one) * since / (end - start))
            weights.append(1 / max(abs(since * left), _ONE_MOMENT_S))
    if not led:
        return 0.0
    expected = clamped_box(*(_median(edge, np.asarray(weights)) for edge in np.asarray(led).T))
    return 0.0 if expected is None else box_iou(detection.box, expected)


def _median(values: np.ndarray, weights: np.ndarray) -> float:
    """The value below which half of the weights lie."""
    order = np.argsort(values)
    summed = np.cumsum(weights[order])
    return float(values[order[np.searchsorted(summed, summed[-1] / 2)]])
