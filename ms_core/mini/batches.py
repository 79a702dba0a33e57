"""Endless, reproducible batches of composed scenes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from ms_core.data.records import TrainingSample
from ms_core.mini.scenes import SceneComposer, SceneConfig
from ms_core.mini.sprites import SpritePack


@dataclass(frozen=True, slots=True)
class SceneBatch:
    """Samples as tensors; subjects are padded with zeros to the largest number in the batch.

    Attributes:
        images: targets, 0 to 255.
        references: on white, 0 to 255.
        boxes: normalised xyxy.
        present: False for padding.
        captions, phrases: in the order of the rows.
    """

    images: UInt8[Tensor, "b 3 height width"]
    references: UInt8[Tensor, "b subjects 3 size size"]
    boxes: Float[Tensor, "b subjects 4"]
    present: Bool[Tensor, "b subjects"]
    captions: tuple[str, ...]
    phrases: tuple[tuple[str, ...], ...]

    def first(self, rows: int) -> SceneBatch:
        """The batch of the first rows."""
        return SceneBatch(
            self.images[:rows],
            self.references[:rows],
            self.boxes[:rows],
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
            present=self.present.to(device),
        )

    def with_references(self, references: UInt8[Tensor, "b subjects 3 size size"]) -> SceneBatch:
        """The same scenes with other reference pictures."""
        return replace(self, references=references)


def collate(samples: list[TrainingSample]) -> SceneBatch:
    """Stack samples into one batch."""
    most = max(len(sample.subjects) for sample in samples)
    size = samples[0].subjects[0].reference.height
    references = torch.zeros(len(samples), most, 3, size, size, dtype=torch.uint8)
    boxes = torch.zeros(len(samples), most, 4)
    present = torch.zeros(len(samples), most, dtype=torch.bool)
    for row, sample in enumerate(samples):
        for column, subject in enumerate(sample.subjects):
            references[row, column] = to_bytes_tensor(subject.reference)
            boxes[row, column] = torch.tensor(subject.box.as_tuple())
            present[row, column] = True
    return SceneBatch(
        images=torch.stack([to_bytes_tensor(sample.image) for sample in samples]),
        references=references,
        boxes=boxes,
        present=present,
        captions=tuple(sample.caption for sample in samples),
        phrases=tuple(tuple(subject.phrase for subject in sample.subjects) for sample in samples),
    )


def to_bytes_tensor(image: Image.Image) -> UInt8[Tensor, "3 height width"]:
    """An RGB picture as a tensor of bytes."""
    return torch.as_tensor(np.array(image)).permute(2, 0, 1)


def subject_counts(rows: int, weights: Sequence[float]) -> list[int]:
    """How many subjects each row of a batch has: the shares of ``weights``, as near as whole rows come to them."""
    bounds = np.round(np.cumsum(weights) / sum(weights) * rows).astype(int)
    return [int(np.searchsorted(bounds, row, side="right")) + 1 for row in range(rows)]


class SceneStream(IterableDataset[SceneBatch]):
    """Batches number ``first``, ``first + 1``, ...: the same seed and number always give the same batch."""

    def __init__(self, pack: SpritePack, config: SceneConfig, batch_size: int, seed: int, first: int) -> None:
        super().__init__()
        self.composer = SceneComposer(pack, config)
        self.batch_size = batch_size
        self.seed = seed
        self.first = first

    def __iter__(self) -> Iterator[SceneBatch]:
        # The loader takes from its processes in turn, so each composes every so-many-th batch.
        process = get_worker_info()
        start, step = (0, 1) if process is None else (process.id, process.num_workers)
        for number in itertools.count(self.first + start, step):
            yield self.batch(number)

    def batch(self, number: int) -> SceneBatch:
        """Batch of this number.

        Every batch has as many scenes of one, two, three and four subjects as every other: a CPU's kernels are made
        anew for each shape that they meet.
        """
        rng = np.random.default_rng((self.seed, number))
        counts = subject_counts(self.batch_size, self.composer.config.weights)
        return collate([self.composer.sample(self.composer.draw(rng, count)) for count in counts])


def load_batches(stream: SceneStream, processes: int = 1) -> DataLoader[SceneBatch]:
    """The stream's batches in their order, composed ahead in other processes."""
    return DataLoader(stream, batch_size=None, num_workers=processes, prefetch_factor=4)
