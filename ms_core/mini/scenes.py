"""Composed scenes: sprites on a named background, with a caption, boxes and references.

What the caption names (background, treatment) is drawn into the target and never into the reference; what the
reference shows (the artist's drawing, its colours) is not in the caption. Pasting the reference would be wrong
wherever a treatment is named.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image

from ms_core.data.records import SubjectRecord, TrainingSample
from ms_core.mini.backgrounds import BACKGROUNDS, Canvas
from ms_core.mini.sprites import SpritePack
from ms_core.spec import Box

PLAIN = ""
_LUMA = np.asarray([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True, slots=True)
class SceneConfig:
    """Numbers of the composed scenes.

    Attributes:
        size: side of the target, in pixels.
        reference_size: side of the reference, in pixels.
        min_size, max_size: of a sprite's longer side, as shares of the target's side.
        max_overlap: largest share of the smaller box that another box may cover.
        box_margin: a box may exceed its sprite on each side by up to this share of the sprite's side.
        p_treatment, p_colour_turn, p_mirror: how often each is applied.
        weights: of one, two, three, four subjects.
    """

    size: int = 128
    reference_size: int = 64
    min_size: float = 0.28
    max_size: float = 0.65
    max_overlap: float = 0.1
    box_margin: float = 0.06
    p_treatment: float = 0.3
    p_colour_turn: float = 0.5
    p_mirror: float = 0.3
    weights: tuple[float, float, float, float] = (0.125, 0.5, 0.25, 0.125)


@dataclass(frozen=True, slots=True)
class Placement:
    """One sprite in a scene.

    Attributes:
        sprite: index in the pack.
        colour_turn: hue turn in degrees, the same in target and reference.
        mirrored: whether the target shows it mirrored; the reference never is.
        centre: row and column, as shares of the side.
        size: of the longer side, as a share of the side.
    """

    sprite: int
    colour_turn: float
    mirrored: bool
    centre: tuple[float, float]
    size: float


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that decides a composed picture, but for the background's own draw (``seed``)."""

    placements: tuple[Placement, ...]
    background: str
    treatment: str
    seed: int


def _night(canvas: Canvas) -> Canvas:
    return canvas * np.asarray([0.28, 0.32, 0.55], np.float32)


def _sunset(canvas: Canvas) -> Canvas:
    return canvas * np.asarray([0.75, 0.5, 0.4], np.float32) + np.asarray([64, 26, 0], np.float32)


def _sepia(canvas: Canvas) -> Canvas:
    return (canvas @ _LUMA)[..., None] * np.asarray([1.0, 0.85, 0.62], np.float32)


def _black_and_white(canvas: Canvas) -> Canvas:
    return np.repeat((canvas @ _LUMA)[..., None], 3, axis=-1)


LIGHTS: dict[str, Callable[[Canvas], Canvas]] = {
    "at night": _night,
    "at sunset": _sunset,
    "in sepia": _sepia,
    "in black and white": _black_and_white,
}
POSES = ("upside down", "tilted")
TREATMENTS = (*LIGHTS, *POSES)
TILT_DEGREES = 30.0


def turn_hue(picture: Image.Image, degrees: float) -> Image.Image:
    """The picture with every colour's hue turned; brightness and transparency stay."""
    if degrees == 0.0:
        return picture
    alpha = picture.getchannel("A")
    hue, saturation, value = picture.convert("RGB").convert("HSV").split()
    shift = round(degrees / 360.0 * 256.0)
    turned = Image.merge(
        "HSV", (hue.point([(level + shift) % 256 for level in range(256)]), saturation, value)
    ).convert("RGB")
    turned.putalpha(alpha)
    return turned


def caption_of(phrases: Sequence[str], background: str, treatment: str) -> tuple[str, tuple[tuple[int, int], ...]]:
    """The caption ``a cat and a teapot on the beach, at night`` and each phrase's character span."""
    text = ""
    spans: list[tuple[int, int]] = []
    for index, phrase in enumerate(phrases):
        if index:
            text += " and " if index == len(phrases) - 1 else ", "
        text += "an " if phrase[0] in "aeiou" else "a "
        spans.append((len(text), len(text) + len(phrase)))
        text += phrase
    text += f" {background}"
    return (f"{text}, {treatment}" if treatment else text), tuple(spans)


