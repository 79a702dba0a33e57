"""The background of a picture, found from what stands outside the boxes: its kind, and how it goes on behind them.

Each kind of ``ms_core.mini.backgrounds`` is a linear model: mean and principal components of several hundred
renderings. A picture is fitted by least squares, robust against what does not belong to a background; the kind
whose model leaves the least is the one shown. Neither prompt nor model is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image

from ms_core.mini.backgrounds import BACKGROUNDS
from ms_core.spec import Box

SIDE = 64
# Luma, then blue-yellow and red-cyan: linear, so that blur and colour may be taken in any order.
_OPPONENT = np.asarray([[0.299, 0.587, 0.114], [-0.25, -0.25, 0.5], [0.5, -0.4, -0.1]], np.float32)
# Half a cell of the 16 x 16 latent grid: a model cannot place anything finer.
BOX_TOLERANCE = 1 / 32
_RENDERINGS, _HELD_OUT, _COMPONENTS = 240, 40, 24
_SEED = 20261122
_RENDER_SIDE = 128
_BLUR = 1.5
# Colour levels beyond which a pixel counts less and less as background; and rounds of weighing anew.
_NOISE, _ROUNDS = 12.0, 4
# Of a kind's own texture this share counts as no difference; nor does what is below the least tolerance (levels).
_TOLERANCE_QUANTILE, _LEAST_TOLERANCE = 0.98, 8.0

Opponent = Float[np.ndarray, "side side 3"]


@dataclass(frozen=True, slots=True)
class Backdrop:
    """A fitted background.

    Attributes:
        name: its kind, a key of ``BACKGROUNDS``.
        canvas: how it looks without subjects, opponent colours, low-passed.
        tolerance: differences of low-passed pictures up to this are the kind's own texture, in colour levels.
    """

    name: str
    canvas: Opponent
    tolerance: float


@dataclass(frozen=True, slots=True)
class _LinearModel:
    mean: Float[np.ndarray, " values"]
    components: Float[np.ndarray, "components values"]
    tolerance: float


def to_opponent(picture: Image.Image) -> Opponent:
    """A picture at the judge's size in opponent colours: luma from 0 to 255, two colour axes around 0."""
    resized = picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX)
    return rgb_to_opponent(np.asarray(resized, np.float32))


def rgb_to_opponent(values: Float[np.ndarray, "*shape 3"]) -> Float[np.ndarray, "*shape 3"]:
    """Opponent colours of RGB values from 0 to 255."""
    return values @ _OPPONENT.T


def box_mask(boxes: Sequence[Box], margin: float = BOX_TOLERANCE) -> Bool[np.ndarray, "side side"]:
    """True where a pixel's centre lies in one of the boxes, each widened by ``margin`` (share of the side)."""
    centres = (np.arange(SIDE) + 0.5) / SIDE
    inside = np.zeros((SIDE, SIDE), bool)
    for box in boxes:
        rows = (centres >= box.y_min - margin) & (centres <= box.y_max + margin)
        columns = (centres >= box.x_min - margin) & (centres <= box.x_max + margin)
        inside |= rows[:, None] & columns[None]
    return inside


def fit_backdrop(picture: Opponent, boxes: Sequence[Box]) -> Backdrop:
    """The background that explains best what stands outside the boxes."""
    outside = np.repeat(~box_mask(boxes).ravel(), 3)
    smooth = low_pass(picture).ravel()
    fits = {name: _fit(model, smooth, outside) for name, model in _linear_models().items()}
    name = min(fits, key=lambda key: fits[key][1])
    canvas = fits[name][0].reshape(picture.shape)
    return Backdrop(name, canvas, _linear_models()[name].tolerance)


def _fit(
    model: _LinearModel, values: Float[np.ndarray, " values"], outside: Bool[np.ndarray, " values"]
) -> tuple[Float[np.ndarray, " values"], float]:
    """The whole fitted canvas, and how badly the model explains the values outside (robust, per value)."""
    components = model.components[:, outside]
    target = values[outside] - model.mean[outside]
    # Components carry their standard deviation, so every coefficient is expected around 0 with deviation 1.
    prior = np.eye(len(components), dtype=np.float32) * _NOISE**2
    coefficients = np.zeros(len(components), np.float32)
    squares = np.zeros_like(target)
    for _ in range(_ROUNDS):
        weighted = components / (1 + squares)
        coefficients = np.linalg.solve(weighted @ components.T + prior, weighted @ target)
        squares = ((target - coefficients @ components) / _NOISE) ** 2
    cost = float(np.log1p(squares).mean() + (coefficients**2).sum() / len(target))
    return model.mean + coefficients @ model.components, cost


@lru_cache(maxsize=1)
def _linear_models() -> dict[str, _LinearModel]:
    return {name: _learn(name) for name in BACKGROUNDS}


def _learn(name: str) -> _LinearModel:
    rng = np.random.default_rng((_SEED, list(BACKGROUNDS).index(name)))
    rows = np.stack([_render(name, rng) for _ in range(_RENDERINGS + _HELD_OUT)])
    learnt, held_out = rows[:_RENDERINGS], rows[_RENDERINGS:]
    mean = learnt.mean(0)
    centred = learnt - mean
    variances, vectors = np.linalg.eigh(centred @ centred.T / _RENDERINGS)
    directions = vectors[:, -_COMPONENTS:].T @ centred
    scales = np.sqrt(np.maximum(variances[-_COMPONENTS:], 0))
    components = directions / np.linalg.norm(directions, axis=1, keepdims=True) * scales[:, None]
    model = _LinearModel(mean, components.astype(np.float32), 0.0)
    everywhere = np.ones(len(mean), bool)
    residuals = np.stack([row - _fit(model, row, everywhere)[0] for row in held_out]).reshape(-1, 3)
    texture = float(np.quantile(np.linalg.norm(residuals, axis=-1), _TOLERANCE_QUANTILE))
    return _LinearModel(mean, model.components, max(texture, _LEAST_TOLERANCE))


def _render(name: str, rng: np.random.Generator) -> Float[np.ndarray, " values"]:
    canvas = np.clip(BACKGROUNDS[name](rng, _RENDER_SIDE), 0, 255)
    cell = _RENDER_SIDE // SIDE
    coarse = np.mean([canvas[row::cell, column::cell] for row in range(cell) for column in range(cell)], axis=0)
    return low_pass(rgb_to_opponent(coarse)).astype(np.float32).ravel()


def difference(picture: Opponent, canvas: Opponent) -> Float[np.ndarray, "side side"]:
    """How much a picture, low-passed, differs from a fitted canvas at each pixel, in colour levels."""
    return np.linalg.norm(low_pass(picture) - canvas, axis=-1)


def low_pass(values: Opponent) -> Opponent:
    """Gaussian blur of 1.5 pixels of the judge's size (3 of 128), borders repeated."""
    matrix = _blur_matrix()
    rows = (matrix @ values.reshape(SIDE, -1)).reshape(values.shape)
    return matrix @ rows


@lru_cache(maxsize=1)
def _blur_matrix() -> Float[np.ndarray, "side side"]:
    """Row i holds the weights of all pixels of a line in its blurred pixel i."""
    reach = round(3 * _BLUR)
    offsets = np.arange(-reach, reach + 1)
    kernel = np.exp(-0.5 * (offsets / _BLUR) ** 2)
    matrix = np.zeros((SIDE, SIDE), np.float32)
    for row in range(SIDE):
        np.add.at(matrix[row], np.clip(row + offsets, 0, SIDE - 1), kernel / kernel.sum())
    return matrix
