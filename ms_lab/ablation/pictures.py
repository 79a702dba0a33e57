"""The bench's scenes at the size that variants train at, drawn by a variant with its own processors, one draw a scene."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch
from PIL import Image

from ms_core.mini.vae import MiniVAE
from ms_lab.ablation.training import SIDE
from ms_lab.evaluation.questions.mosaics import mosaic
from ms_lab.evaluation.questions.packs import BenchPack
from ms_lab.evaluation.questions.scenes import BENCH_SEED, BenchScene, draw_group
from ms_lab.mini.batches import SceneBatch, collate
from ms_lab.mini.halves import VALIDATION
from ms_lab.training.denoising_stage import DenoisingStage
from ms_lab.training.sample_sheets import to_picture
from ms_lab.training.sheet_samples import sample_batch
from ms_lab.training.vae_stage import to_signed

# The pictures of a few scenes.
Draw = Callable[[Sequence[BenchScene]], list[Image.Image]]


@dataclass(frozen=True, slots=True)
class Bench:
    """What is asked of every variant.

    Attributes:
        scenes: of the bench's validation half.
        pack: the drawings that their questions point into.
    """

    scenes: tuple[BenchScene, ...]
    pack: BenchPack

    @classmethod
    def draw(cls, assets: Path, counts: Mapping[str, int]) -> Bench:
        """The first scenes of some groups; drawn once in a process.

        Args:
            assets: folder with the bench's packs.
            counts: of scenes, by group.
        """
        return _draw_bench(assets, tuple(counts.items()))


@lru_cache(maxsize=2)
def _draw_bench(assets: Path, counts: tuple[tuple[str, int], ...]) -> Bench:
    pack = BenchPack.read(assets, VALIDATION)
    scenes = [scene for group, count in counts for scene in draw_group(pack, group, count, BENCH_SEED)]
    return Bench(tuple(scenes), pack)


def composite(scene: BenchScene) -> Image.Image:
    """The true picture of a scene, RGB, at the size that variants draw."""
    return scene.original.image.resize((SIDE, SIDE))


def to_batch(scenes: Sequence[BenchScene]) -> SceneBatch:
    """What a variant is asked for."""
    return collate([replace(scene.original, image=composite(scene), height=SIDE, width=SIDE) for scene in scenes])


def drawn_by(stage: DenoisingStage, steps: int, see_references: bool = True) -> Draw:
    """Pictures of a variant, at the small model's guidance and from each scene's own noise.

    Args:
        stage: with the variant's trained model.
        steps: of the sampling.
        see_references: if not, at a scale of 0.
    """

    def draw(scenes: Sequence[BenchScene]) -> list[Image.Image]:
        seeds = [scene.scene.seed for scene in scenes]
        samples = sample_batch(stage, to_batch(scenes), steps, seeds=seeds, see_references=see_references)
        return [to_picture(sample) for sample in samples]

    return draw


def through_vae(vae: MiniVAE) -> Draw:
    """The composites through a VAE: the ceiling of every variant."""

    @torch.no_grad()
    def draw(scenes: Sequence[BenchScene]) -> list[Image.Image]:
        return [to_picture(sample) for sample in vae.decoder(vae.encoder(to_signed(to_batch(scenes).images)))]

    return draw


def composed(scenes: Sequence[BenchScene]) -> list[Image.Image]:
    """The composites."""
    return [composite(scene) for scene in scenes]


def mosaics_of(cells: int) -> Draw:
    """The composites with their mean colours in so many cells a side of each silhouette's box."""

    def draw(scenes: Sequence[BenchScene]) -> list[Image.Image]:
        pictures = [mosaic(scene.original, len(scene.subjects), cells) for scene in scenes]
        return [picture.resize((SIDE, SIDE)) for picture in pictures]

    return draw
