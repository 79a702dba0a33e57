"""Composed scenes in which some subjects are not what was asked for, and pictures as worn as a small model's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor
from torch.utils.data import IterableDataset

from ms_core.scoring.views import question_views, questions_of, to_planes
from ms_core.spec import Box
from ms_lab.data.records import TrainingSample
from ms_lab.data.run_lengths import from_run_lengths
from ms_lab.mini.batches import Share, subject_counts
from ms_lab.mini.painting import box_around, cut_centre, light, paint_backdrop, paint_sprite, turn_hue
from ms_lab.mini.random_scenes import SceneDrawer, SceneOdds
from ms_lab.mini.scenes import Placement, Scene, SceneComposer
from ms_lab.mini.sprites import SpritePack
from ms_lab.mini.variation import vary
from ms_lab.training.scorer.examples import KINDS, USUAL, ScorerExamples

# Of a subject's silhouette, the share that must be covered for something to stand there.
LEAST_COVERED = 0.25
# A subject that overlaps its place by less than the first is hardly recognised there; in between it is undecided.
_LEAST_OVERLAP, _GOOD_OVERLAP = 0.3, 0.6
_VISIBLE, _LOOK_SIDE = 25.0, 24

Mask = Bool[np.ndarray, "height width"]
# Pictures from -1 to 1 through a VAE, with noise of this strength on their latents, row by row.
Reconstruct = Callable[
    [Float[Tensor, "n 3 height width"], Float[Tensor, " n"], torch.Generator], Float[Tensor, "n 3 height width"]
]


@dataclass(frozen=True, slots=True)
class Spoiling:
    """How often a subject is spoiled in which way; the rest is as it should be.

    Attributes:
        left_out: nothing is there.
        other_drawing: the same thing, perhaps by another artist.
        other_thing: any drawing of the pack.
        recoloured: all its colours are turned.
        moved: it is elsewhere, or of another size.
        exchanged: of scenes, not of subjects: the first two subjects stand in each other's place.
    """

    left_out: float = 0.13
    other_drawing: float = 0.10
    other_thing: float = 0.08
    recoloured: float = 0.12
    moved: float = 0.13
    exchanged: float = 0.08


@dataclass(frozen=True, slots=True)
class SpoiledScene:
    """A picture that does not show all that was asked for.

    Attributes:
        picture: RGB.
        asked: the composite that shows all of it; its references and boxes are what is asked.
        answers, weights: as in ``ScorerExamples``, a row for each subject.
    """

    picture: Image.Image
    asked: TrainingSample
    answers: list[tuple[float, float, float]]
    weights: list[tuple[float, float, float]]


class SpoiledScenes(IterableDataset[ScorerExamples]):
    """Batches of examples: spoiled scenes, as worn as a model's pictures."""

    def __init__(self, pack: SpritePack, odds: SceneOdds, share: Share, side: int, reconstruct: Reconstruct) -> None:
        """Draw from a pack.

        Args:
            pack: of the artwork.
            odds: of the scenes; without scene subjects, which nobody asks about.
            share: which batches; ``batch_size`` counts pictures.
            side: of the views, in pixels.
            reconstruct: through the model's VAE.
        """
        super().__init__()
        self._spoiler = Spoiler(pack)
        self._drawer = SceneDrawer(pack, replace(odds, scene_subject=0.0))
        self._share, self._side, self._reconstruct = share, side, reconstruct

    def __iter__(self) -> Iterator[ScorerExamples]:
        return map(self.batch, self._share.numbers())

    def batch(self, number: int) -> ScorerExamples:
        """Batch of this number; the same seed and number always give the same batch."""
        rng = np.random.default_rng((self._share.seed, number))
        kind = self._drawer.kind(rng)
        counts = subject_counts(self._share.batch_size, kind.subjects)
        scenes = [self._spoiler.spoil(rng, self._drawer.draw(rng, count, kind)) for count in counts]
        worn = wear(rng, torch.stack([to_planes(scene.picture) for scene in scenes]), self._reconstruct)
        parts = [
            examples_of(scene, planes, row, self._side)
            for row, (scene, planes) in enumerate(zip(scenes, worn, strict=True))
        ]
        return ScorerExamples.joined(parts)


