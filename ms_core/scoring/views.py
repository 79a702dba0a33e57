"""What the scorer looks at: square views of the picture around each box, and of the reference; torch only.

Every view is made by two matrices of weights, one for rows and one for columns, so that places need not be whole pixels and
small views alias nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor

from ms_core.spec import Box

# A view reaches this much further than the longer side of its box.
REACH = 1.3
# Of a reference's even ground, where values run from -1 to 1; less is noise.
LEAST_DIFFERENCE = 0.15
# One and a quarter levels of 255: neighbours that differ by less have the same colour.
_SAME_COLOUR = 0.01
# Planes of a picture's view: red, green, blue, own box, other boxes, inside the picture.
PICTURE_PLANES, REFERENCE_PLANES = 6, 3


@dataclass(frozen=True, slots=True)
class Window:
    """A square part of a picture, which it may exceed; pixels, origin at the top left of the picture."""

    top: float
    left: float
    side: float

    @classmethod
    def around(cls, box: Box, height: int, width: int) -> Window:
        """The window of a box in a picture of this size."""
        side = REACH * max((box.y_max - box.y_min) * height, (box.x_max - box.x_min) * width)
        top = (box.y_min + box.y_max) / 2 * height - side / 2
        return cls(top, (box.x_min + box.x_max) / 2 * width - side / 2, side)


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a picture: whether the subject of these references stands in this box.

    Attributes:
        references: one or several pictures of the subject as the image encoder sees them, RGB.
        box: of the subject.
        others: boxes of all other subjects.
    """

    references: tuple[Image.Image, ...]
    box: Box
    others: tuple[Box, ...] = ()


def question_views(
    picture: Float[Tensor, "3 height width"], questions: Sequence[Question], side: int
) -> tuple[Float[Tensor, "references 6 side side"], Float[Tensor, "references 3 side side"]]:
    """The views of every question about a picture, whose values run from -1 to 1: a pair for each reference, in order."""
    places: list[Tensor] = []
    for question in questions:
        places += [picture_view(picture, question.box, question.others, side)] * len(question.references)
    known = [reference_view(to_planes(image), side) for question in questions for image in question.references]
    return torch.stack(places), torch.stack(known)


def questions_of(references: Sequence[tuple[Image.Image, ...]], boxes: Sequence[Box]) -> list[Question]:
    """One question for each subject of a picture."""
    return [
        Question(own, box, tuple(other for place, other in enumerate(boxes) if place != index))
        for index, (own, box) in enumerate(zip(references, boxes, strict=True))
    ]


def picture_view(
    picture: Float[Tensor, "3 height width"], box: Box, others: Sequence[Box], side: int
) -> Float[Tensor, "6 side side"]:
    """What is seen of a subject's place.

    Args:
        picture: from -1 to 1.
        box: of the subject.
        others: the boxes of all other subjects.
        side: of the view.

    Returns:
        the picture, zero beyond its border; then from 0 to 1 how far each cell lies in the box, in any other box, and in the
        picture.
    """
    height, width = picture.shape[1:]
    window = Window.around(box, height, width)
    colours = _resample(picture, window, side)
    own = _cover(box, window, side, (height, width))
    other = torch.zeros(side, side)
    for another in others:
        other = torch.maximum(other, _cover(another, window, side, (height, width)))
    inside = _cover(Box(0.0, 0.0, 1.0, 1.0), window, side, (height, width))
    return torch.cat([colours * inside, torch.stack([own, other, inside])])


def reference_view(reference: Float[Tensor, "3 height width"], side: int) -> Float[Tensor, "3 side side"]:
    """What is seen of a reference picture, from -1 to 1: its subject, as large as one that fills its box is in a picture's view.

    The subject is what differs from the even colour at the border; where there is none, it is the whole picture.
    """
    height, width = reference.shape[1:]
    ground, subject = _ground_and_subject(reference)
    window = Window.around(_extent(subject), height, width)
    return _resample(reference - ground, window, side) + ground


