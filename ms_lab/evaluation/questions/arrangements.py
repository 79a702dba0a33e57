"""How large the subjects of a scene are and where they stand: drawn at random until they fit."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ms_core.spec import Box
from ms_lab.mini.painting import PLAIN, opaque_box, pose

_TRIES = 1000
# More subjects than this hardly ever fit all at once: each is placed by itself.
_FEW = 4


@dataclass(frozen=True, slots=True)
class Arrangement:
    """What a group asks of its subjects' places.

    Attributes:
        sizes: smallest and largest size for each subject, as shares of the picture's shorter side; which subject takes
            which is drawn.
        min_overlap, max_overlap: bounds of the share of the smaller box that the other box covers.
    """

    sizes: tuple[tuple[float, float], ...]
    min_overlap: float = 0.0
    max_overlap: float = 0.1

    def allows(self, boxes: Sequence[Box]) -> bool:
        """Whether all pairs of these boxes overlap as much as they should."""
        shares = [covered_share(first, second) for first, second in itertools.combinations(boxes, 2)]
        return not shares or self.min_overlap <= min(shares) <= max(shares) <= self.max_overlap


@dataclass(frozen=True, slots=True)
class Place:
    """Where a drawing stands.

    Attributes:
        centre: of the whole drawing, row and column, as shares of the picture's height and width.
        size: of the upright drawing's side, as a share of the picture's shorter side.
    """

    centre: tuple[float, float]
    size: float


@dataclass(frozen=True, slots=True)
class Extent:
    """What is opaque of a drawing: from its centre, right and down, in sides of the upright drawing."""

    left: float
    top: float
    right: float
    bottom: float

    @classmethod
    def of(cls, drawing: Image.Image, treatment: str = PLAIN) -> Extent:
        """The extent of an RGBA drawing in the treatment's pose."""
        posed = pose(drawing, treatment)
        box = opaque_box(posed)
        width, height = posed.width / drawing.width, posed.height / drawing.height
        return cls(
            (box.x_min - 0.5) * width, (box.y_min - 0.5) * height, (box.x_max - 0.5) * width, (box.y_max - 0.5) * height
        )

    @property
    def aspect_ratio(self) -> float:
        """Width over height."""
        return (self.right - self.left) / (self.bottom - self.top)


def draw_places(
    rng: np.random.Generator, extents: Sequence[Extent], arrangement: Arrangement, height: int, width: int
) -> list[Place] | None:
    """Places of as many drawings, each wholly in the picture; ``None`` if there is no room for these sizes.

    Args:
        rng: of the scene.
        extents: one for each drawing.
        arrangement: for as many subjects.
        height, width: of the picture, in pixels.
    """
    ranges = [arrangement.sizes[int(index)] for index in rng.permutation(len(extents))]
    sizes = [float(rng.uniform(low, high)) for low, high in ranges]
    if len(extents) > _FEW:
        return _place_in_turn(rng, extents, sizes, height, width)
    for _ in range(_TRIES):
        centres = rng.random((len(extents), 2)).tolist()
        places = [
            _inside(centre, size, extent, height, width)
            for centre, size, extent in zip(centres, sizes, extents, strict=True)
        ]
        boxes = [box_at(place, extent, height, width) for place, extent in zip(places, extents, strict=True)]
        if arrangement.allows(boxes):
            return places
    return None


def _place_in_turn(
    rng: np.random.Generator, extents: Sequence[Extent], sizes: Sequence[float], height: int, width: int
) -> list[Place] | None:
    """Places whose boxes do not overlap, one after the other; ``None`` if there is no room for one of them."""
    places: list[Place] = []
    boxes: list[Box] = []
    for size, extent in zip(sizes, extents, strict=True):
        for _ in range(_TRIES):
            place = _inside(rng.random(2).tolist(), size, extent, height, width)
            box = box_at(place, extent, height, width)
            if not any(covered_share(box, other) for other in boxes):
                places.append(place)
                boxes.append(box)
                break
        else:
            return None
    return places


def fill_box(box: Box, extent: Extent, height: int, width: int) -> Place:
    """The place at which a drawing is as large as the box allows, in the middle of it.

    Args:
        box: normalised to the picture.
        extent: of the drawing.
        height, width: of the picture, in pixels.
    """
    shorter = min(height, width)
    size = min(
        (box.x_max - box.x_min) * width / (extent.right - extent.left),
        (box.y_max - box.y_min) * height / (extent.bottom - extent.top),
    )
    row = (box.y_min + box.y_max) / 2 - (extent.top + extent.bottom) / 2 * size / height
    column = (box.x_min + box.x_max) / 2 - (extent.left + extent.right) / 2 * size / width
    return Place((row, column), size / shorter)


def box_at(place: Place, extent: Extent, height: int, width: int) -> Box:
    """The box of a drawing at a place, normalised to the picture; it is cut at the picture's border."""
    side = place.size * min(height, width)
    row, column = place.centre
    return Box(
        max(0.0, column + extent.left * side / width),
        max(0.0, row + extent.top * side / height),
        min(1.0, column + extent.right * side / width),
        min(1.0, row + extent.bottom * side / height),
    )


def covered_share(first: Box, second: Box) -> float:
    """Share of the smaller of two boxes that the other one covers."""
    common_width = min(first.x_max, second.x_max) - max(first.x_min, second.x_min)
    common_height = min(first.y_max, second.y_max) - max(first.y_min, second.y_min)
    if common_width <= 0 or common_height <= 0:
        return 0.0
    areas = [(box.x_max - box.x_min) * (box.y_max - box.y_min) for box in (first, second)]
    return common_width * common_height / min(areas)


def _inside(centre: Sequence[float], size: float, extent: Extent, height: int, width: int) -> Place:
    """The place at these shares (row, column) of the room that the drawing has within the picture."""
    side = size * min(height, width)
    row = -extent.top * side / height + centre[0] * (1 - (extent.bottom - extent.top) * side / height)
    column = -extent.left * side / width + centre[1] * (1 - (extent.right - extent.left) * side / width)
    return Place((row, column), size)
