"""How well a drawing explains what stands in a box.

A drawing is laid into the box over the fitted background, as it is and mirrored, at a few sizes and shifts. What it
changes of the background is compared with what the picture shows against it, within a frame around the box, at two
levels of blur. Blurring and resampling are one step: Gaussian weights, a matrix for the rows and one for the columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from PIL import Image

from ms_core.spec import Box
from ms_lab.evaluation.judge.views import Opponent, rgb_to_opponent
from ms_lab.mini.painting import opaque_box

# The frame that is compared: the box, widened on each side by this share of its longer side.
_FRAME_MARGIN = 0.12
_SIZES = (0.82, 0.94, 1.06)
_SHIFTS = (-0.07, 0.0, 0.07)
_FACINGS = (1.0, -1.0)
# Cells of the frame's side, and standard deviation of the blur in cells.
_LEVELS = ((32, 1.0), (16, 1.25))
# Pixels soften what is painted in them by this share of their width.
_PIXEL_BLUR = 0.5
_DRAWING_SIDE = 48
# Of luma and the two colour axes in residuals: a light is told by its colours even where a form is badly painted.
_EMPHASIS = np.asarray([1.0, 3.0, 3.0], np.float32)[:, None, None]
# Keeps what shows nothing from being divided by.
_EPSILON = 1e-6

_Changes = Float[np.ndarray, "variants 3 cells cells"]


@dataclass(frozen=True, slots=True)
class Drawing:
    """A drawing, ready to be laid into boxes.

    Attributes:
        planes: opponent colours times opacity, and opacity from 0 to 1.
        extent: what is opaque of it, normalised.
    """

    planes: Float[np.ndarray, "side side 4"]
    extent: Box

    @classmethod
    def of(cls, picture: Image.Image) -> Drawing:
        """A square RGBA picture as a drawing."""
        small = np.asarray(picture.resize((_DRAWING_SIDE, _DRAWING_SIDE), Image.Resampling.BOX), np.float32)
        opacity = small[..., 3:] / 255
        return cls(np.concatenate([rgb_to_opponent(small[..., :3]) * opacity, opacity], -1), opaque_box(picture))


@dataclass(frozen=True, slots=True)
class _Axis:
    """Rows or columns: the frame and the box on them, as shares of the canvas's side."""

    frame: tuple[float, float]
    box: tuple[float, float]

    @property
    def box_length(self) -> float:
        return self.box[1] - self.box[0]

    def weights(
        self, starts: Sequence[float], ends: Sequence[float], sources: int, cells: int, sigma: float
    ) -> Float[np.ndarray, "lines*cells sources"]:
        """Gaussian weights of the pixels of lines from ``starts`` to ``ends`` in the frame's cells.

        A line that ends before it starts is mirrored. Each pixel gives as much in all as it is wide in cells.
        """
        length = self.frame[1] - self.frame[0]
        shares = (np.arange(sources, dtype=np.float32) + 0.5) / sources
        first, last = (
            (np.asarray(points, np.float32)[:, None] - self.frame[0]) / length * cells for points in (starts, ends)
        )
        centres = first + (last - first) * shares
        distances = (np.arange(cells, dtype=np.float32)[None, :, None] + 0.5 - centres[:, None]) / sigma
        density = np.exp(-0.5 * distances**2) / (sigma * np.sqrt(2 * np.pi))
        widths = np.abs(last - first)[..., None] / sources
        return (density * widths).reshape(-1, sources).astype(np.float32)


@dataclass(frozen=True, slots=True)
class _Level:
    """The frame at one level of blur.

    Attributes:
        shown: how the picture changes the background there.
        ground: the background.
        weight: how much each cell counts, squared.
        sigma: of the blur of drawings, in cells.
    """

    shown: Float[np.ndarray, "3 cells cells"]
    ground: Float[np.ndarray, "3 cells cells"]
    weight: Float[np.ndarray, "cells cells"]
    sigma: float


