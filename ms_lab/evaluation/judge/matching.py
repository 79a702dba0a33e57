"""How well a drawing explains what stands in a box.

A drawing is laid into the box over the fitted background, as it is and mirrored, at a few sizes and shifts. What it
changes of the background is compared with what the picture shows against it, within a frame around the box, at two
levels of blur. Blurring and resampling are one step: Gaussian weights, a matrix for the rows and one for the columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

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
# The same for forms, of which only the detail counts that this blur takes away: coarse patches of colour tell nothing.
FORM_LEVELS, FORM_DETAIL = ((32, 0.6),), 1.0
# Pixels soften what is painted in them by this share of their width.
_PIXEL_BLUR = 0.5
_DRAWING_SIDE = 48
# Of luma and the two colour axes in residuals: a light is told by its colours even where a form is badly painted.
_EMPHASIS = np.asarray([1.0, 3.0, 3.0], np.float32)[:, None, None]
# Keeps what shows nothing from being divided by.
_EPSILON = 1e-6

# What a drawing changes of the background, and what it shows of itself, in each variant: sizes, shifts, facings.
_Changes = Float[np.ndarray, "variants 3 cells cells"]
_Laid = Float[np.ndarray, "variants 4 cells cells"]


# Drawings are told apart as objects: a frame keeps what it has laid.
@dataclass(frozen=True, slots=True, eq=False)
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
    """A frame at one level of blur.

    Attributes:
        rows, columns: weights of a canvas's rows and columns in the frame's cells.
        weight: how much each cell counts, squared.
        sigma: of the blur of drawings, in cells.
    """

    rows: Float[np.ndarray, "cells side"]
    columns: Float[np.ndarray, "cells side"]
    weight: Float[np.ndarray, "cells cells"]
    sigma: float

    @property
    def cells(self) -> int:
        """Of the frame's side."""
        return len(self.rows)

    def look(self, planes: Float[np.ndarray, "side side planes"]) -> Float[np.ndarray, "planes cells cells"]:
        """A canvas's planes in the frame."""
        return self.rows @ np.moveaxis(planes, -1, 0) @ self.columns.T


@dataclass(frozen=True, slots=True)
class _Shown:
    """What a picture shows in a frame at one level.

    Attributes:
        change: how it changes the background.
        ground: the background.
        weight: how much each cell of a plane counts.
    """

    change: Float[np.ndarray, "3 cells cells"]
    ground: Float[np.ndarray, "3 cells cells"]
    weight: Float[np.ndarray, "cells cells"]


class Frame:
    """A box of a square canvas and what surrounds it; whatever pictures show there, drawings are laid into it once.

    Args:
        part: how much each pixel counts, from 0 to 1.
        box: normalised to the canvas.
        levels: cells of the frame's side, and standard deviation of the blur in cells.
        detail: what a blur of this standard deviation, in cells, keeps does not count; ``None``: everything counts.
    """

    def __init__(
        self,
        part: Float[np.ndarray, "side side"],
        box: Box,
        levels: Sequence[tuple[int, float]] = _LEVELS,
        detail: float | None = None,
    ) -> None:
        margin = _FRAME_MARGIN * max(box.x_max - box.x_min, box.y_max - box.y_min)
        self._rows, self._columns = (
            _Axis((max(0.0, low - margin), min(1.0, high + margin)), (low, high))
            for low, high in ((box.y_min, box.y_max), (box.x_min, box.x_max))
        )
        self._detail = detail
        self.levels = [self._level(part, cells, sigma) for cells, sigma in levels]
        self._laid: dict[Drawing, list[_Laid]] = {}

    def lay(self, drawing: Drawing) -> list[_Laid]:
        """A drawing in every variant, at each level: it fills the box, all but for size and shift."""
        if drawing not in self._laid:
            self._laid[drawing] = [self._lay(drawing, level) for level in self.levels]
        return self._laid[drawing]

    def _level(self, part: Float[np.ndarray, "side side"], cells: int, sigma: float) -> _Level:
        side = len(part)
        rows, columns = (axis.weights([0.0], [1.0], side, cells, sigma) for axis in (self._rows, self._columns))
        frame = self._rows.frame[1] - self._rows.frame[0]
        softness = float(np.hypot(sigma, _PIXEL_BLUR * cells / (side * frame)))
        return _Level(rows, columns, (rows @ part @ columns.T) ** 2, softness)

    def _lay(self, drawing: Drawing, level: _Level) -> _Laid:
        extent, cells = drawing.extent, level.cells
        fitting = min(
            self._rows.box_length / (extent.y_max - extent.y_min),
            self._columns.box_length / (extent.x_max - extent.x_min),
        )
        planes = drawing.planes.reshape(_DRAWING_SIDE, -1)
        variants: list[_Laid] = []
        for size in _SIZES:
            rows = self._place(self._rows, (extent.y_min, extent.y_max), fitting * size, level, (1.0,))
            columns = self._place(self._columns, (extent.x_min, extent.x_max), fitting * size, level, _FACINGS)
            lines = (rows @ planes).reshape(-1, _DRAWING_SIDE, 4).transpose(2, 0, 1).reshape(-1, _DRAWING_SIDE)
            drawn = (lines @ columns.T).reshape(4, len(_SHIFTS), cells, -1, cells)
            variants.append(drawn.transpose(1, 3, 0, 2, 4).reshape(-1, 4, cells, cells))
        return self.detail(np.concatenate(variants))

    def look(self, colours: Opponent, ground: Opponent, level: _Level) -> _Shown:
        """What a picture shows in the frame at one level."""
        # The background goes on beyond the canvas; nothing else does.
        coverage = level.rows.sum(1)[:, None] * level.columns.sum(1)[None]
        behind = level.look(ground) / coverage
        if self._detail is not None:
            # Only so may a drawing's detail be found before it is known what lies behind it.
            behind = np.broadcast_to(behind.mean((1, 2), keepdims=True), behind.shape)
        return _Shown(self.detail(level.look(colours - ground)), behind, level.weight)

    def detail(self, planes: Float[np.ndarray, "*planes cells cells"]) -> Float[np.ndarray, "*planes cells cells"]:
        """What counts of planes: all of them, or what a blur takes away."""
        if self._detail is None:
            return planes
        blur = _blur(planes.shape[-1], self._detail)
        return planes - blur @ planes @ blur.T

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
        return axis.weights(starts, ends, _DRAWING_SIDE, level.cells, level.sigma)


