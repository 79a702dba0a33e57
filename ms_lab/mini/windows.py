"""Square parts of pictures in which their subjects are large: a subject that covers two latent cells teaches no form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ms_core.spec import Box
from ms_lab.data.records import TrainingSample

# What the largest subject takes up of a window, if the others leave room; and what is left around all of them.
_SHARES, _MARGIN = (0.35, 0.8), 1.04

Window = tuple[int, int, int]


def draw_window(rng: np.random.Generator, width: int, height: int, boxes: Sequence[Box], least: int) -> Window | None:
    """Left, top and side, in pixels, of a random square that holds all boxes.

    Args:
        rng: draws size and place.
        width, height: of the picture, in pixels.
        boxes: normalised xyxy.
        least: side below which the window would be enlarged, in pixels.

    Returns:
        ``None`` if no square within the picture holds all boxes.
    """
    corners = np.asarray([box.as_tuple() for box in boxes]) * (width, height, width, height)
    low, high = corners[:, :2].min(0), corners[:, 2:].max(0)
    reach, largest = float((high - low).max()), float((corners[:, 2:] - corners[:, :2]).max())
    side = int(np.ceil(max(reach * _MARGIN, largest / rng.uniform(*_SHARES), least)))
    side = min(side, width, height)
    if reach > side:
        return None
    left, top = (
        int(rng.integers(max(0, int(np.ceil(end)) - side), min(int(start), room - side) + 1))
        for start, end, room in zip(low, high, (width, height), strict=True)
    )
    return left, top, side


def cut_to_window(sample: TrainingSample, window: Window) -> TrainingSample:
    """The sample as its window shows it; masks, which nobody needs then, are left out."""
    left, top, side = window
    scale = np.asarray((sample.width, sample.height) * 2)
    subjects = [
        replace(
            subject,
            box=Box(*np.clip((np.asarray(subject.box.as_tuple()) * scale - (left, top) * 2) / side, 0, 1).tolist()),
            mask=None,
        )
        for subject in sample.subjects
    ]
    image = sample.image.crop((left, top, left + side, top + side))
    return replace(sample, image=image, width=side, height=side, subjects=tuple(subjects))
