"""The true composite made coarse: what a model would give that placed so many patches of colour rightly, and no form."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Int
from PIL import Image

from ms_core.spec import Box
from ms_lab.data.records import TrainingSample
from ms_lab.data.run_lengths import from_run_lengths
from ms_lab.mini.painting import box_around

# Of a canvas of this side, in pixels; where the picture is larger, the blur is as well.
_SIDE = 128


def mosaic(sample: TrainingSample, num_subjects: int, cells: int) -> Image.Image:
    """A composite with its mean colours in so many cells a side of each drawn subject's silhouette's box.

    Args:
        sample: the composite.
        num_subjects: how many of its subjects are drawn.
        cells: a side; where a box has fewer pixels, each pixel is a cell.
    """
    own = np.asarray(sample.image, np.float32)
    shown = own.copy()
    for rows, columns in _places(sample, num_subjects):
        down, across = _edges(rows, cells), _edges(columns, cells)
        sums = np.add.reduceat(np.add.reduceat(own[rows, columns], down[:-1], 0), across[:-1], 1)
        heights, widths = np.diff(down), np.diff(across)
        means = sums / (heights[:, None] * widths)[..., None]
        shown[rows, columns] = np.repeat(np.repeat(means, heights, 0), widths, 1)
    return Image.fromarray(shown.round().astype(np.uint8))


def blurred(sample: TrainingSample, num_subjects: int, pixels: float) -> Image.Image:
    """A composite blurred within each drawn subject's silhouette's box.

    Args:
        sample: the composite.
        num_subjects: how many of its subjects are drawn.
        pixels: the standard deviation, of a canvas of 128.
    """
    own = np.asarray(sample.image)
    soft = cv2.GaussianBlur(own, (0, 0), pixels * max(own.shape[:2]) / _SIDE, borderType=cv2.BORDER_REPLICATE)
    shown = own.copy()
    for place in _places(sample, num_subjects):
        shown[place] = soft[place]
    return Image.fromarray(shown)


def silhouette_boxes(sample: TrainingSample, num_subjects: int) -> list[Box]:
    """Boxes around the whole silhouettes of a composite's drawn subjects, normalised."""
    shape = sample.height, sample.width
    return [box_around(from_run_lengths(subject.mask or (), *shape)) for subject in sample.subjects[:num_subjects]]


def _places(sample: TrainingSample, num_subjects: int) -> list[tuple[slice, slice]]:
    """Rows and columns of each silhouette's box."""
    boxes = [box.as_tuple() for box in silhouette_boxes(sample, num_subjects)]
    return [
        (
            slice(round(y_min * sample.height), round(y_max * sample.height)),
            slice(round(x_min * sample.width), round(x_max * sample.width)),
        )
        for x_min, y_min, x_max, y_max in boxes
    ]


def _edges(pixels: slice, cells: int) -> Int[np.ndarray, " edges"]:
    """Where each cell begins and the last one ends, from the box's first pixel."""
    length = pixels.stop - pixels.start
    count = min(cells, length)
    return np.asarray([round(edge * length / count) for edge in range(count + 1)])
