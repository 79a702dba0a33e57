"""Where the subject of a picture is, by its colours: OpenCV's GrabCut, begun with a guess of our own.

GrabCut (Rother, Kolmogorov and Blake, 2004) wants to be told what is certainly surroundings. A person draws a rectangle;
here it is the picture's frame, except where the subject seems to reach over it.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float, Shaped, UInt8
from PIL import Image

MAX_SIDE = 320
MIN_SIDE = 16
NUM_COLOURS = 12
ITERATIONS = 5

# Parts of the shorter side.
FRAME = 0.03
FRAME_WINDOW = 1 / 16

# From 0 (subject) to 1 (surroundings), by how often a colour is met in the frame and in the middle.
CERTAIN_IN_FRAME = 0.2
LIKELY_INSIDE = 0.85
MIN_CERTAIN_SHARE = 0.2

# Parts of the picture that a subject fills.
SMALLEST = 0.005
LARGEST = 0.95

SMALLEST_PIECE = 0.1  # of the largest piece
MIN_EDGE_CONTRAST = 1.5  # along the outline, in the mean of all else
SOFTNESS = 1.0  # standard deviation in pixels of the reduced copy


def find_subject(picture: Image.Image) -> Image.Image | None:
    """A soft mask of the subject, or ``None`` if nothing stands out; the same at each call.

    It is found on a copy of at most 320 pixels a side. What the subject encloses is part of it. Pieces are part of it if
    they are not small beside the largest and do not reach over the border.

    Args:
        picture: RGB.

    Returns:
        mode ``L``, of the picture's size.
    """
    reduced = picture.copy()
    reduced.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.BOX)
    if min(reduced.size) < MIN_SIDE:
        return None
    pixels = np.array(reduced)
    colours = reduced.quantize(NUM_COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    cut = _cut(pixels, _first_guess(np.array(colours)))
    if cut is None:
        return None
    silhouette = _silhouette(cut)
    if not SMALLEST <= silhouette.mean() <= LARGEST or _edge_contrast(pixels, silhouette) < MIN_EDGE_CONTRAST:
        return None
    soft = cv2.GaussianBlur(silhouette.astype(np.uint8) * 255, (0, 0), SOFTNESS)
    return Image.fromarray(soft).resize(picture.size, Image.Resampling.BILINEAR)


def _first_guess(colours: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """GrabCut's labels from each pixel's colour number: certain surroundings in the frame, guesses everywhere else."""
    height, width = colours.shape
    margin = max(2, round(FRAME * min(height, width)))
    frame = np.ones((height, width), dtype=np.bool_)
    frame[margin:-margin, margin:-margin] = False
    sides = (colours[:margin], colours[-margin:], colours[:, :margin], colours[:, -margin:])
    # A colour of one side alone may be that of a subject which reaches over the border there.
    around = np.sort([_shares(side) for side in sides], axis=0)[:-1].mean(axis=0)
    middle = _shares(colours[height // 4 : height - height // 4, width // 4 : width - width // 4])
    little = 1e-3
    surroundings = ((around + little) / (around + middle + 2 * little))[colours]
    certain = frame & (_mean_within(frame, surroundings) > CERTAIN_IN_FRAME)
    if certain.sum() < MIN_CERTAIN_SHARE * frame.sum():
        certain = frame
    labels = np.where(surroundings > LIKELY_INSIDE, cv2.GC_PR_BGD, cv2.GC_PR_FGD)
    labels[frame] = cv2.GC_PR_FGD
    labels[certain] = cv2.GC_BGD
    return labels.astype(np.uint8)


def _shares(colours: UInt8[np.ndarray, "_ _"]) -> Float[np.ndarray, " numbers"]:
    return np.bincount(colours.ravel(), minlength=NUM_COLOURS) / colours.size


def _mean_within(frame: Bool[np.ndarray, "h w"], values: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Each pixel's mean of the values in the frame near it."""
    side = max(3, round(FRAME_WINDOW * min(frame.shape)))
    weights = frame.astype(np.float64)
    sums, counts = (
        cv2.blur(array, (side, side), borderType=cv2.BORDER_CONSTANT) for array in (values * weights, weights)
    )
    return sums / np.maximum(counts, 1e-6)


def _cut(pixels: UInt8[np.ndarray, "h w 3"], labels: UInt8[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"] | None:
    """GrabCut's subject; ``None`` if it finds only one kind of pixels."""
    # Its clusters begin at random places.
    cv2.setRNGSeed(0)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    try:
        labels, *_ = cv2.grabCut(pixels, labels, (0, 0, 0, 0), *models, ITERATIONS, cv2.GC_INIT_WITH_MASK)
    except cv2.error:
        return None
    return (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)


def _silhouette(cut: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """The pieces that count, without holes."""
    outlines, _ = cv2.findContours(cut.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    areas = [cv2.contourArea(outline) for outline in outlines]
    largest = max(areas, default=0.0)
    pieces = [
        outline
        for outline, area in zip(outlines, areas, strict=True)
        if area == largest or (area >= SMALLEST_PIECE * largest and not _reaches_over_border(outline, cut.shape))
    ]
    filled = np.zeros(cut.shape, dtype=np.uint8)
    cv2.drawContours(filled, pieces, -1, 1, thickness=cv2.FILLED)
    return filled.astype(np.bool_)


def _reaches_over_border(outline: Shaped[np.ndarray, "points 1 2"], shape: tuple[int, ...]) -> bool:
    left, top, width, height = cv2.boundingRect(outline)
    return left == 0 or top == 0 or left + width == shape[1] or top + height == shape[0]


def _edge_contrast(pixels: UInt8[np.ndarray, "h w 3"], silhouette: Bool[np.ndarray, "h w"]) -> float:
    """Mean change of colour along the outline, in that of all other pixels; near 1 if the outline follows nothing."""
    lab = cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    smooth = cv2.GaussianBlur(lab, (0, 0), 2.0)
    change = np.hypot(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)).mean(axis=2)
    filled, kernel = silhouette.astype(np.uint8), np.ones((3, 3), np.uint8)
    outline = cv2.dilate(filled, kernel) != cv2.erode(filled, kernel)
    if not outline.any():
        return 0.0
    return float(change[outline].mean() / max(float(change[~outline].mean()), 1e-6))