class Spoiler:
    """Spoils scenes of a pack."""

    def __init__(self, pack: SpritePack, spoiling: Spoiling | None = None) -> None:
        self._pack = pack
        self._spoiling = spoiling if spoiling is not None else Spoiling()
        self._composer = SceneComposer(pack)

    def spoil(self, rng: np.random.Generator, scene: Scene) -> SpoiledScene:
        """A scene, some of whose subjects are left out, exchanged for others, recoloured or elsewhere."""
        asked = self._composer.sample(scene)
        painted = [self._spoil_one(rng, placement) for placement in scene.placements]
        if len(painted) > 1 and rng.random() < self._spoiling.exchanged:
            first, second = scene.placements[:2]
            painted[:2] = [_moved_to(second, first), _moved_to(first, second)]
        canvas = cut_centre(
            paint_backdrop(scene.background, np.random.default_rng(scene.seed), max(scene.height, scene.width)),
            scene.height,
            scene.width,
        )
        shown = [
            None if placement is None else self._paint(canvas, placement, scene.treatment) for placement in painted
        ]
        true = [from_run_lengths(subject.mask or (), scene.height, scene.width) for subject in asked.subjects]
        answers: list[tuple[float, float, float]] = []
        weights: list[tuple[float, float, float]] = []
        for index, placement in enumerate(scene.placements):
            present = _stands_there(index, true, shown)
            overlap = _overlap(true[index], shown[index]) if present else 0.0
            known = self._identity(placement, painted[index], overlap)
            answers.append((float(present), float(known or 0.0), overlap))
            weights.append((1.0, float(known is not None), 1.0))
        return SpoiledScene(light(canvas, scene.treatment), asked, answers, weights)

    def _spoil_one(self, rng: np.random.Generator, placement: Placement) -> Placement | None:
        """What is painted in place of a subject; ``None`` for nothing."""
        odds = self._spoiling
        shares = np.cumsum([odds.left_out, odds.other_drawing, odds.other_thing, odds.recoloured, odds.moved])
        same_thing = self._pack.by_concept[self._pack.sprites[placement.sprite].concept]
        spoiled = (
            lambda: None,
            lambda: replace(placement, sprite=int(rng.choice(same_thing))),
            lambda: replace(placement, sprite=int(rng.integers(len(self._pack)))),
            lambda: replace(placement, colour_turn=(placement.colour_turn + float(rng.uniform(60, 300))) % 360),
            lambda: _moved(rng, placement),
            lambda: placement,
        )
        return spoiled[int(np.searchsorted(shares, rng.random(), side="right"))]()

    def _paint(self, canvas: Image.Image, placement: Placement, treatment: str) -> Mask:
        return paint_sprite(
            canvas, self._drawing(placement), placement.centre, placement.size, treatment, mirrored=placement.mirrored
        )

    def _drawing(self, placement: Placement) -> Image.Image:
        return vary(turn_hue(self._pack.pictures[placement.sprite], placement.colour_turn), placement.variation)

    def _identity(self, asked: Placement, painted: Placement | None, overlap: float) -> bool | None:
        """Whether it is the subject that was asked for; ``None`` where that is undecided."""
        if painted is None or overlap < _LEAST_OVERLAP:
            return False
        if _same_drawing(asked, painted):
            return True if overlap >= _GOOD_OVERLAP else None
        return False if _differ_visibly(self._drawing(asked), self._drawing(painted)) else None


def examples_of(scene: SpoiledScene, planes: Float[Tensor, "3 height width"], number: int, side: int) -> ScorerExamples:
    """The examples of one picture, whose planes run from -1 to 1."""
    subjects = scene.asked.subjects
    questions = questions_of([(subject.reference,) for subject in subjects], [subject.box for subject in subjects])
    return ScorerExamples(
        *question_views(planes, questions, side),
        torch.tensor(scene.answers),
        torch.tensor(scene.weights),
        torch.full((len(subjects),), number),
        torch.full((len(subjects),), KINDS.index(USUAL)),
    )


