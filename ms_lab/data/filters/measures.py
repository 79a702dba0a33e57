"""What the filters measure of one detection in its frame, as pure functions of the pixels."""

from __future__ import annotations

import cv2
import numpy as np

from ms_core.spec import Box
from ms_lab.data.geometry import area, box_iou, clamped_box, intersection, mask_box
from ms_lab.data.items import Detection, Frame, Mask, Pixels

_SHARPNESS_SIDE = 96
# Of greys; what noise alone has.
_LEAST_SPREAD = 4.0
# An edge this near to the picture's, as a share of its side, lies on it.
_NEAR_BORDER = 0.012
_FIT_SIDE, _FIT_MARGIN, _FIT_ROUNDS, _FIT_TAIL = 64, 0.5, 2, 0.02


def sharpness(crop: Pixels, mask: Mask) -> float:
    """How sharp the sharpest edges within a mask are for its contrast, at no more than 96 pixels.

    The 95th percentile of the Laplacian's magnitude by the spread of the greys: blurring lowers it, few colours do not.
    """
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    scale = _SHARPNESS_SIDE / max(grey.shape)
    if scale < 1:
        size = max(3, round(grey.shape[1] * scale)), max(3, round(grey.shape[0] * scale))
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        mask = np.asarray(cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)) > 0
    inside = mask if mask.any() else np.ones(grey.shape, bool)
    edges = np.abs(cv2.Laplacian(grey, cv2.CV_64F))[inside]
    return float(np.percentile(edges, 95) / (grey[inside].std() + _LEAST_SPREAD))


def covered_share(box: Box, others: list[Box]) -> float:
    """The largest share of a box that one of the others covers."""
    return max((intersection(box, other) / area(box) for other in others), default=0.0)


def border_share(frame: Frame, detection: Detection) -> float:
    """Share of a detection's outline that lies on the picture's border."""
    mask = frame.mask_of(detection)
    around = mask_box(mask)
    if around is None:
        return 0.0
    depth_y, depth_x = (max(1, round(_NEAR_BORDER * side)) for side in mask.shape)
    bands = (
        mask[:depth_y].any(0),
        mask[-depth_y:].any(0),
        mask[:, :depth_x].any(1),
        mask[:, -depth_x:].any(1),
    )
    outline = 2 * ((around.x_max - around.x_min) * mask.shape[1] + (around.y_max - around.y_min) * mask.shape[0])
    return float(sum(int(band.sum()) for band in bands)) / outline


def box_fit(frame: Frame, detection: Detection) -> float:
    """IoU of where a detection's mask lies and of what the colours in and around its box make of it.

    Both are taken without the outermost 2 % of their pixels on each side. GrabCut decides by colours, with the mask for a
    first guess.
    """
    box = detection.box
    width, height = box.x_max - box.x_min, box.y_max - box.y_min
    around = clamped_box(
        box.x_min - _FIT_MARGIN * width,
        box.y_min - _FIT_MARGIN * height,
        box.x_max + _FIT_MARGIN * width,
        box.y_max + _FIT_MARGIN * height,
    )
    if around is None:
        return 0.0
    x_min, y_min, x_max, y_max = frame.pixel_box(around)
    scale = _FIT_SIDE / max(x_max - x_min, y_max - y_min)
    size = max(8, round((x_max - x_min) * scale)), max(8, round((y_max - y_min) * scale))
    pixels = cv2.resize(frame.crop(around), size, interpolation=cv2.INTER_AREA)
    mask = frame.mask_of(detection)[y_min:y_max, x_min:x_max].astype(np.uint8)
    guess = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST) > 0
    found = _by_colours(pixels, guess)
    if not found.any() or not guess.any():
        return 0.0
    return box_iou(_extent(guess), _extent(found))


def _by_colours(pixels: Pixels, guess: Mask) -> Mask:
    """What GrabCut makes of a guess."""
    if not guess.any() or guess.all():
        return guess
    kinds = np.full(guess.shape, cv2.GC_PR_BGD, np.uint8)
    kinds[guess] = cv2.GC_PR_FGD
    # Its colour models start from random centres.
    cv2.setRNGSeed(0)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(np.ascontiguousarray(pixels), kinds, None, *models, _FIT_ROUNDS, cv2.GC_INIT_WITH_MASK)  # pyright: ignore[reportCallIssue, reportArgumentType] - its stubs know no default rectangle
    return (kinds == cv2.GC_FGD) | (kinds == cv2.GC_PR_FGD)


def _extent(mask: Mask) -> Box:
    """The box of all but the outermost pixels of a mask."""
    (left, right), (top, bottom) = (_span(mask.sum(axis)) for axis in (0, 1))
    height, width = mask.shape
    return Box(left / width, top / height, right / width, bottom / height)


def _span(counts: np.ndarray) -> tuple[int, int]:
    summed = np.cumsum(counts) / counts.sum()
    return int(np.searchsorted(summed, _FIT_TAIL)), int(np.searchsorted(summed, 1 - _FIT_TAIL)) + 1
