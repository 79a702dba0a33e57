"""Backgrounds that a prompt can name, drawn for every scene with numpy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

Canvas = Float[np.ndarray, "height width 3"]
Painter = Callable[[np.random.Generator, int], Canvas]

_SKY_TOP, _SKY_LOW = (90, 170, 235), (190, 225, 250)


def _colour(rng: np.random.Generator, base: tuple[int, int, int], spread: float = 10.0) -> Float[np.ndarray, " 3"]:
    return np.clip(np.asarray(base, np.float32) + rng.normal(0.0, spread, 3), 0, 255).astype(np.float32)


def _gradient(size: int, top: Float[np.ndarray, " 3"], low: Float[np.ndarray, " 3"]) -> Canvas:
    weight = np.linspace(0.0, 1.0, size, dtype=np.float32)[:, None, None]
    return np.broadcast_to(top * (1 - weight) + low * weight, (size, size, 3)).copy()


def _horizon(rng: np.random.Generator, size: int, low: float = 0.45, high: float = 0.62) -> int:
    return int(size * rng.uniform(low, high))


def _discs(
    canvas: Canvas, rng: np.random.Generator, count: int, radii: tuple[float, float], colour: tuple[int, int, int]
) -> None:
    """Paint ``count`` soft discs; radii are in shares of the side."""
    size = canvas.shape[0]
    for _ in range(count):
        row, column = rng.uniform(0, size, 2)
        radius = rng.uniform(*radii) * size
        top, left = max(0, int(row - radius) - 1), max(0, int(column - radius) - 1)
        window = canvas[top : int(row + radius) + 2, left : int(column + radius) + 2]
        rows = np.arange(top, top + window.shape[0], dtype=np.float32)[:, None]
        columns = np.arange(left, left + window.shape[1], dtype=np.float32)[None]
        opacity = np.clip(radius - np.hypot(rows - row, columns - column) + 0.5, 0, 1)[..., None]
        window[:] = window * (1 - opacity) + np.asarray(colour, np.float32) * opacity


def _beach(rng: np.random.Generator, size: int) -> Canvas:
    canvas = _gradient(size, _colour(rng, _SKY_TOP), _colour(rng, _SKY_LOW))
    sea = _horizon(rng, size, 0.38, 0.5)
    sand = sea + int(size * rng.uniform(0.1, 0.18))
    canvas[sea:sand] = _colour(rng, (40, 120, 190))
    canvas[sand:] = _colour(rng, (235, 210, 150))
    return canvas


def _forest(rng: np.random.Generator, size: int) -> Canvas:
    canvas = _gradient(size, _colour(rng, (70, 120, 70)), _colour(rng, (40, 85, 45)))
    for _ in range(int(rng.integers(5, 9))):
        left = int(rng.uniform(-0.03, 0.97) * size)
        width = int(size * rng.uniform(0.04, 0.08))
        canvas[:, max(left, 0) : max(left + width, 0)] = _colour(rng, (85, 60, 40), 8)
    canvas[_horizon(rng, size, 0.7, 0.8) :] = _colour(rng, (55, 95, 40))
    return canvas


def _snow(rng: np.random.Generator, size: int) -> Canvas:
    canvas = _gradient(size, _colour(rng, (165, 190, 215), 8), _colour(rng, (205, 220, 235), 8))
    canvas[_horizon(rng, size) :] = _colour(rng, (245, 248, 252), 3)
    _discs(canvas, rng, 14, (0.008, 0.018), (255, 255, 255))
    return canvas


def _desert(rng: np.random.Generator, size: int) -> Canvas:
    canvas = _gradient(size, _colour(rng, (250, 205, 120)), _colour(rng, (252, 230, 180)))
    columns = np.arange(size, dtype=np.float32)
    for depth in (0.5, 0.68):
        phase, waves = rng.uniform(0, 6.28), rng.uniform(1, 2)
        crest = size * (depth + 0.05 * np.sin(columns / size * 6.28 * waves + phase))
        below = np.arange(size)[:, None] >= crest[None]
        canvas[below] = _colour(rng, (215, 140, 70) if depth == 0.5 else (190, 115, 55), 8)
    return canvas


def _meadow(rng: np.random.Generator, size: int) -> Canvas:
    canvas = _gradient(size, _colour(rng, _SKY_TOP), _colour(rng, _SKY_LOW))
    horizon = _horizon(rng, size)
    canvas[horizon:] = _colour(rng, (120, 190, 70))
    flowers = canvas[horizon:].shape[0]
    for _ in range(12):
        row, column = horizon + int(rng.uniform(0.1, 1) * flowers), int(rng.uniform(0, size))
        canvas[row - 1 : row + 2, column : column + 3] = _colour(rng, (250, 240, 250), 5)
    return canvas


def _water(rng: np.random.Generator, size: int) -> Canvas:
    canvas = _gradient(size, _colour(rng, (40, 150, 190)), _colour(rng, (10, 60, 120)))
    _discs(canvas, rng, 10, (0.01, 0.03), (150, 215, 235))
    return canvas


def _city(rng: np.random.Generator, size: int) -> Canvas:
    canvas = _gradient(size, _colour(rng, (160, 175, 195)), _colour(rng, (205, 210, 220)))
    left = 0
    while left < size:
        width = int(size * rng.uniform(0.12, 0.22))
        top = int(size * rng.uniform(0.15, 0.45))
        canvas[top:, left : left + width] = _colour(rng, (110, 110, 120), 16)
        canvas[top + 4 :: 8, left + 3 : left + width - 3 : 6] = _colour(rng, (150, 148, 140), 6)
        left += width
    canvas[int(size * 0.82) :] = _colour(rng, (75, 75, 80), 6)
    return canvas


def _table(rng: np.random.Generator, size: int) -> Canvas:
    canvas = np.empty((size, size, 3), np.float32)
    canvas[:] = _colour(rng, (240, 230, 215), 8)
    edge = _horizon(rng, size, 0.4, 0.52)
    canvas[edge:] = _colour(rng, (150, 95, 50))
    board = int(size * rng.uniform(0.1, 0.14))
    for row in range(edge, size, board):
        canvas[row : row + 1] *= 0.7
    return canvas


def _space(rng: np.random.Generator, size: int) -> Canvas:
    canvas = _gradient(size, _colour(rng, (15, 10, 40), 6), _colour(rng, (40, 20, 75), 8))
    _discs(canvas, rng, 26, (0.004, 0.012), (250, 250, 235))
    return canvas


def _bricks(rng: np.random.Generator, size: int) -> Canvas:
    canvas = np.empty((size, size, 3), np.float32)
    canvas[:] = _colour(rng, (165, 75, 60))
    height, width = int(size * rng.uniform(0.07, 0.09)), int(size * rng.uniform(0.16, 0.2))
    mortar = _colour(rng, (190, 130, 115), 6)
    for course, row in enumerate(range(0, size, height)):
        canvas[row : row + 2] = mortar
        for column in range((course % 2) * width // 2, size, width):
            canvas[row : row + height, column : column + 2] = mortar
    return canvas


def _curtain(rng: np.random.Generator, size: int) -> Canvas:
    columns = np.arange(size, dtype=np.float32) / size
    folds = 0.78 + 0.22 * np.sin(columns * 6.28 * rng.uniform(5, 7) + rng.uniform(0, 6.28))
    canvas = np.empty((size, size, 3), np.float32)
    canvas[:] = _colour(rng, (225, 120, 165))
    return canvas * folds[None, :, None]


BACKGROUNDS: dict[str, Painter] = {
    "on the beach": _beach,
    "in the forest": _forest,
    "in the snow": _snow,
    "in the desert": _desert,
    "on a meadow": _meadow,
    "under water": _water,
    "in the city": _city,
    "on a wooden table": _table,
    "in space": _space,
    "in front of a brick wall": _bricks,
    "in front of a pink curtain": _curtain,
}