def unevenness(view: Float[Tensor, "3 side side"]) -> float:
    """How much of a subject is not of even colour, as photographs are and flat drawings are not.

    Args:
        view: of a reference, as ``reference_view`` makes it.

    Returns:
        the share of neighbouring cells, both in the subject, whose colours differ; 0 without a subject.
    """
    _, subject = _ground_and_subject(view)
    differing, all_pairs = 0, 0
    for dimension, length in ((1, view.shape[1] - 1), (2, view.shape[2] - 1)):
        inside = subject.narrow(dimension - 1, 0, length) & subject.narrow(dimension - 1, 1, length)
        differs = view.diff(dim=dimension).abs().amax(0) > _SAME_COLOUR
        differing += int((inside & differs).sum())
        all_pairs += int(inside.sum())
    return differing / max(all_pairs, 1)


def to_planes(image: Image.Image) -> Float[Tensor, "3 height width"]:
    """An RGB picture as values from -1 to 1."""
    values = torch.as_tensor(np.array(image.convert("RGB")))
    return signed(values.permute(2, 0, 1))


def signed(values: UInt8[Tensor, "3 height width"]) -> Float[Tensor, "3 height width"]:
    """Bytes as values from -1 to 1."""
    return values.float() / 127.5 - 1.0


def _ground_and_subject(
    reference: Float[Tensor, "3 height width"],
) -> tuple[Float[Tensor, "3 1 1"], Bool[Tensor, "height width"]]:
    """The even colour at the border, and what differs from it."""
    border = torch.cat([reference[:, 0], reference[:, -1], reference[:, :, 0], reference[:, :, -1]], 1)
    ground = border.median(1).values[:, None, None]
    return ground, (reference - ground).abs().amax(0) > LEAST_DIFFERENCE


def _extent(mask: Bool[Tensor, "height width"]) -> Box:
    """The box around what is true; the whole if nothing is."""
    height, width = mask.shape
    rows, columns = (np.flatnonzero(mask.any(dimension).numpy()) for dimension in (1, 0))
    if not len(rows):
        return Box(0.0, 0.0, 1.0, 1.0)
    left, top, right, bottom = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
    return Box(left / width, top / height, right / width, bottom / height)


def _resample(planes: Float[Tensor, "c height width"], window: Window, side: int) -> Float[Tensor, "c side side"]:
    height, width = planes.shape[1:]
    step = window.side / side
    return _weights(window.top, step, side, height) @ planes @ _weights(window.left, step, side, width).T


def _weights(start: float, step: float, count: int, length: int) -> Float[Tensor, "count length"]:
    """How much each of ``length`` pixels counts in each of ``count`` cells, ``step`` pixels wide, from ``start`` on.

    Triangles as wide as two cells, or two pixels where those are wider; the rows sum to 1, or to 0 out of reach.
    """
    cells = start + (torch.arange(count) + 0.5) * step
    pixels = torch.arange(length) + 0.5
    weights = (1 - (cells[:, None] - pixels[None]).abs() / max(step, 1.0)).clamp(min=0)
    return weights / weights.sum(1, keepdim=True).clamp(min=1e-6)


def _cover(box: Box, window: Window, side: int, size: tuple[int, int]) -> Float[Tensor, "side side"]:
    """The share of each cell of a window that lies in a box of a picture of ``size`` (height, width)."""
    height, width = size
    rows = _overlap(box.y_min * height, box.y_max * height, window.top, window.side / side, side)
    columns = _overlap(box.x_min * width, box.x_max * width, window.left, window.side / side, side)
    return rows[:, None] * columns[None]


def _overlap(low: float, high: float, start: float, step: float, count: int) -> Float[Tensor, " count"]:
    """The share of each of ``count`` cells, ``step`` wide, from ``start`` on, that lies between ``low`` and ``high``."""
    edges = start + torch.arange(count + 1) * step
    inside = edges.clamp(low, high)
    return ((inside[1:] - inside[:-1]) / step).clamp(max=1.0)
