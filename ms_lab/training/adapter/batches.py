"""Batches of samples by number: the same number is always the same samples, however many processes read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import IterableDataset

from ms_core.errors import InvalidInputError
from ms_lab.mini.batches import Share
from ms_lab.training.adapter.encoding import EncodedSample
from ms_lab.training.adapter.samples import PreparedSample

Sample = PreparedSample | EncodedSample


@dataclass(frozen=True, slots=True)
class SampleBatch:
    """Some samples, and where they stand in the endless row of all.

    Attributes:
        positions: of each sample; what is drawn for it depends on this alone.
    """

    samples: tuple[Sample, ...]
    positions: tuple[int, ...]

    def to(self, device: torch.device) -> Self:
        """The same batch: samples are moved when they are encoded."""
        return self


class Samples(Protocol):
    """Samples by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> Sample: ...


class SampleStream(IterableDataset[SampleBatch]):
    """An endless row of samples in an order of its own for each pass over the set, cut into batches."""

    def __init__(self, samples: Samples, share: Share) -> None:
        super().__init__()
        self.samples, self.share = samples, share
        self._pass, self._order = -1, np.empty(0, np.int64)

    def __iter__(self) -> Iterator[SampleBatch]:
        return map(self.batch, self.share.numbers())

    def batch(self, number: int) -> SampleBatch:
        """Batch of this number."""
        first = number * self.share.batch_size
        positions = tuple(range(first, first + self.share.batch_size))
        return SampleBatch(tuple(self.samples[self.number_at(position)] for position in positions), positions)

    def number_at(self, position: int) -> int:
        """Which sample stands at a position of the endless row."""
        passed, place = divmod(position, len(self.samples))
        if passed != self._pass:
            self._pass = passed
            self._order = np.random.default_rng((self.share.seed, passed)).permutation(len(self.samples))
        return int(self._order[place])


def require_batch(count: int, batch_size: int) -> None:
    """Refuse a set of ``count`` samples that has fewer than one batch takes.

    Raises:
        InvalidInputError: it has.
    """
    if count < batch_size:
        raise InvalidInputError(
            f"The set has {count} samples to train on and a batch takes {batch_size}: make train.batch_size smaller, or the "
            "set larger."
        )


@dataclass(frozen=True, slots=True)
class EncodedBatch:
    """Encoded samples as tensors; subjects are padded with zeros to the largest number in the batch.

    Attributes:
        present: False for padding.
        others: as in ``EncodedSample``.
    """

    prompt_embeds: Float[Tensor, "b 77 cross_dim"]
    pooled_prompt_embeds: Float[Tensor, "b pooled_dim"]
    latent_mean: Float[Tensor, "b c h w"]
    latent_std: Float[Tensor, "b c h w"]
    features: Float[Tensor, "b subjects tokens feature_dim"]
    phrase_embeds: Float[Tensor, "b subjects phrase_dim"]
    boxes: Float[Tensor, "b subjects 4"]
    places: Float[Tensor, "b subjects 4"]
    time_ids: Float[Tensor, "b 6"]
    present: Bool[Tensor, "b subjects"]

    def with_rotated_references(self) -> Self:
        """The same rows, each subject with the reference of the next one in the batch."""
        features = self.features.clone()
        features[self.present] = self.features[self.present].roll(1, 0)
        return replace(self, features=features)


def collate(samples: Sequence[EncodedSample], device: torch.device) -> EncodedBatch:
    """Stack encoded samples into one batch, in float32: the trained weights' dtype."""

    def stacked(name: str) -> Tensor:
        return torch.stack([getattr(sample, name).to(device).float() for sample in samples])

    def padded(name: str) -> Tensor:
        return pad_sequence([getattr(sample, name).to(device).float() for sample in samples], batch_first=True)

    counts = torch.tensor([len(sample.boxes) for sample in samples], device=device)
    return EncodedBatch(
        prompt_embeds=stacked("prompt_embeds"),
        pooled_prompt_embeds=stacked("pooled_prompt_embeds"),
        latent_mean=stacked("latent_mean"),
        latent_std=stacked("latent_std"),
        features=padded("features"),
        phrase_embeds=padded("phrase_embeds"),
        boxes=padded("boxes"),
        places=padded("places"),
        time_ids=stacked("time_ids"),
        present=torch.arange(int(counts.max()), device=device) < counts[:, None],
    )
