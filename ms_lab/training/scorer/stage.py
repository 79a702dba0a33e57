"""The scorer's stage: three answers about each subject of spoiled scenes and of the model's own judged pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.utils.data import IterableDataset

from ms_core.device.devices import multiplies_bfloat16
from ms_core.scoring import ScorerNetwork
from ms_lab.mini.batches import Share
from ms_lab.training.sample_sheets import grid, to_picture
from ms_lab.training.scorer.calibration import identity_auc, ranking
from ms_lab.training.scorer.examples import ScorerExamples
from ms_lab.training.scorer.spoiled_scenes import SpoiledScenes

SHEET_COLUMNS, SHEET_ROWS = 16, 4
CHUNK = 256


class ScorerStage:
    """Binary cross-entropy of each answer, also of the overlap, which lies between 0 and 1."""

    name = "scorer"

    def __init__(self, network: ScorerNetwork, held_out: ScorerExamples) -> None:
        """Train ``network``; look at ``held_out`` for telemetry and sheets."""
        self.trained = network
        self.held_out = held_out

    def loss(self, batch: ScorerExamples, progress: float) -> Float[Tensor, ""]:
        return weighted_loss(self.trained(batch.pictures, batch.references).float(), batch)

    def telemetry(self) -> dict[str, float]:
        logits = all_logits(self.trained, self.held_out)
        values = {"held_out_loss": float(weighted_loss(logits, self.held_out))}
        values["present_auc"] = ranking(logits[:, 0], self.held_out.answers[:, 0])
        values |= {f"identity_auc_{kind}": value for kind, value in identity_auc(logits[:, 1], self.held_out).items()}
        error = (torch.sigmoid(logits[:, 2]) - self.held_out.answers[:, 2]).abs().mean()
        return values | {"box_iou_error": float(error)}

    def sheet(self) -> Image.Image:
        """Held-out views, those with the least identity first; references above pictures."""
        order = all_logits(self.trained, self.held_out)[:, 1].argsort()
        count = min(len(order), SHEET_COLUMNS * SHEET_ROWS)
        shown = self.held_out.rows(order[torch.linspace(0, len(order) - 1, count).long()])
        rows: list[list[Image.Image]] = []
        for start in range(0, count, SHEET_COLUMNS):
            part = slice(start, start + SHEET_COLUMNS)
            rows.append([to_picture(view) for view in shown.references[part]])
            rows.append([to_picture(view[:3]) for view in shown.pictures[part]])
        return grid(rows)


class MixedExamples(IterableDataset[ScorerExamples]):
    """Batches of spoiled scenes, with as many rows of the model's own pictures beside them as are wanted."""

    def __init__(self, spoiled: SpoiledScenes, own: ScorerExamples, share: Share, own_rows: int) -> None:
        super().__init__()
        self._spoiled, self._own, self._share, self._own_rows = spoiled, own, share, own_rows

    def __iter__(self) -> Iterator[ScorerExamples]:
        return map(self.batch, self._share.numbers())

    def batch(self, number: int) -> ScorerExamples:
        """Batch of this number."""
        spoiled = self._spoiled.batch(number)
        generator = torch.Generator().manual_seed(self._share.seed * 1_000_003 + number)
        own = self._own.rows(torch.randint(len(self._own), (self._own_rows,), generator=generator))
        return ScorerExamples.joined([spoiled, own.mirrored() if number % 2 else own])


def weighted_loss(logits: Float[Tensor, "n 3"], examples: ScorerExamples) -> Float[Tensor, ""]:
    """Mean cross-entropy of the answers that are known."""
    losses = F.binary_cross_entropy_with_logits(logits, examples.answers.float(), reduction="none")
    weights = examples.weights.float()
    return (losses * weights).sum() / weights.sum()


@torch.no_grad()
def all_logits(network: ScorerNetwork, examples: ScorerExamples) -> Float[Tensor, "n 3"]:
    """What the network says of all examples, piece by piece."""
    pieces = [examples.rows(index) for index in torch.split(torch.arange(len(examples)), CHUNK)]
    return torch.cat([network(piece.pictures, piece.references).float() for piece in pieces])


@dataclass(frozen=True, slots=True)
class VaeWear:
    """Takes pictures through a model's VAE.

    Attributes:
        vae: of ``ms_core.mini``, on the CPU.
    """

    vae: Any

    @torch.no_grad()
    def __call__(
        self, pictures: Float[Tensor, "n 3 height width"], strength: Float[Tensor, " n"], generator: torch.Generator
    ) -> Float[Tensor, "n 3 height width"]:
        """Pictures from -1 to 1, as decoded from latents with as much normal noise as ``strength`` says."""
        # Faster where the CPU knows it, and wear is all that is wanted.
        with torch.autocast("cpu", torch.bfloat16, enabled=multiplies_bfloat16(pictures.device)):
            latents = self.vae.encode(pictures).latent_dist.mode().float()
            noise = strength[:, None, None, None] * torch.randn(latents.shape, generator=generator)
            decoded = self.vae.decode(latents + noise, return_dict=False)[0]
        return decoded.float().clamp(-1, 1)
