"""The smallest stage that can be trained."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor, nn

from ms_lab.mini.batches import SceneBatch


class MeanColour:
    """The smallest stage: learn the mean colour of the pictures."""

    name = "colour"

    def __init__(self) -> None:
        self.trained = nn.Linear(1, 3, bias=False)
        nn.init.zeros_(self.trained.weight)

    def loss(self, batch: SceneBatch, progress: float) -> Tensor:
        colour = batch.images.float().mean((0, 2, 3)) / 255
        return (self.trained.weight[:, 0] - colour + 0.01 * torch.randn(3)).square().mean()

    def sheet(self) -> Image.Image:
        return Image.new("RGB", (2, 2))

    def telemetry(self) -> dict[str, float]:
        return {"red": float(self.trained.weight[0, 0])}