def wear(
    rng: np.random.Generator, pictures: Float[Tensor, "n 3 height width"], reconstruct: Reconstruct
) -> Float[Tensor, "n 3 height width"]:
    """Pictures as worn as those of a small model: a tenth stays, some are blurred, most get noise on their latents."""
    count = len(pictures)
    coarse = torch.as_tensor(rng.random(count) < 0.25)
    small = F.interpolate(pictures, scale_factor=1 / float(rng.uniform(1.5, 3.0)), mode="bilinear", antialias=True)
    blurred = F.interpolate(small, pictures.shape[-2:], mode="bilinear")
    pictures = torch.where(coarse[:, None, None, None], blurred, pictures)
    strength = torch.as_tensor(
        np.where(rng.random(count) < 0.3, 0.0, rng.uniform(0.1, 0.8, count)), dtype=torch.float32
    )
    kept = torch.as_tensor(rng.random(count) < 0.1)
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    return torch.where(kept[:, None, None, None], pictures, reconstruct(pictures, strength, generator))


def _moved(rng: np.random.Generator, placement: Placement) -> Placement:
    """Elsewhere or of another size, still wholly in the picture's shorter side."""
    size = min(0.95, placement.size * float(np.exp(rng.uniform(-0.6, 0.5))))
    row, column = (
        float(np.clip(middle + rng.uniform(-0.5, 0.5) * placement.size, size / 2, 1 - size / 2))
        for middle in placement.centre
    )
    return replace(placement, centre=(row, column), size=size)


def _moved_to(placement: Placement, other: Placement) -> Placement:
    return replace(placement, centre=other.centre, size=other.size)


def _same_drawing(one: Placement, other: Placement) -> bool:
    keys = ((placement.sprite, placement.colour_turn, placement.variation) for placement in (one, other))
    return len(set(keys)) == 1


def _differ_visibly(one: Image.Image, other: Image.Image) -> bool:
    """Whether two drawings differ by enough colour levels on average, where either is opaque."""
    first, second = (np.asarray(picture.resize((_LOOK_SIDE, _LOOK_SIDE)), np.float32) for picture in (one, other))
    opacity = np.stack([first[..., 3], second[..., 3]]) / 255
    colours = [
        values[..., :3] * a[..., None] + 128 * (1 - a[..., None])
        for values, a in zip((first, second), opacity, strict=True)
    ]
    weight = opacity.max(0)
    difference = np.abs(colours[0] - colours[1]).mean(-1)
    return float((difference * weight).sum() / max(float(weight.sum()), 1.0)) >= _VISIBLE


def _stands_there(index: int, true: list[Mask], shown: list[Mask | None]) -> bool:
    """Whether enough of a subject's own part of the picture is covered by anything."""
    own = true[index].copy()
    for other, mask in enumerate(true):
        if other != index:
            own &= ~mask
    covered = np.any([mask for mask in shown if mask is not None] or [np.zeros_like(own)], axis=0)
    return float((own & covered).sum()) >= LEAST_COVERED * max(float(own.sum()), 1.0)


def _overlap(true: Mask, shown: Mask | None) -> float:
    """Intersection over union of the boxes around two silhouettes; 0 without the second."""
    if shown is None or not shown.any():
        return 0.0
    return box_overlap(box_around(true), box_around(shown))


def box_overlap(one: Box, other: Box) -> float:
    """Intersection over union of two boxes."""
    width = min(one.x_max, other.x_max) - max(one.x_min, other.x_min)
    height = min(one.y_max, other.y_max) - max(one.y_min, other.y_min)
    common = max(width, 0.0) * max(height, 0.0)
    areas = ((box.x_max - box.x_min) * (box.y_max - box.y_min) for box in (one, other))
    return common / (sum(areas) - common)
