"""Stage 1: the autoencoder, on composed scenes."""

from __future__ import annotations

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ms_core.mini.vae import MiniVAE
from ms_lab.mini.batches import SceneBatch
from ms_lab.training.sample_sheets import grid, to_picture

LATENT_NOISE = 0.1
EDGE_WEIGHT = 0.5
EDGES_FROM, EDGES_UNTIL = 0.05, 0.3
MAGNITUDE_WEIGHT = 1e-3


class VAEStage:
    """L1 of pixels, later also of their gradients (from the start, these would hold the output at a flat grey).

    Noise on the latents keeps them smooth; a small weight on their size keeps them near 1.
    """

    name = "vae"

    def __init__(self, vae: MiniVAE, held_out: SceneBatch) -> None:
        self.trained = vae
        self.held_out = held_out

    def loss(self, batch: SceneBatch, progress: float) -> Float[Tensor, ""]:
        images = to_signed(batch.images)
        latents = self.trained.encoder(images)
        noisy = latents + LATENT_NOISE * torch.randn_like(latents)
        decoded = self.trained.decoder(noisy).float()
        edges = (decoded.diff(dim=2) - images.diff(dim=2)).abs().mean()
        edges = edges + (decoded.diff(dim=3) - images.diff(dim=3)).abs().mean()
        edge_weight = EDGE_WEIGHT * min(1.0, max(0.0, (progress - EDGES_FROM) / (EDGES_UNTIL - EDGES_FROM)))
        magnitude = MAGNITUDE_WEIGHT * latents.float().square().mean()
        return (decoded - images).abs().mean() + edge_weight * edges + magnitude

    def sheet(self) -> Image.Image:
        images = to_signed(self.held_out.images[:16])
        decoded = self.trained.decoder(self.trained.encoder(images))
        return grid([[to_picture(row) for row in rows] for rows in (images, decoded)])

    def telemetry(self) -> dict[str, float]:
        images = to_signed(self.held_out.images)
        error = (self.trained.decoder(self.trained.encoder(images)).clamp(-1, 1) - images).square().mean((1, 2, 3)) / 4
        return {"psnr_db": float((-10 * error.log10()).mean())}


@torch.no_grad()
def whiten_latents(vae: MiniVAE, batches: list[SceneBatch]) -> None:
    """Make every latent channel zero-mean and of unit spread over these batches."""
    latents = torch.cat([vae.encoder(to_signed(batch.images)) for batch in batches])
    vae.whiten(latents.mean((0, 2, 3)), latents.std((0, 2, 3)))


def to_signed(images: Tensor) -> Float[Tensor, ...]:
    """Bytes to floats in [-1, 1]."""
    return images.float() / 127.5 - 1.0
