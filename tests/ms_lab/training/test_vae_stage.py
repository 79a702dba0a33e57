"""The first stage: what its loss counts, by numbers worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from ms_core.mini.vae import MiniVAE
from ms_lab.mini.batches import SceneBatch, SceneStream, Share
from ms_lab.mini.random_scenes import PLAIN_SCENES
from ms_lab.mini.sprites import SpritePack
from ms_lab.training.vae_stage import VAEStage, whiten_latents
from tests.support.paths import ASSETS


class PlayedVAE(nn.Module):
    """Latents of one number, and the same decoded picture for all."""

    def __init__(self, latent: float, decoded: Tensor) -> None:
        super().__init__()
        self.latent, self.decoded = latent, decoded
        self.read: list[Tensor] = []

    def encoder(self, images: Tensor) -> Tensor:
        return torch.full((len(images), 8, 16, 16), self.latent)

    def decoder(self, latents: Tensor) -> Tensor:
        self.read.append(latents)
        return self.decoded.expand(len(latents), -1, -1, -1)


@pytest.fixture(scope="module")
def batch() -> SceneBatch:
    return SceneStream(SpritePack.load(ASSETS / "smoke-sprites.zip"), PLAIN_SCENES, Share(4, seed=0)).batch(0)


def grey(batch: SceneBatch) -> SceneBatch:
    """All pictures 0 where they run from -1 to 1, to within a two-hundredth."""
    return replace(batch, images=torch.full_like(batch.images, 128))


def stripes(batch: SceneBatch, dim: int) -> Tensor:
    """Lines of 1 and 0 in turn, along the rows (2) or the columns (3)."""
    size = batch.images.shape[dim]
    line = (torch.arange(size) % 2).float().view((1, 1, size, 1) if dim == 2 else (1, 1, 1, size))
    return line.expand(1, 3, *batch.images.shape[-2:])


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize(("progress", "edge_weight"), [(0.0, 0.0), (0.05, 0.0), (0.175, 0.25), (0.3, 0.5), (1.0, 0.5)])
def test_pixels_count_from_the_start_and_edges_later(
    batch: SceneBatch, dim: int, progress: float, edge_weight: float
) -> None:
    """Stripes on grey are off by 1 in half of the pixels, and by 1 at every edge along one direction."""
    stage = VAEStage(cast("Any", PlayedVAE(0.0, stripes(batch, dim))), grey(batch))
    assert float(stage.loss(grey(batch), progress)) == pytest.approx(0.5 + edge_weight, abs=0.01)


def test_latents_are_kept_small_and_read_through_noise(batch: SceneBatch) -> None:
    torch.manual_seed(0)
    vae = PlayedVAE(3.0, torch.zeros(1, 3, *batch.images.shape[-2:]))
    loss = VAEStage(cast("Any", vae), grey(batch)).loss(grey(batch), 0.0)
    assert float(loss) == pytest.approx(1 / 255 + 0.001 * 3.0**2, rel=0.01)
    noise = vae.read[0] - 3.0
    assert (float(noise.mean()), float(noise.std())) == pytest.approx((0.0, 0.1), abs=0.005)


def test_telemetry_is_the_peak_signal_to_noise_ratio(batch: SceneBatch) -> None:
    """Half of the pixels are off by half of the range."""
    stage = VAEStage(cast("Any", PlayedVAE(0.0, stripes(batch, 2))), grey(batch))
    assert stage.telemetry()["psnr_db"] == pytest.approx(-10 * math.log10(0.5 * 0.5**2), abs=0.05)


def test_latents_of_the_training_scenes_are_whitened(batch: SceneBatch) -> None:
    torch.manual_seed(0)
    vae = MiniVAE(latent_channels=4, width=16, detail_width=8, encoder_blocks=1, decoder_blocks=1, detail_blocks=1)
    whiten_latents(vae, [batch, batch])
    with torch.no_grad():
        latents = vae.encoder(batch.images / 127.5 - 1)
    torch.testing.assert_close(latents.mean((0, 2, 3)), torch.zeros(4), atol=1e-3, rtol=0)
    torch.testing.assert_close(latents.std((0, 2, 3)), torch.ones(4), atol=1e-2, rtol=0)