class SceneComposer:
    """Draws scenes from a sprite pack and paints them."""

    def __init__(self, pack: SpritePack, config: SceneConfig | None = None) -> None:
        self.pack = pack
        self.config = config if config is not None else SceneConfig()
        self._concepts = sorted(pack.by_concept)

    def draw(self, rng: np.random.Generator, num_subjects: int | None = None) -> Scene:
        """A random scene; concepts are drawn evenly, then an artist."""
        config = self.config
        count = num_subjects if num_subjects is not None else int(rng.choice(4, p=config.weights)) + 1
        chosen = rng.choice(len(self._concepts), size=count, replace=len(self._concepts) < count)
        places = _draw_places(rng, count, config)
        placements = tuple(
            Placement(
                sprite=int(rng.choice(self.pack.by_concept[self._concepts[index]])),
                colour_turn=float(rng.uniform(30, 330)) if rng.random() < config.p_colour_turn else 0.0,
                mirrored=bool(rng.random() < config.p_mirror),
                centre=(row, column),
                size=size,
            )
            for index, (row, column, size) in zip(chosen, places, strict=True)
        )
        treatment = str(rng.choice(TREATMENTS)) if rng.random() < config.p_treatment else PLAIN
        return Scene(placements, str(rng.choice(list(BACKGROUNDS))), treatment, int(rng.integers(2**31)))

    def sample(self, scene: Scene, split: str = "train") -> TrainingSample:
        """Paint a scene: target, caption, boxes, silhouettes and references."""
        size = self.config.size
        rng = np.random.default_rng(scene.seed)
        canvas = _to_image(BACKGROUNDS[scene.background](rng, size))
        sprites = [self.pack.sprites[placement.sprite] for placement in scene.placements]
        caption, spans = caption_of([sprite.phrase for sprite in sprites], scene.background, scene.treatment)
        subjects: list[SubjectRecord] = []
        for placement, sprite, span in zip(scene.placements, sprites, spans, strict=True):
            picture = turn_hue(self.pack.pictures[placement.sprite], placement.colour_turn)
            silhouette = self._paint(canvas, picture, placement, scene.treatment)
            subjects.append(
                SubjectRecord(
                    phrase=sprite.phrase,
                    phrase_span=span,
                    box=_box_around(silhouette, rng, self.config.box_margin),
                    mask=run_lengths(silhouette),
                    reference=self.reference(picture, rng.uniform(0.7, 0.95)),
                    reference_source=f"{sprite.artist}/{sprite.name}",
                )
            )
        if scene.treatment in LIGHTS:
            canvas = _to_image(LIGHTS[scene.treatment](np.asarray(canvas, np.float32)))
        licence = " AND ".join(sorted({sprite.licence for sprite in sprites}))
        return TrainingSample(canvas, caption, size, size, tuple(subjects), "composed scene", licence, split)

    def reference(self, picture: Image.Image, fill: float) -> Image.Image:
        """The reference picture: the sprite alone on white, upright, filling this share of the side."""
        side = self.config.reference_size
        inner = max(1, round(side * fill))
        canvas = Image.new("RGB", (side, side), (255, 255, 255))
        resized = picture.resize((inner, inner), Image.Resampling.BILINEAR, reducing_gap=2.0)
        offset = (side - inner) // 2
        canvas.paste(resized, (offset, offset), resized)
        return canvas

    def exchange(self, scene: Scene) -> Scene:
        """The scene with the sprites of its first two places exchanged."""
        first, second, *rest = scene.placements
        swapped = (
            replace(first, sprite=second.sprite, colour_turn=second.colour_turn),
            replace(second, sprite=first.sprite, colour_turn=first.colour_turn),
        )
        return replace(scene, placements=(*swapped, *rest))

    def _paint(
        self, canvas: Image.Image, picture: Image.Image, placement: Placement, treatment: str
    ) -> Bool[np.ndarray, "size size"]:
        """Paint one sprite onto the canvas in place; returns its silhouette."""
        size = self.config.size
        side = max(4, round(size * placement.size))
        picture = picture.resize((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)
        if placement.mirrored:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if treatment == "upside down":
            picture = picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
        if treatment == "tilted":
            angle = -TILT_DEGREES if placement.mirrored else TILT_DEGREES
            picture = picture.rotate(angle, Image.Resampling.BILINEAR, expand=True)
        row, column = placement.centre
        corner = (round(column * size - picture.width / 2), round(row * size - picture.height / 2))
        alpha = Image.new("L", canvas.size)
        alpha.paste(picture.getchannel("A"), corner)
        canvas.paste(picture, corner, picture)
        return np.asarray(alpha) > 64


def _to_image(canvas: Canvas) -> Image.Image:
    return Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))


def _draw_places(rng: np.random.Generator, count: int, config: SceneConfig) -> list[tuple[float, float, float]]:
    """Row, column and size of each sprite, by rejection; sizes shrink when there is no room."""
    shrink = 1.0 if count <= 2 else 0.85
    while True:
        for _ in range(40):
            sizes = rng.uniform(config.min_size, max(config.min_size, config.max_size * shrink), count)
            centres = rng.uniform(sizes[:, None] / 2, 1 - sizes[:, None] / 2, (count, 2))
            if _largest_overlap(centres, sizes) <= config.max_overlap:
                return [(float(row), float(column), float(s)) for (row, column), s in zip(centres, sizes, strict=True)]
        shrink *= 0.8


def _largest_overlap(centres: Float[np.ndarray, "n 2"], sizes: Float[np.ndarray, " n"]) -> float:
    """Largest share of the smaller of two squares that the other covers."""
    worst = 0.0
    for i in range(len(sizes)):
        for j in range(i):
            reach = (sizes[i] + sizes[j]) / 2 - np.abs(centres[i] - centres[j])
            common = np.clip(reach, 0, min(sizes[i], sizes[j]))
            worst = max(worst, float(common[0] * common[1]) / float(min(sizes[i], sizes[j]) ** 2))
    return worst


def _box_around(silhouette: Bool[np.ndarray, "height width"], rng: np.random.Generator, margin: float) -> Box:
    """The silhouette's box, each side moved outward by a random share of up to ``margin``."""
    height, width = silhouette.shape
    rows, columns = np.flatnonzero(silhouette.any(1)), np.flatnonzero(silhouette.any(0))
    if not len(rows):
        return Box(0.0, 0.0, 1.0, 1.0)
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    grow = rng.uniform(0, margin, 4)
    return Box(
        max(0.0, float(left - grow[0] * (right - left)) / width),
        max(0.0, float(top - grow[1] * (bottom - top)) / height),
        min(1.0, float(right + grow[2] * (right - left)) / width),
        min(1.0, float(bottom + grow[3] * (bottom - top)) / height),
    )


def run_lengths(mask: Bool[np.ndarray, "height width"]) -> tuple[int, ...]:
    """Run lengths of a boolean array over its rows, the first run False."""
    flat = np.concatenate([[False], mask.ravel(), [not mask.ravel()[-1]]])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    return tuple(int(length) for length in np.diff(np.concatenate([[0], edges])))
