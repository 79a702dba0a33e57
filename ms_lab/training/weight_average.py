"""The running average of a module's weights."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import nn

from ms_lab.training.interrupts import held_interrupts


class WeightAverage:
    """Exponential moving average of a module's trainable weights, which can take their place for a while."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self.names = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
        self.shadow = [parameter.detach().clone() for parameter in self.parameters]
        self.updates = 0
        self._swapped = False

    @torch.no_grad()
    def update(self, steps: int) -> None:
        """Move the average towards the weights, as ``steps`` single updates would."""
        self.updates += steps
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates)) ** steps
        for shadow, parameter in zip(self.shadow, self.parameters, strict=True):
            shadow.lerp_(parameter.detach(), 1 - decay)

    @contextmanager
    def in_place(self) -> Generator[None]:
        """The average in the place of the weights, for the time of the block."""
        try:
            self._swap()
            yield
        finally:
            self.put_back()

    def put_back(self) -> None:
        """Have the weights in their own place, whatever was interrupted."""
        if self._swapped:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        """Exchange weights and average."""
        with held_interrupts():
            for parameter, shadow in zip(self.parameters, self.shadow, strict=True):
                kept = parameter.detach().clone()
                parameter.copy_(shadow)
                shadow.copy_(kept)
            self._swapped = not self._swapped
