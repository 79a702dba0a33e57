"""Random scenes to train on: what stands where, how large, and on what background."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from ms_lab.mini.backgrounds import BACKGROUNDS
from ms_lab.mini.painting import LIGHTS, PLAIN, POSES
from ms_lab.mini.scenes import Placement, Scene
from ms_lab.mini.sprites import SpritePack
from ms_lab.mini.variation import draw_variation

# Shares of the shorter side.
_TINY, _HUGE = (0.16, 0.28), (0.65, 0.95)
_USUAL_OVERLAP, _LARGE_OVERLAP = 0.1, 0.5
_TRIES, _SHRINK = 40, 0.8


@dataclass(frozen=True, slots=True)
class SceneKind:
    """What all scenes of one batch have in common, because a batch is one tensor.

    Attributes:
        share: of the batches.
        height, width: in pixels.
        subjects: weights of one, two, three, ... subjects.
        sizes: least and largest usual size of a sprite, as shares of the shorter side.
    """

    share: float
    height: int = 128
    width: int = 128
    subjects: tuple[float, ...] = (0.125, 0.5, 0.25, 0.125)
    sizes: tuple[float, float] = (0.28, 0.65)


MANY_SUBJECTS = (0, 0, 0, 0.25, 0.25, 0.25, 0.125, 0.125)
# What users ask for.
USUAL = (
    SceneKind(0.25),
    SceneKind(0.05, 96, 160),
    SceneKind(0.05, 160, 96),
    SceneKind(0.1, subjects=MANY_SUBJECTS, sizes=(0.2, 0.4)),
)
# Most of a large picture is background, which is learnt soon: a close-up shows its subject as large, in less than half the
# time.
CLOSE_UP = SceneKind(0.55, 80, 80, subjects=(0.625, 0.375), sizes=(0.45, 0.95))


@dataclass(frozen=True, slots=True)
class SceneOdds:
    """How often a training scene has what.

    Attributes:
        kinds: of batches.
        extreme: one sprite is tiny or huge.
        overlap: boxes may cover each other by up to a half, else by up to a tenth of the smaller one.
        twins: the first two subjects are the same thing by two artists.
        scene_subject: the last subject is the background itself.
        treatment, colour_turn, variation: each of a scene, a subject, a subject.
        pose: of a treatment: it turns the subjects and is not a light, which is learnt more quickly.
        box_margin: a box may exceed its sprite on each side by up to this share of the sprite's side.
        loose: of a subject: its box is made up to twice as wide or as high, its sprite in the middle.
    """

    kinds: tuple[SceneKind, ...] = (*USUAL, CLOSE_UP)
    extreme: float = 0.15
    overlap: float = 0.15
    twins: float = 0.15
    scene_subject: float = 0.06
    treatment: float = 0.35
    pose: float = 0.6
    colour_turn: float = 0.5
    variation: float = 0.5
    box_margin: float = 0.03
    loose: float = 0.4


# What telemetry and sheets look at: usual scenes without treatment, of drawings as they are.
PLAIN_SCENES = SceneOdds(
    kinds=(SceneKind(1.0),),
    extreme=0.0,
    overlap=0.0,
    twins=0.0,
    scene_subject=0.0,
    treatment=0.0,
    variation=0.0,
    loose=0.0,
)


class SceneDrawer:
    """Draws scenes from a sprite pack."""

    def __init__(self, pack: SpritePack, odds: SceneOdds) -> None:
        self._pack = pack
        self._odds = odds
        self._concepts = sorted(pack.by_concept)
        self._drawn_twice = [concept for concept in self._concepts if len(pack.by_concept[concept]) > 1]

    def kind(self, rng: np.random.Generator) -> SceneKind:
        """Of one batch."""
        shares = np.asarray([kind.share for kind in self._odds.kinds])
        return self._odds.kinds[int(rng.choice(len(shares), p=shares / shares.sum()))]

    def draw(self, rng: np.random.Generator, num_subjects: int, kind: SceneKind) -> Scene:
        """A random scene of this many subjects, a scene subject included; concepts are drawn evenly, then an artist."""
        odds = self._odds
        scene_subject = num_subjects > 1 and bool(rng.random() < odds.scene_subject)
        sprites = self._sprites(rng, num_subjects - scene_subject)
        places = _draw_places(rng, len(sprites), kind, odds)
        return Scene(
            placements=tuple(self._place(rng, sprite, *place) for sprite, place in zip(sprites, places, strict=True)),
            background=str(rng.choice(list(BACKGROUNDS))),
            treatment=self._treatment(rng) if rng.random() < odds.treatment else PLAIN,
            seed=int(rng.integers(2**31)),
            height=kind.height,
            width=kind.width,
            scene_subject=scene_subject,
        )

    def _treatment(self, rng: np.random.Generator) -> str:
        return str(rng.choice(POSES if rng.random() < self._odds.pose else list(LIGHTS)))

    def _sprites(self, rng: np.random.Generator, count: int) -> list[int]:
        chosen = rng.choice(len(self._concepts), size=count, replace=len(self._concepts) < count)
        sprites = [int(rng.choice(self._pack.by_concept[self._concepts[index]])) for index in chosen]
        if count > 1 and self._drawn_twice and rng.random() < self._odds.twins:
            concept = self._drawn_twice[int(rng.integers(len(self._drawn_twice)))]
            sprites[:2] = rng.choice(self._pack.by_concept[concept], size=2, replace=False).tolist()
        return sprites

    def _place(self, rng: np.random.Generator, sprite: int, centre: tuple[float, float], size: float) -> Placement:
        turned, varied = rng.random() < self._odds.colour_turn, rng.random() < self._odds.variation
        return Placement(
            sprite=sprite,
            colour_turn=float(rng.uniform(30, 330)) if turned else 0.0,
            centre=centre,
            size=size,
            variation=draw_variation(rng) if varied else None,
        )


def _draw_places(
    rng: np.random.Generator, count: int, kind: SceneKind, odds: SceneOdds
) -> list[tuple[tuple[float, float], float]]:
    """Centre (row and column, shares of height and width) and size of each sprite; sizes shrink when there is no room."""
    allowed = _LARGE_OVERLAP if rng.random() < odds.overlap else _USUAL_OVERLAP
    sizes = rng.uniform(*kind.sizes, count) * (1.0 if count <= 2 else 0.85)
    if rng.random() < odds.extreme:
        sizes[rng.integers(count)] = rng.uniform(*(_TINY if rng.random() < 0.5 else _HUGE))
    # In units of the shorter side, in which sprites are square.
    extent = np.asarray((kind.height, kind.width), np.float64) / min(kind.height, kind.width)
    while True:
        for _ in range(_TRIES):
            centres = rng.uniform(sizes[:, None] / 2, extent - sizes[:, None] / 2, (count, 2))
            squares = [
                (row, column, size) for (row, column), size in zip(centres.tolist(), sizes.tolist(), strict=True)
            ]
            if largest_overlap(squares) <= allowed:
                return [((row / extent[0], column / extent[1]), size) for row, column, size in squares]
        sizes = np.maximum(sizes * _SHRINK, _TINY[0])


def largest_overlap(squares: list[tuple[float, float, float]]) -> float:
    """Largest share of the smaller of two squares (row, column, side; of equal units) that the other covers."""
    # Plain numbers: for four squares numpy's calls would take longer than all the painting.
    worst = 0.0
    for (row, column, size), (other_row, other_column, other_size) in itertools.combinations(squares, 2):
        reach, smaller = (size + other_size) / 2, min(size, other_size)
        rows = min(max(reach - abs(row - other_row), 0.0), smaller)
        columns = min(max(reach - abs(column - other_column), 0.0), smaller)
        worst = max(worst, rows * columns / smaller**2)
    return worst