class Matcher:
    """Compares drawings with what one box of a picture shows.

    Args:
        colours: of the picture, on its square canvas.
        ground: the fitted background, of the same size.
        part: how much each pixel counts, from 0 to 1.
        box: normalised to the canvas.
    """

    def __init__(self, colours: Opponent, ground: Opponent, part: Float[np.ndarray, "side side"], box: Box) -> None:
        margin = _FRAME_MARGIN * max(box.x_max - box.x_min, box.y_max - box.y_min)
        self._rows, self._columns = (
            _Axis((max(0.0, low - margin), min(1.0, high + margin)), (low, high))
            for low, high in ((box.y_min, box.y_max), (box.x_min, box.x_max))
        )
        planes = np.concatenate([colours - ground, ground, part[..., None]], -1)
        self._levels = [self._look(np.moveaxis(planes, -1, 0), cells, sigma) for cells, sigma in _LEVELS]

    def cosines(self, drawings: Sequence[Drawing]) -> Float[np.ndarray, " drawings"]:
        """How well each drawing explains the box: cosines of the changes, from -1 to 1; contrast does not count."""
        return np.asarray([self._best(drawing, _cosines) for drawing in drawings], np.float32)

    def residuals(self, drawings: Sequence[Drawing]) -> Float[np.ndarray, " drawings"]:
        """What each drawing leaves unexplained, as a share of what is shown, squared; contrast and level count."""
        return np.asarray([-self._best(drawing, _minus_residuals) for drawing in drawings], np.float32)

    def _look(self, planes: Float[np.ndarray, "7 side side"], cells: int, sigma: float) -> _Level:
        """The frame of a canvas's planes: change, ground and part."""
        side = planes.shape[-1]
        rows, columns = (axis.weights([0.0], [1.0], side, cells, sigma) for axis in (self._rows, self._columns))
        framed = rows @ planes @ columns.T
        # The background goes on beyond the canvas; nothing else does.
        coverage = rows.sum(1)[:, None] * columns.sum(1)[None]
        frame = self._rows.frame[1] - self._rows.frame[0]
        softness = float(np.hypot(sigma, _PIXEL_BLUR * cells / (side * frame)))
        return _Level(framed[:3], framed[3:6] / coverage, framed[6] ** 2, softness)

    def _best(self, drawing: Drawing, score: Callable[[_Changes, _Level], Float[np.ndarray, " variants"]]) -> float:
        """The best variant's score, averaged over the levels."""
        scores = [score(self._changes(drawing, level), level) for level in self._levels]
        return float(np.mean(scores, axis=0).max())

    def _changes(self, drawing: Drawing, level: _Level) -> _Changes:
        """What a drawing changes of the background in each variant: it fills the box, all but for size and shift."""
        extent, cells = drawing.extent, level.weight.shape[-1]
        fitting = min(
            self._rows.box_length / (extent.y_max - extent.y_min),
            self._columns.box_length / (extent.x_max - extent.x_min),
        )
        planes = drawing.planes.reshape(_DRAWING_SIDE, -1)
        variants: list[Float[np.ndarray, "variants 4 cells cells"]] = []
        for size in _SIZES:
            rows = self._place(self._rows, (extent.y_min, extent.y_max), fitting * size, level, (1.0,))
            columns = self._place(self._columns, (extent.x_min, extent.x_max), fitting * size, level, _FACINGS)
            lines = (rows @ planes).reshape(-1, _DRAWING_SIDE, 4).transpose(2, 0, 1).reshape(-1, _DRAWING_SIDE)
            drawn = (lines @ columns.T).reshape(4, len(_SHIFTS), cells, -1, cells)
            variants.append(drawn.transpose(1, 3, 0, 2, 4).reshape(-1, 4, cells, cells))
        drawn = np.concatenate(variants)
        return drawn[:, :3] - drawn[:, 3:] * level.ground

    @staticmethod
    def _place(
        axis: _Axis, extent: tuple[float, float], side: float, level: _Level, facings: Sequence[float]
    ) -> Float[np.ndarray, "variants*cells side"]:
        """Weights of a drawing of this side, its extent's middle in the box's middle but for the shifts."""
        starts: list[float] = []
        ends: list[float] = []
        for shift in _SHIFTS:
            centre = (axis.box[0] + axis.box[1]) / 2 + shift * axis.box_length
            for facing in facings:
                starts.append(centre - facing * side * (extent[0] + extent[1]) / 2)
                ends.append(starts[-1] + facing * side)
        return axis.weights(starts, ends, _DRAWING_SIDE, level.weight.shape[-1], level.sigma)


def _cosines(changes: _Changes, level: _Level) -> Float[np.ndarray, " variants"]:
    common = _weigh((changes * level.shown).sum(1), level)
    squares = _weigh((changes**2).sum(1), level)
    return common / (np.sqrt(squares * _energy(level)) + _EPSILON)


def _minus_residuals(changes: _Changes, level: _Level) -> Float[np.ndarray, " variants"]:
    squares = _weigh((((changes - level.shown) * _EMPHASIS) ** 2).sum(1), level)
    return -squares / (_energy(level, _EMPHASIS) + _EPSILON)


def _weigh(values: Float[np.ndarray, "variants cells cells"], level: _Level) -> Float[np.ndarray, " variants"]:
    """The sum over all cells, as far as they count."""
    return values.reshape(len(values), -1) @ level.weight.ravel()


def _energy(level: _Level, emphasis: float | Float[np.ndarray, "3 1 1"] = 1.0) -> float:
    """Of what is shown, as far as it counts."""
    return float((((level.shown * emphasis) ** 2).sum(0) * level.weight).sum())
