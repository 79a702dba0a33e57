"""The background of a picture, found from what stands outside the boxes: its kind, and how it goes on behind them.

Each kind of ``ms_lab.mini.backgrounds`` is a linear model: mean and principal components of several hundred
renderings. A picture is fitted by least squares, robust against what does not belong to a background; the kind
whose model leaves the least is the one shown. Neither prompt nor model is looked at. Lights are affine in colour, so
a kind under a light is the kind's own linear model taken through that light.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Bool, Float

from ms_lab.evaluation.judge.views import OPPONENT, SIDE, Opponent, View, low_pass, rgb_to_opponent
from ms_lab.mini.backgrounds import BACKGROUNDS
from ms_lab.mini.painting import LIGHTS, PLAIN

_RENDERINGS, _HELD_OUT, _COMPONENTS = 240, 40, 24
_SEED = 20261122
_RENDER_SIDE = 128
# Every second pixel says it all, for pictures are low-passed before they are fitted.
_STRIDE = 2
# Colour levels beyond which a pixel counts less and less as background; and rounds of weighing anew.
_NOISE, _ROUNDS = 12.0, 4
# Of a kind's own texture this share counts as no difference; nor does what is below the least tolerance (levels).
_TOLERANCE_QUANTILE, _LEAST_TOLERANCE = 0.98, 8.0


@dataclass(frozen=True, slots=True)
class Backdrop:
    """A fitted background.

    Attributes:
        name: its kind, a key of ``BACKGROUNDS``.
        light: what it stands in, a key of ``LIGHTS``, or ``PLAIN``.
        canvas: how it looks without subjects, low-passed.
        tolerance: differences of low-passed pictures up to this are the kind's own texture, in colour levels.
    """

    name: str
    light: str
    canvas: Opponent
    tolerance: float

    def enlarged(self, side: int) -> Opponent:
        """The canvas at another size."""
        return cv2.resize(self.canvas, (side, side), interpolation=cv2.INTER_LINEAR)


@dataclass(frozen=True, slots=True)
class _LinearModel:
    """One kind under one light.

    Attributes:
        mean: of its renderings.
        components: principal, each as long as its standard deviation.
        residuals: what the model leaves of renderings that it was not learnt from, at every second pixel.
    """

    mean: Opponent
    components: Float[np.ndarray, "components side side 3"]
    residuals: Float[np.ndarray, "renderings pixels 3"]

    def under(self, light: str) -> _LinearModel:
        """The model of the same kind in that light."""
        matrix, offset = _affine(light)
        return _LinearModel(self.mean @ matrix + offset, self.components @ matrix, self.residuals @ matrix)

    @property
    def tolerance(self) -> float:
        """Differences up to this, in colour levels, are the kind's own texture."""
        texture = float(np.quantile(np.linalg.norm(self.residuals, axis=-1), _TOLERANCE_QUANTILE))
        return max(texture, _LEAST_TOLERANCE)

    def canvas(self, coefficients: Float[np.ndarray, " components"]) -> Opponent:
        """The background that these coefficients describe."""
        flat = self.components.reshape(len(coefficients), -1)
        return self.mean + (coefficients @ flat).reshape(self.mean.shape)

    def fit(
        self, picture: Opponent, outside: Bool[np.ndarray, "side side"]
    ) -> tuple[Float[np.ndarray, " components"], float]:
        """The coefficients that explain best what stands outside, and how badly they do (robust, per value)."""
        kept = outside[::_STRIDE, ::_STRIDE]
        components = self.components[:, ::_STRIDE, ::_STRIDE][:, kept].reshape(len(self.components), -1)
        target = (picture - self.mean)[::_STRIDE, ::_STRIDE][kept].ravel()
        # Every coefficient is expected around 0 with deviation 1.
        prior = np.eye(len(components), dtype=np.float32) * _NOISE**2
        coefficients = np.zeros(len(components), np.float32)
        squares = np.zeros_like(target)
        for _ in range(_ROUNDS):
            weighted = components / (1 + squares)
            coefficients = np.linalg.solve(weighted @ components.T + prior, weighted @ target)
            squares = ((target - coefficients @ components) / _NOISE) ** 2
        return coefficients, float(np.log1p(squares).mean() + (coefficients**2).sum() / len(target))


def fit_backdrop(view: View, outside: Bool[np.ndarray, "side side"], lights: Sequence[str] = (PLAIN,)) -> Backdrop:
    """The background, in one of these lights, that explains best what the picture shows outside.

    Args:
        view: of the picture.
        outside: True where nothing but the background is expected.
        lights: ``PLAIN`` or keys of ``LIGHTS``.
    """
    models = {(name, light): _linear_model(name, light) for name in BACKGROUNDS for light in lights}
    fits = {key: model.fit(view.smooth, outside) for key, model in models.items()}
    best = min(fits, key=lambda key: fits[key][1])
    return Backdrop(*best, models[best].canvas(fits[best][0]), models[best].tolerance)


@lru_cache(maxsize=len(BACKGROUNDS) * (1 + len(LIGHTS)))
def _linear_model(name: str, light: str) -> _LinearModel:
    return _learn(name) if light == PLAIN else _linear_model(name, PLAIN).under(light)


def _learn(name: str) -> _LinearModel:
    rng = np.random.default_rng((_SEED, list(BACKGROUNDS).index(name)))
    rows = np.stack([_render(name, rng) for _ in range(_RENDERINGS + _HELD_OUT)])
    learnt, held_out = rows[:_RENDERINGS].reshape(_RENDERINGS, -1), rows[_RENDERINGS:]
    mean = learnt.mean(0)
    centred = learnt - mean
    variances, vectors = np.linalg.eigh(centred @ centred.T / _RENDERINGS)
    directions = vectors[:, -_COMPONENTS:].T @ centred
    scales = np.sqrt(np.maximum(variances[-_COMPONENTS:], 0))
    components = directions / np.linalg.norm(directions, axis=1, keepdims=True) * scales[:, None]
    shape = rows.shape[1:]
    model = _LinearModel(mean.reshape(shape), components.astype(np.float32).reshape(-1, *shape), held_out[:0, 0])
    everywhere = np.ones(shape[:2], bool)
    residuals = [(row - model.canvas(model.fit(row, everywhere)[0]))[::_STRIDE, ::_STRIDE] for row in held_out]
    return _LinearModel(model.mean, model.components, np.stack(residuals).reshape(_HELD_OUT, -1, 3))


def _render(name: str, rng: np.random.Generator) -> Opponent:
    canvas = np.clip(BACKGROUNDS[name](rng, _RENDER_SIDE), 0, 255).astype(np.float32)
    return low_pass(rgb_to_opponent(cv2.resize(canvas, (SIDE, SIDE), interpolation=cv2.INTER_AREA)))


def _affine(light: str) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, " 3"]]:
    """A light on opponent colours: ``colours @ matrix + offset``."""
    offset = LIGHTS[light](np.zeros((1, 1, 3), np.float32))[0, 0]
    matrix = LIGHTS[light](np.eye(3, dtype=np.float32)[None])[0] - offset
    return np.linalg.inv(OPPONENT.T) @ matrix @ OPPONENT.T, offset @ OPPONENT.T
