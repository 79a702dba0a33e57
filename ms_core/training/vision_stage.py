"""Stage 2: the vision tower. Its penultimate features must tell drawings, colours and shapes apart."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from ms_core.mini.assemble import CLIP_MEAN, CLIP_STD
from ms_core.mini.batches import SceneBatch
from ms_core.training.sheets import grid, to_picture

TEMPERATURE = 0.07
MATCH_WEIGHT = 0.1


class VisionPretraining(nn.Module):
    """The tower with what is only needed to train it: a head that paints the picture back from its features."""

    def __init__(self, image_encoder: Any) -> None:
        """Add the head to a ``CLIPVisionModelWithProjection``."""
        super().__init__()
        self.image_encoder = image_encoder
        config = image_encoder.config
        self.patch_size: int = config.patch_size
        self.decoder = nn.Sequential(
            nn.LayerNorm(config.hidden_size), nn.Linear(config.hidden_size, 3 * config.patch_size**2)
        )


class VisionStage:
    """Paint the reference back from the penultimate features, and match each picture to a changed view of itself.

    The views differ in place, size and mirroring but not in colour, so that matching cannot forget colour. A quarter
    of the patches is hidden, so that painting needs the whole picture.
    """

    name = "vision"

    def __init__(self, trained: VisionPretraining, held_out: SceneBatch) -> None:
        self.trained = trained
        self.held_out = held_out

    def loss(self, batch: SceneBatch, progress: float) -> Float[Tensor, ""]:
        references = normalise_references(batch.references[batch.present])
        first, second = hide_patches(references, self.trained.patch_size), change_view(references)
        painted, embeds = self._forward(torch.cat([first, second]))
        painting = (painted - torch.cat([references, second])).abs().mean()
        a, b = F.normalize(embeds.float(), dim=-1).chunk(2)
        logits = a @ b.T / TEMPERATURE
        labels = torch.arange(len(a), device=a.device)
        matching = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
        return painting + MATCH_WEIGHT * matching

    def _forward(
        self, pictures: Float[Tensor, "n 3 size size"]
    ) -> tuple[Float[Tensor, "n 3 size size"], Float[Tensor, "n d"]]:
        output = self.trained.image_encoder(pictures, output_hidden_states=True)
        patches = self.trained.decoder(output.hidden_states[-2][:, 1:]).float()
        painted = F.fold(
            patches.transpose(1, 2), pictures.shape[-2:], self.trained.patch_size, stride=self.trained.patch_size
        )
        return painted, output.image_embeds

    def sheet(self) -> Image.Image:
        references = normalise_references(self.held_out.references[self.held_out.present][:16])
        hidden = hide_patches(references, self.trained.patch_size)
        painted, _ = self._forward(hidden)
        return grid([[to_picture(_denormalise(row)) for row in rows] for rows in (references, hidden, painted)])

    def telemetry(self) -> dict[str, float]:
        references = normalise_references(self.held_out.references[self.held_out.present])
        painted, embeds = self._forward(torch.cat([references, change_view(references)]))
        a, b = F.normalize(embeds, dim=-1).chunk(2)
        matched = ((a @ b.T).argmax(-1) == torch.arange(len(a), device=a.device)).float().mean()
        return {"painting": float((painted[: len(a)] - references).abs().mean()), "matched": float(matched)}


def normalise_references(references: Tensor) -> Float[Tensor, "n 3 size size"]:
    """Bytes to what the image encoder reads: CLIP's mean and spread."""
    mean, std = _mean_and_std(references.device)
    return (references.float() / 255.0 - mean) / std


def _denormalise(picture: Float[Tensor, "3 size size"]) -> Float[Tensor, "3 size size"]:
    mean, std = _mean_and_std(picture.device)
    return (picture * std + mean) * 2 - 1


def _mean_and_std(device: torch.device) -> tuple[Float[Tensor, "3 1 1"], Float[Tensor, "3 1 1"]]:
    mean, std = (torch.tensor(numbers, device=device).view(-1, 1, 1) for numbers in (CLIP_MEAN, CLIP_STD))
    return mean, std


def hide_patches(pictures: Float[Tensor, "n 3 size size"], patch: int, share: float = 0.25) -> Tensor:
    """The pictures with a random share of their patches set to the mean colour."""
    cells = pictures.shape[-1] // patch
    kept = (torch.rand(len(pictures), 1, cells, cells) >= share).float()
    return pictures * F.interpolate(kept, scale_factor=patch).to(pictures.device)


def change_view(pictures: Float[Tensor, "n 3 size size"]) -> Float[Tensor, "n 3 size size"]:
    """The pictures a little turned, moved, larger or smaller, and half of them mirrored; white comes in at the edge."""
    count = len(pictures)
    angle = (torch.rand(count) - 0.5) * 0.8
    scale = 1.0 + (torch.rand(count) - 0.5) * 0.5
    mirror = torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
    row_x = torch.stack([angle.cos() * scale * mirror, -angle.sin() * scale, (torch.rand(count) - 0.5) * 0.2], 1)
    row_y = torch.stack([angle.sin() * scale * mirror, angle.cos() * scale, (torch.rand(count) - 0.5) * 0.2], 1)
    turns = torch.stack([row_x, row_y], 1).to(pictures.device)
    places = F.affine_grid(turns, list(pictures.shape), align_corners=False)
    white = normalise_references(torch.full((1, 3, 1, 1), 255, device=pictures.device))
    return F.grid_sample(pictures - white, places, align_corners=False) + white
