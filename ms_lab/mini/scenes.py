"""Composed scenes: sprites on a named background, with a caption, boxes and references.

What the caption names (background, treatment) is drawn into the target and never into the reference; what the
reference shows (the artist's drawing, its colours) is not in the caption. Pasting the reference would be wrong
wherever a treatment is named. Where the background itself is a subject, its reference shows it and the caption says no
more than ``in this place``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ms_core.spec import WHOLE_PICTURE
from ms_lab.data.records import SubjectRecord, TrainingSample
from ms_lab.data.run_lengths import run_lengths
from ms_lab.mini.painting import box_around, cut_centre, light, loosen, paint_backdrop, paint_sprite, turn_hue
from ms_lab.mini.sprites import SpritePack
from ms_lab.mini.variation import Variation, vary

# How a caption names a scene subject: the words, and the phrase within them.
IN_THIS_PLACE, PLACE = "in this place", "place"


@dataclass(frozen=True, slots=True)
class SceneConfig:
    """Numbers of the composed scenes.

    Attributes:
        reference_size: side of the reference, in pixels.
        box_margin: a box may exceed its sprite on each side by up to this share of the sprite's side.
        loose: share of the boxes that are made up to twice as wide or as high, their sprite in the middle.
    """

    reference_size: int = 64
    box_margin: float = 0.06
    loose: float = 0.0


@dataclass(frozen=True, slots=True)
class Placement:
    """One sprite in a scene.

    Attributes:
        sprite: index in the pack.
        colour_turn: hue turn in degrees, the same in target and reference.
        centre: row and column, as shares of the picture's height and width.
        size: of the longer side, as a share of the picture's shorter side.
        mirrored: whether the target shows it mirrored; the reference never is.
        variation: of the drawing, the same in target and reference.
    """

    sprite: int
    colour_turn: float
    centre: tuple[float, float]
    size: float
    mirrored: bool = False
    variation: Variation | None = None


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that decides a composed picture.

    Attributes:
        placements: of the sprites, in the order of the caption; later ones are in front.
        background: a key of ``BACKGROUNDS``.
        treatment: one of ``TREATMENTS``, or ``PLAIN``.
        seed: of the background's own draw, the boxes' margins and the references' sizes.
        height, width: in pixels.
        scene_subject: whether the background is a subject, too: the last one, with the whole picture for its box.
    """

    placements: tuple[Placement, ...]
    background: str
    treatment: str
    seed: int
    height: int
    width: int
    scene_subject: bool = False


def caption_of(phrases: Sequence[str], where: str, treatment: str) -> tuple[str, tuple[tuple[int, int], ...]]:
    """The caption ``a cat and a teapot on the beach, at night`` and each phrase's character span.

    Args:
        phrases: at least one.
        where: a key of ``BACKGROUNDS``, or ``IN_THIS_PLACE``.
        treatment: one of ``TREATMENTS``, or ``PLAIN``.
    """
    text = ""
    spans: list[tuple[int, int]] = []
    for index, phrase in enumerate(phrases):
        if index:
            text += " and " if index == len(phrases) - 1 else ", "
        text += "an " if phrase[0] in "aeiou" else "a "
        spans.append((len(text), len(text) + len(phrase)))
        text += phrase
    text += f" {where}"
    return (f"{text}, {treatment}" if treatment else text), tuple(spans)


class SceneComposer:
    """Paints scenes with the drawings of a sprite pack."""

    def __init__(self, pack: SpritePack, config: SceneConfig | None = None) -> None:
        self.pack = pack
        self.config = config if config is not None else SceneConfig()

    def sample(self, scene: Scene, split: str = "train") -> TrainingSample:
        """Paint a scene: target, caption, boxes, silhouettes and references."""
        rng = np.random.default_rng(scene.seed)
        backdrop = paint_backdrop(scene.background, rng, max(scene.height, scene.width))
        canvas = cut_centre(backdrop, scene.height, scene.width)
        sprites = [self.pack.sprites[placement.sprite] for placement in scene.placements]
        where = IN_THIS_PLACE if scene.scene_subject else scene.background
        caption, spans = caption_of([sprite.phrase for sprite in sprites], where, scene.treatment)
        subjects = [
            self._paint_subject(canvas, placement, span, scene.treatment, rng)
            for placement, span in zip(scene.placements, spans, strict=True)
        ]
        if scene.scene_subject:
            subjects.append(self._scene_subject(scene, backdrop, caption))
        canvas = light(canvas, scene.treatment)
        licence = " AND ".join(sorted({sprite.licence for sprite in sprites}))
        return TrainingSample(
            canvas, caption, scene.height, scene.width, tuple(subjects), "composed scene", licence, split
        )

    def reference(self, picture: Image.Image, fill: float) -> Image.Image:
        """The reference picture: the sprite alone on white, upright, filling this share of the side."""
        side = self.config.reference_size
        inner = max(1, round(side * fill))
        canvas = Image.new("RGB", (side, side), (255, 255, 255))
        resized = picture.resize((inner, inner), Image.Resampling.BILINEAR, reducing_gap=2.0)
        offset = (side - inner) // 2
        canvas.paste(resized, (offset, offset), resized)
        return canvas

    def _paint_subject(
        self,
        canvas: Image.Image,
        placement: Placement,
        span: tuple[int, int],
        treatment: str,
        rng: np.random.Generator,
    ) -> SubjectRecord:
        """Paint one sprite onto the canvas in place; ``rng`` decides its box's margins and its reference's size."""
        sprite = self.pack.sprites[placement.sprite]
        drawing = vary(turn_hue(self.pack.pictures[placement.sprite], placement.colour_turn), placement.variation)
        silhouette = paint_sprite(
            canvas, drawing, placement.centre, placement.size, treatment, mirrored=placement.mirrored
        )
        box = box_around(silhouette, rng.uniform(0, self.config.box_margin, 4).tolist())
        # Where no box is loose, nothing is drawn for it: the bench's scenes stay as they are.
        if self.config.loose and rng.random() < self.config.loose:
            box = loosen(box, float(rng.uniform(1, 2)), upright=bool(rng.random() < 0.5))
        return SubjectRecord(
            phrase=sprite.phrase,
            phrase_span=span,
            box=box,
            mask=run_lengths(silhouette),
            reference=self.reference(drawing, rng.uniform(0.7, 0.95)),
            reference_source=f"{sprite.artist}/{sprite.name}",
        )

    def _scene_subject(self, scene: Scene, backdrop: Image.Image, caption: str) -> SubjectRecord:
        """The background as a subject: its reference is the whole square backdrop, without sprites and treatment."""
        side = self.config.reference_size
        end = caption.rindex(IN_THIS_PLACE) + len(IN_THIS_PLACE)
        return SubjectRecord(
            phrase=PLACE,
            phrase_span=(end - len(PLACE), end),
            box=WHOLE_PICTURE,
            mask=(0, scene.height * scene.width),
            reference=backdrop.resize((side, side), Image.Resampling.BOX),
            reference_source=f"background/{scene.background}",
        )
