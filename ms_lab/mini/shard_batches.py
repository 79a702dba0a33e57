"""Batches from the shards of the data pipeline, in place of composed scenes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.data import IterableDataset

from ms_core.errors import InvalidInputError
from ms_lab.data.records import TrainingSample
from ms_lab.data.writing.reading import read_samples, shards_of
from ms_lab.mini.batches import TRAINING_REFERENCE, SceneBatch, Share, collate
from ms_lab.mini.windows import cut_to_window, draw_window

# Windows that are cut from each target; all are held in memory.
_WINDOWS = 4


class ShardStream(IterableDataset[SceneBatch]):
    """Endless, reproducible batches of a set's training samples: windows of the targets, all at one size."""

    def __init__(
        self,
        folder: Path,
        side: int,
        share: Share,
        change: Callable[[TrainingSample], TrainingSample] = lambda sample: sample,
    ) -> None:
        """Read every sample once.

        Args:
            folder: of a run of ``msd data run``.
            side: of the square targets, in pixels.
            share: which batches.
            change: what to make of each sample before it is made small, for comparisons.

        Raises:
            ModelNotFoundError: there are no shards.
            CheckpointError: a shard is damaged.
            InvalidInputError: they hold no sample to train on.
        """
        super().__init__()
        self.share = share
        self.by_subjects: dict[int, list[TrainingSample]] = defaultdict(list)
        rng = np.random.default_rng(share.seed)
        for path in shards_of(folder, "train"):
            for sample in read_samples(path):
                self.by_subjects[len(sample.subjects)] += _windows(rng, change(sample), side)
        counts = np.asarray([len(samples) for samples in self.by_subjects.values()], np.float64)
        if not counts.size:
            raise InvalidInputError(f"The shards in {folder} hold no sample to train on.")
        self.weights = counts / counts.sum()

    def __iter__(self) -> Iterator[SceneBatch]:
        return map(self.batch, self.share.numbers())

    def batch(self, number: int) -> SceneBatch:
        """Batch of this number; its rows have subjects as often as the set has."""
        rng = np.random.default_rng((self.share.seed, number))
        groups = list(self.by_subjects.values())
        chosen: list[int] = rng.choice(len(groups), size=self.share.batch_size, p=self.weights).tolist()
        return collate([groups[group][int(rng.integers(len(groups[group])))] for group in chosen])


def _windows(rng: np.random.Generator, sample: TrainingSample, side: int) -> list[TrainingSample]:
    """The sample through some windows, at the size that it is trained at; references are shared."""
    subjects = tuple(replace(subject, reference=_small_reference(subject.reference)) for subject in sample.subjects)
    sample, boxes = replace(sample, subjects=subjects), [subject.box for subject in subjects]
    drawn = (draw_window(rng, sample.width, sample.height, boxes, side) for _ in range(_WINDOWS))
    return [_small(sample if window is None else cut_to_window(sample, window), side) for window in drawn]


def _small(sample: TrainingSample, side: int) -> TrainingSample:
    """The sample at the size that it is trained at; boxes are shares and stay."""
    image = sample.image.resize((side, side), Image.Resampling.BOX)
    return replace(sample, image=image, height=side, width=side)


def _small_reference(reference: Image.Image) -> Image.Image:
    reference = reference.copy()
    reference.thumbnail((TRAINING_REFERENCE, TRAINING_REFERENCE), Image.Resampling.LANCZOS)
    return reference
