"""A picture as the judge sees it: on a square canvas, small, in opponent colours.

Backgrounds are painted on squares, and an oblong picture is the centre cut of one. So every picture is laid in the
middle of a square of its longer side; what lies beyond it is unseen and never counts. Boxes and silhouettes follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float
from PIL import Image

from ms_core.spec import Box

SIDE = 64
# Half a cell of the 16 x 16 latent grid: a model cannot place anything finer.
BOX_TOLERANCE = 1 / 32
# Luma, then blue-yellow and red-cyan: linear, so that blur and colour may be taken in any order.
OPPONENT = np.asarray([[0.299, 0.587, 0.114], [-0.25, -0.25, 0.5], [0.5, -0.4, -0.1]], np.float32)
_BLUR, _BLUR_KERNEL = 1.5, 9

Opponent = Float[np.ndarray, "side side 3"]


@dataclass(frozen=True, slots=True)
class View:
    """A picture on its square canvas.

    Attributes:
        colours: opponent colours at the picture's own scale; beyond an oblong picture its edge goes on.
        smooth: the same at the judge's size, low-passed.
        seen: False at the judge's size where the picture does not reach.
    """

    colours: Opponent
    smooth: Opponent
    seen: Bool[np.ndarray, "side side"]

    @classmethod
    def of(cls, picture: Image.Image) -> View:
        """The view of an RGB picture of any size and shape."""
        pixels = np.asarray(picture.convert("RGB"))
        margins = _margins(*pixels.shape[:2])
        square = np.pad(pixels, (*margins, (0, 0)), mode="edge")
        small = Image.fromarray(square).resize((SIDE, SIDE), Image.Resampling.BOX)
        return cls(
            colours=rgb_to_opponent(square.astype(np.float32)),
            smooth=low_pass(rgb_to_opponent(np.asarray(small, np.float32))),
            seen=square_mask(np.ones(pixels.shape[:2], bool)),
        )


def square_box(box: Box, height: int, width: int) -> Box:
    """A box of a picture of this height and width, normalised to the picture's square canvas."""
    side = max(height, width)
    (top, _), (left, _) = _margins(height, width)
    x_min, y_min, x_max, y_max = box.as_tuple()
    return Box(
        (left + x_min * width) / side,
        (top + y_min * height) / side,
        min(1.0, (left + x_max * width) / side),
        min(1.0, (top + y_max * height) / side),
    )


def square_mask(mask: Bool[np.ndarray, "height width"]) -> Bool[np.ndarray, "side side"]:
    """A mask over a picture as one over its square canvas at the judge's size: True where it covers half a pixel."""
    square = np.pad(mask, _margins(*mask.shape)).astype(np.float32)
    return cv2.resize(square, (SIDE, SIDE), interpolation=cv2.INTER_AREA) >= 0.5


def box_mask(boxes: Sequence[Box], margin: float = BOX_TOLERANCE) -> Bool[np.ndarray, "side side"]:
    """True where a pixel's centre lies in one of the boxes, each widened by ``margin`` (share of the side)."""
    centres = (np.arange(SIDE) + 0.5) / SIDE
    inside = np.zeros((SIDE, SIDE), bool)
    for box in boxes:
        rows = (centres >= box.y_min - margin) & (centres <= box.y_max + margin)
        columns = (centres >= box.x_min - margin) & (centres <= box.x_max + margin)
        inside |= rows[:, None] & columns[None]
    return inside


def rgb_to_opponent(values: Float[np.ndarray, "*shape 3"]) -> Float[np.ndarray, "*shape 3"]:
    """Opponent colours of RGB values from 0 to 255: luma from 0 to 255, two colour axes around 0."""
    return values @ OPPONENT.T


def low_pass(values: Opponent) -> Opponent:
    """Gaussian blur of 1.5 pixels of the judge's size (3 of 128), borders repeated."""
    return cv2.GaussianBlur(values, (_BLUR_KERNEL, _BLUR_KERNEL), _BLUR, borderType=cv2.BORDER_REPLICATE)


def _margins(height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows above and below, and columns left and right, that make a square of a picture."""
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    return (top, side - height - top), (left, side - width - left)
