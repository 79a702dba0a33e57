"""The judge: which of several drawings stands in a box of a picture.

Every candidate is drawn into the box over the background fitted from the picture itself, mirrored and not, at a few
sizes and shifts. What it changes is compared with what the picture shows against that background, by the cosine of the
two differences at two levels of blur: contrast does not count, colour and form do. No trained network is used, no part
of the model, and the judge sees neither phrase nor prompt.

Fixed on 2026-11-22 by the commit that added this file, tuned on composed scenes of other seeds alone, before a picture
of any trained model was judged. The rule: whoever changes the scenes, the candidates, the metrics or the judge raises
``JUDGE_VERSION``, and every number measured before is void until it is measured anew. A final training run begins
after the commit of the judge that measures it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ms_core.evaluation.backdrops import Backdrop, box_mask, rgb_to_opponent
from ms_core.spec import Box

JUDGE_VERSION = 1
_GRID = 32
# The frame that is compared: the box, widened on each side by this share of its longer side.
_FRAME_MARGIN = 0.12
_SIZES = (0.82, 0.94, 1.06)
_SHIFTS = (-0.07, 0.0, 0.07)
# Standard deviations of the blur, in pixels of the grid.
_BLURS = (1.0, 2.5)
_SPRITE_SIDE = 48
_OPAQUE = 64


@dataclass(frozen=True, slots=True)
class _Frame:
    """The part of the picture that is compared, normalised xyxy."""

    x_min: float
    y_min: float
    x_max: float
    y_max: float

    @classmethod
    def around(cls, box: Box) -> _Frame:
        margin = _FRAME_MARGIN * max(box.x_max - box.x_min, box.y_max - box.y_min)
        return cls(
            max(0.0, box.x_min - margin),
            max(0.0, box.y_min - margin),
            min(1.0, box.x_max + margin),
            min(1.0, box.y_max + margin),
        )

    def cut(self, plane: Image.Image) -> Float[np.ndarray, "grid grid *channels"]:
        """This part of a picture, resampled to the grid."""
        width, height = plane.size
        part = (self.x_min * width, self.y_min * height, self.x_max * width, self.y_max * height)
        return np.asarray(plane.resize((_GRID, _GRID), Image.Resampling.BILINEAR, box=part), np.float32)


def compare(
    picture: Image.Image, backdrop: Backdrop, boxes: tuple[Box, Box], place: int, drawings: Sequence[Image.Image]
) -> Float[np.ndarray, " drawings"]:
    """How well each drawing explains what stands in one of two boxes: cosines from -1 to 1, the largest wins.

    Args:
        picture: RGB.
        backdrop: fitted from the same picture.
        boxes: of both subjects; what lies in the other box is left out.
        place: 0 or 1, the box that is judged.
        drawings: RGBA squares.
    """
    box, other = boxes[place], boxes[1 - place]
    frame = _Frame.around(box)
    ground = np.stack([frame.cut(Image.fromarray(plane)) for plane in np.moveaxis(backdrop.canvas, -1, 0)], -1)
    others = frame.cut(Image.fromarray(box_mask([other], 0.0).astype(np.float32)))
    weight = _planes((others < 0.5)[..., None].astype(np.float32))
    shown = _planes(rgb_to_opponent(frame.cut(picture.convert("RGB"))) - ground) * weight
    scores = [_best_cosine(_changes(drawing, box, frame, ground) * weight, shown) for drawing in drawings]
    return np.asarray(scores, np.float32)


def opaque_extent(drawing: Image.Image) -> tuple[int, int, int, int]:
    """What is opaque of an RGBA drawing: left, top, right, bottom in pixels, half-open; all of it if nothing is."""
    opaque = np.asarray(drawing.getchannel("A")) > _OPAQUE
    rows, columns = np.flatnonzero(opaque.any(1)), np.flatnonzero(opaque.any(0))
    if not len(rows):
        return 0, 0, drawing.width, drawing.height
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _planes(values: Float[np.ndarray, "height width channels"]) -> Float[Tensor, "1 channels height width"]:
    return torch.tensor(values.transpose(2, 0, 1), dtype=torch.float32)[None]


def _best_cosine(changes: Float[Tensor, "variants 3 grid grid"], shown: Float[Tensor, "1 3 grid grid"]) -> float:
    """The largest cosine of any variant, averaged over the levels of blur."""
    cosines = torch.zeros(len(changes))
    for sigma in _BLURS:
        drawn, seen = (_blur(values, sigma).flatten(1) for values in (changes, shown))
        cosines += F.cosine_similarity(drawn, seen, dim=1)
    return float(cosines.max()) / len(_BLURS)


def _changes(
    drawing: Image.Image, box: Box, frame: _Frame, ground: Float[np.ndarray, "grid grid 3"]
) -> Float[Tensor, "variants 3 grid grid"]:
    """What the drawing changes of the ground in every mirrored, sized and shifted variant."""
    small = np.asarray(drawing.resize((_SPRITE_SIDE, _SPRITE_SIDE), Image.Resampling.BOX), np.float32)
    opacity = small[..., 3:] / 255
    # Premultiplied, so that resampling leaks no colour of transparent pixels.
    sprite = _planes(np.concatenate([rgb_to_opponent(small[..., :3]) * opacity, opacity], -1))
    grid = F.affine_grid(_placements(drawing, box, frame), [_num_variants(), 4, _GRID, _GRID], align_corners=False)
    drawn = F.grid_sample(sprite.expand(_num_variants(), -1, -1, -1), grid, align_corners=False)
    return drawn[:, :3] - drawn[:, 3:] * _planes(ground)


def _num_variants() -> int:
    return 2 * len(_SIZES) * len(_SHIFTS) ** 2


def _placements(drawing: Image.Image, box: Box, frame: _Frame) -> Float[Tensor, "variants 2 3"]:
    """Affine maps from the frame to the sprite, both from -1 to 1: the sprite fills the box, in all variants."""
    left, top, right, bottom = opaque_extent(drawing)
    box_width, box_height = box.x_max - box.x_min, box.y_max - box.y_min
    side = min(box_width * drawing.width / (right - left), box_height * drawing.height / (bottom - top))
    frame_width, frame_height = frame.x_max - frame.x_min, frame.y_max - frame.y_min
    maps: list[list[list[float]]] = []
    for size in _SIZES:
        reach_x, reach_y = side * size / frame_width, side * size / frame_height
        for shift_x in _SHIFTS:
            for shift_y in _SHIFTS:
                centre_x = (box.x_min + box.x_max) / 2 + shift_x * box_width
                centre_y = (box.y_min + box.y_max) / 2 + shift_y * box_height
                x = 2 * (centre_x - frame.x_min) / frame_width - 1
                y = 2 * (centre_y - frame.y_min) / frame_height - 1
                for facing in (1.0, -1.0):
                    maps.append([[facing / reach_x, 0.0, -facing * x / reach_x], [0.0, 1 / reach_y, -y / reach_y]])
    return torch.tensor(maps)


def _blur(values: Float[Tensor, "n c height width"], sigma: float) -> Float[Tensor, "n c height width"]:
    """Gaussian blur, zero beyond the border; ``sigma`` in pixels."""
    reach = round(2.5 * sigma)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    kernel = kernel / kernel.sum()
    length = values.shape[-1]
    offsets = torch.arange(length)[:, None] - torch.arange(length)[None] + reach
    inside = (offsets >= 0) & (offsets < len(kernel))
    matrix = torch.where(inside, kernel[offsets.clamp(0, len(kernel) - 1)], torch.zeros(()))
    return matrix @ values @ matrix.T
