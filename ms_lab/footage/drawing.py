"""Shots to frames: pixels, and what can be seen of each actor."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont

from ms_lab.data.items import Mask, Pixels
from ms_lab.footage.script import Actor, Film, Look, Pose, Shot
from ms_lab.mini.backgrounds import BACKGROUNDS
from ms_lab.mini.painting import turn_hue
from ms_lab.mini.sprites import SpritePack
from ms_lab.mini.variation import vary

_OPAQUE = 0.25
_Layer = Float[np.ndarray, "height width 4"]


class Appearance(NamedTuple):
    """What a frame shows of one actor.

    Attributes:
        actor: it.
        look: its look at this time.
        pose: its pose.
        mask: where it can be seen.
        visible: share of the whole drawing, outside the frame too, that can be seen.
        cut: share of it that lies outside the frame.
    """

    actor: Actor
    look: Look
    pose: Pose
    mask: Mask
    visible: float
    cut: float


@dataclass(frozen=True, slots=True)
class Painted:
    """One frame of a film.

    Attributes:
        shot: number of its shot.
        time_s: in the film.
        shot_time_s: in the shot.
        pixels: RGB.
        seen: its actors, the hindmost first.
    """

    shot: int
    time_s: float
    shot_time_s: float
    pixels: Pixels
    seen: tuple[Appearance, ...]


class Painter:
    """Paints films with the drawings of a pack."""

    def __init__(self, pack: SpritePack) -> None:
        self.pack = pack
        self._drawing = lru_cache(maxsize=256)(self._make_drawing)

    def frames(self, film: Film) -> Iterator[Painted]:
        """All frames of a film."""
        count = 0
        for number, shot in enumerate(film.shots):
            backdrop = self._backdrop(shot, film)
            for step in range(round(shot.duration_s * film.frames_per_s)):
                time_s = step / film.frames_per_s
                pixels, seen = self._frame(shot, film, backdrop, time_s)
                yield Painted(number, count / film.frames_per_s, time_s, pixels, seen)
                count += 1

    def _frame(
        self, shot: Shot, film: Film, backdrop: Float[np.ndarray, "h w 3"], time_s: float
    ) -> tuple[Pixels, tuple[Appearance, ...]]:
        canvas = backdrop.copy()
        solid: list[tuple[Actor, Look, Pose, Mask, float]] = []
        for actor in shot.actors:
            look, pose = actor.look_at(time_s, shot.duration_s), actor.motion.at(time_s)
            layer = self._place(look, pose, actor.blur, film.height, film.width)
            alpha = layer[..., 3:]
            canvas = canvas * (1 - alpha) + layer[..., :3]
            solid.append((actor, look, pose, alpha[..., 0] > _OPAQUE, self._whole(look, pose, film)))
        canvas, hidden = _with_bar(canvas, shot, time_s)
        canvas *= 1 + shot.light * math.sin(2 * math.pi * time_s / max(shot.duration_s, 1e-3))
        pixels = np.clip(canvas + film.brightness, 0, 255).astype(np.uint8)
        pixels = _with_text(pixels, shot.text)
        return pixels, _appearances(solid, hidden)

    def _backdrop(self, shot: Shot, film: Film) -> Float[np.ndarray, "h w 3"]:
        side = max(film.height, film.width)
        canvas = BACKGROUNDS[shot.background](np.random.default_rng(shot.seed), side)
        return canvas[: film.height, : film.width].astype(np.float32)

    def _make_drawing(self, look: Look) -> _Layer:
        picture = vary(turn_hue(self.pack.pictures[look.sprite], look.colour_turn), look.variation)
        pixels = np.asarray(picture, np.float32)
        alpha = pixels[..., 3:] / 255.0
        # Premultiplied, so that resampling mixes no colour of clear pixels.
        return np.concatenate([pixels[..., :3] * alpha, alpha], -1)

    def _place(self, look: Look, pose: Pose, blur: float, height: int, width: int) -> _Layer:
        """A drawing alone on a clear canvas."""
        drawing = self._drawing(look)
        side = drawing.shape[0]
        scale = pose.side * min(height, width) / side
        small = drawing if scale >= 0.5 else cv2.resize(drawing, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        scale *= side / small.shape[0]
        middle = (small.shape[1] - 1) / 2, (small.shape[0] - 1) / 2
        matrix = cv2.getRotationMatrix2D(middle, pose.degrees, scale)
        matrix[:, 2] += pose.x * width - middle[0], pose.y * height - middle[1]
        layer = cv2.warpAffine(small, matrix, (width, height), flags=cv2.INTER_LINEAR)
        return cv2.GaussianBlur(layer, (0, 0), blur) if blur else layer

    def _whole(self, look: Look, pose: Pose, film: Film) -> float:
        """Pixels that the drawing has at this size, wherever they are."""
        drawing = self._drawing(look)
        scale = pose.side * min(film.height, film.width) / drawing.shape[0]
        return float((drawing[..., 3] > _OPAQUE).sum()) * scale**2


def _appearances(solid: list[tuple[Actor, Look, Pose, Mask, float]], hidden: Mask) -> tuple[Appearance, ...]:
    found: list[Appearance] = []
    for index, (actor, look, pose, mask, whole) in enumerate(solid):
        free = mask & ~hidden
        for *_, other, _ in solid[index + 1 :]:
            free &= ~other
        inside, visible = float(mask.sum()), float(free.sum())
        cut = max(0.0, 1 - inside / max(whole, 1.0))
        found.append(Appearance(actor, look, pose, free, min(1.0, visible / max(whole, 1.0)), cut))
    return tuple(found)


def _with_bar(canvas: Float[np.ndarray, "h w 3"], shot: Shot, time_s: float) -> tuple[Float[np.ndarray, "h w 3"], Mask]:
    hidden = np.zeros(canvas.shape[:2], bool)
    if shot.bar is not None:
        left = round((shot.bar.x + shot.bar.speed * time_s) * canvas.shape[1])
        right = left + round(shot.bar.width * canvas.shape[1])
        hidden[:, max(0, left) : max(0, right)] = True
        canvas[hidden] = shot.bar.colour
    return canvas, hidden


def _with_text(pixels: Pixels, lines: tuple[str, ...]) -> Pixels:
    if not lines:
        return pixels
    picture = Image.fromarray(pixels)
    pen, size = ImageDraw.Draw(picture), max(14, picture.height // 11)
    font = ImageFont.load_default(size)
    for number, line in enumerate(lines):
        place = (round(picture.width * 0.04), round(picture.height * 0.08) + number * round(size * 1.4))
        pen.text(place, line, font=font, fill=(255, 255, 255), stroke_width=1, stroke_fill=(0, 0, 0))
    return np.asarray(picture)
