"""Endless, reproducible batches of composed scenes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from ms_core.conditions.references import crop_to_subject
from ms_core.method.boxes import fit_boxes
from ms_lab.data.records import TrainingSample
from ms_lab.mini.random_scenes import SceneDrawer, SceneOdds
from ms_lab.mini.recipe import REFERENCE_BACKGROUND, REFERENCE_SIZE, VISION_SIZE
from ms_lab.mini.scenes import SceneComposer, SceneConfig
from ms_lab.mini.sprites import SpritePack

Batch = TypeVar("Batch")
# Side of the references before they are cut and squashed; users bring larger ones than the scenes of the bench.
TRAINING_REFERENCE = 96


@dataclass(frozen=True, slots=True)
class SceneBatch:
    """Samples as tensors; subjects are padded with zeros to the largest number in the batch.

    Attributes:
        images: targets, 0 to 255.
        references: as the image encoder sees them, 0 to 255.
        boxes: normalised xyxy.
        places: where in its box each subject is to stand, with its reference's proportions; normalised xyxy.
        present: False for padding.
        captions, phrases: in the order of the rows.
    """

    images: UInt8[Tensor, "b 3 height width"]
    references: UInt8[Tensor, "b subjects 3 size size"]
    boxes: Float[Tensor, "b subjects 4"]
    places: Float[Tensor, "b subjects 4"]
    present: Bool[Tensor, "b subjects"]
    captions: tuple[str, ...]
    phrases: tuple[tuple[str, ...], ...]

    def first(self, rows: int) -> SceneBatch:
        """The batch of the first rows."""
        return SceneBatch(
            self.images[:rows],
            self.references[:rows],
            self.boxes[:rows],
            self.places[:rows],
            self.present[:rows],
            self.captions[:rows],
            self.phrases[:rows],
        )

    def to(self, device: torch.device) -> SceneBatch:
        """The same batch on a device."""
        return replace(
            self,
            images=self.images.to(device),
            references=self.references.to(device),
            boxes=self.boxes.to(device),
            places=self.places.to(device),
            present=self.present.to(device),
        )

    def with_references(self, references: UInt8[Tensor, "b subjects 3 size size"]) -> SceneBatch:
        """The same scenes with other reference pictures."""
        return replace(self, references=references)


def collate(samples: list[TrainingSample]) -> SceneBatch:
    """Stack samples into one batch."""
    most = max(len(sample.subjects) for sample in samples)
    references = torch.zeros(len(samples), most, 3, VISION_SIZE, VISION_SIZE, dtype=torch.uint8)
    boxes, aspects = torch.zeros(len(samples), most, 4), torch.ones(len(samples), most)
    present = torch.zeros(len(samples), most, dtype=torch.bool)
    for row, sample in enumerate(samples):
        for column, subject in enumerate(sample.subjects):
            drawing = crop_to_subject(subject.reference, REFERENCE_BACKGROUND)
            references[row, column] = to_bytes_tensor(as_seen(drawing))
            aspects[row, column] = drawing.width / drawing.height
            boxes[row, column] = torch.tensor(subject.box.as_tuple())
            present[row, column] = True
    return SceneBatch(
        images=torch.stack([to_bytes_tensor(sample.image) for sample in samples]),
        references=references,
        boxes=boxes,
        places=fit_boxes(boxes, aspects, samples[0].width / samples[0].height),
        present=present,
        captions=tuple(sample.caption for sample in samples),
        phrases=tuple(tuple(subject.phrase for subject in sample.subjects) for sample in samples),
    )


def as_seen(drawing: Image.Image) -> Image.Image:
    """A reference picture (RGB) that is cut to its subject, squashed as the pipeline shows it to the image encoder."""
    square = drawing.resize((REFERENCE_SIZE, REFERENCE_SIZE))
    return square.resize((VISION_SIZE, VISION_SIZE), Image.Resampling.BICUBIC)


def to_bytes_tensor(image: Image.Image) -> UInt8[Tensor, "3 height width"]:
    """An RGB picture as a tensor of bytes."""
    return torch.as_tensor(np.array(image)).permute(2, 0, 1)


def subject_counts(rows: int, weights: Sequence[float]) -> list[int]:
    """How many subjects each row of a batch has: the shares of ``weights``, as near as whole rows come to them."""
    bounds = np.round(np.cumsum(weights) / sum(weights) * rows).astype(int)
    return [int(np.searchsorted(bounds, row, side="right")) + 1 for row in range(rows)]


@dataclass(frozen=True, slots=True)
class Share:
    """Which batches of an endless numbered row: ``first``, ``first + every``, ...

    Attributes:
        batch_size: rows of each.
        seed: of the row; the same seed and number always give the same batch.
        first: number of the first batch.
        every: step from one number to the next.
    """

    batch_size: int
    seed: int
    first: int = 0
    every: int = 1

    def numbers(self) -> Iterator[int]:
        """The numbers, without end; within a loader's process, those that it is to make."""
        process = get_worker_info()
        # The loader takes from its processes in turn, so each composes every so-many-th batch.
        place, step = (0, 1) if process is None else (process.id, process.num_workers)
        return itertools.count(self.first + place * self.every, step * self.every)


class SceneStream(IterableDataset[SceneBatch]):
    """Batches of composed scenes."""

    def __init__(self, pack: SpritePack, odds: SceneOdds, share: Share) -> None:
        super().__init__()
        self.composer = SceneComposer(pack, SceneConfig(TRAINING_REFERENCE, odds.box_margin, odds.loose))
        self.drawer = SceneDrawer(pack, odds)
        self.share = share

    def __iter__(self) -> Iterator[SceneBatch]:
        return map(self.batch, self.share.numbers())

    def batch(self, number: int) -> SceneBatch:
        """Batch of this number.

        The batches of one step, of ``share.every`` processes, are of one kind: none waits for a larger one. All batches of
        one kind have as many scenes of each number of subjects: a CPU prepares its kernels for every shape that it meets.
        """
        rng = self._rng(number)
        # Its own kind is drawn all the same: a process that trains alone goes on with the scenes that it would have seen.
        self.drawer.kind(rng)
        kind = self.drawer.kind(self._rng(number - number % self.share.every))
        counts = subject_counts(self.share.batch_size, kind.subjects)
        return collate([self.composer.sample(self.drawer.draw(rng, count, kind)) for count in counts])

    def _rng(self, number: int) -> np.random.Generator:
        return np.random.default_rng((self.share.seed, number))


def load_batches(stream: IterableDataset[Batch], processes: int) -> DataLoader[Batch]:
    """A stream's batches in their order, composed ahead in other processes, or in this one where there are none."""
    return DataLoader(stream, batch_size=None, num_workers=processes, prefetch_factor=4 if processes else None)
