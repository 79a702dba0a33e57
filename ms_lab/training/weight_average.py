"""The running average of a module's weights."""

from __future__ import annotations

import torch
from torch import nn


class WeightAverage:
    """Exponential moving average of a module's trainable weights; ``swap`` puts it in their place and back."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self.names = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
        self.shadow = [parameter.detach().clone() for parameter in self.parameters]
        self.updates = 0

    @torch.no_grad()
    def update(self, steps: int) -> None:
        """Move the average towards the weights, as ``steps`` single updates would."""
        self.updates += steps
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates)) ** steps
        for shadow, parameter in zip(self.shadow, self.parameters, strict=True):
            shadow.lerp_(parameter.detach(), 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange weights and average."""
        for parameter, shadow in zip(self.parameters, self.shadow, strict=True):
            kept = parameter.detach().clone()
            parameter.copy_(shadow)
            shadow.copy_(kept)
