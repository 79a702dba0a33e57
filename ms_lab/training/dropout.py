"""Which conditions a training row goes without."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor


@dataclass(frozen=True, slots=True)
class DropRates:
    """Shares of rows that go without text, without images, without both; grounding is drawn on its own."""

    text: float
    image: float
    both: float
    grounding: float


@dataclass(frozen=True, slots=True)
class Drops:
    """What each row of a batch goes without."""

    text: Bool[Tensor, " b"]
    image: Bool[Tensor, " b"]
    grounding: Bool[Tensor, " b"]

    def to(self, device: torch.device) -> Drops:
        """The same drops on a device."""
        return Drops(self.text.to(device), self.image.to(device), self.grounding.to(device))

    @classmethod
    def none(cls, rows: int) -> Drops:
        """Nothing is dropped."""
        nothing = torch.zeros(rows, dtype=torch.bool)
        return cls(nothing, nothing, nothing)


def draw_drops(rows: int, rates: DropRates, generator: torch.Generator | None = None) -> Drops:
    """Draw the drops of one batch; text alone, images alone and both exclude each other."""
    draw = torch.rand(rows, generator=generator)
    both_from = rates.text + rates.image
    both = (draw >= both_from) & (draw < both_from + rates.both)
    return Drops(
        text=(draw < rates.text) | both,
        image=((draw >= rates.text) & (draw < both_from)) | both,
        grounding=torch.rand(rows, generator=generator) < rates.grounding,
    )