class Matcher:
    """Compares drawings with what one box of a picture shows.

    Args:
        colours: of the picture, on its square canvas.
        ground: the fitted background, of the same size.
        frame: of the box, on a canvas of the same size.
    """

    def __init__(self, colours: Opponent, ground: Opponent, frame: Frame) -> None:
        self._frame = frame
        self._shown = [frame.look(colours, ground, level) for level in frame.levels]

    def cosines(self, drawings: Sequence[Drawing]) -> Float[np.ndarray, " drawings"]:
        """How well each drawing explains the box: cosines of the changes, from -1 to 1; contrast does not count."""
        return np.asarray([self._best(drawing, _cosines) for drawing in drawings], np.float32)

    def residuals(self, drawings: Sequence[Drawing]) -> Float[np.ndarray, " drawings"]:
        """What each drawing leaves unexplained, as a share of what is shown, squared; contrast and level count."""
        return np.asarray([-self._best(drawing, _minus_residuals) for drawing in drawings], np.float32)

    def _best(self, drawing: Drawing, score: Callable[[_Changes, _Shown], Float[np.ndarray, " variants"]]) -> float:
        """The best variant's score, averaged over the levels."""
        laid = zip(self._frame.lay(drawing), self._shown, strict=True)
        scores = [score(drawn[:, :3] - drawn[:, 3:] * shown.ground, shown) for drawn, shown in laid]
        return float(np.mean(scores, axis=0).max())


@lru_cache(maxsize=8)
def _blur(cells: int, sigma: float) -> Float[np.ndarray, "cells cells"]:
    """Gaussian weights between the cells of a line; each row adds up to 1."""
    places = np.arange(cells, dtype=np.float32)
    weights = np.exp(-0.5 * ((places[:, None] - places[None]) / sigma) ** 2)
    return weights / weights.sum(1, keepdims=True)


def _cosines(changes: _Changes, shown: _Shown) -> Float[np.ndarray, " variants"]:
    common = _weigh(changes, shown.change * shown.weight)
    squares = _weigh(changes**2, np.broadcast_to(shown.weight, shown.change.shape))
    return common / (np.sqrt(squares * _energy(shown)) + _EPSILON)


def _minus_residuals(changes: _Changes, shown: _Shown) -> Float[np.ndarray, " variants"]:
    squares = _weigh((changes - shown.change) ** 2, shown.weight * _EMPHASIS**2)
    return -squares / (_energy(shown, _EMPHASIS) + _EPSILON)


def _weigh(values: _Changes, weights: Float[np.ndarray, "3 cells cells"]) -> Float[np.ndarray, " variants"]:
    """The sum over all cells, as far as they count."""
    return values.reshape(len(values), -1) @ weights.ravel()


def _energy(shown: _Shown, emphasis: float | Float[np.ndarray, "3 1 1"] = 1.0) -> float:
    """Of what is shown, as far as it counts."""
    return float((((shown.change * emphasis) ** 2).sum(0) * shown.weight).sum())
