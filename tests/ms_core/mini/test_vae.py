"""The small autoencoder: diffusers' interface, and whitening that does not change what it draws."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from ms_core.mini.vae import MiniVAE


def _small() -> MiniVAE:
    torch.manual_seed(0)
    return MiniVAE(latent_channels=4, width=16, detail_width=8, encoder_blocks=1, decoder_blocks=1, detail_blocks=1)


def test_latents_are_an_eighth_of_the_size_as_in_autoencoder_kl() -> None:
    vae = _small()
    latents = vae.encode(torch.rand(1, 3, 40, 64)).latent_dist.mode()
    assert latents.shape == (1, 4, 5, 8)
    assert vae.decode(latents).sample.shape == (1, 3, 40, 64)
    assert vae.decode(latents, return_dict=False)[0].shape == (1, 3, 40, 64)
    assert len(vae.config.block_out_channels) == len(
        AutoencoderKL(
            block_out_channels=(4,) * 4,
            norm_num_groups=1,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
        ).config.block_out_channels
    )


def test_encoding_has_no_spread() -> None:
    distribution = _small().encode(torch.rand(1, 3, 16, 16)).latent_dist
    assert torch.equal(distribution.sample(), distribution.mode())


def test_whitening_keeps_pictures_inside_and_makes_latents_unit() -> None:
    vae = _small()
    pictures = torch.rand(8, 3, 64, 64) * 2 - 1
    before = vae.decode(vae.encode(pictures).latent_dist.mode()).sample
    latents = vae.encoder(pictures)
    vae.whiten(latents.mean((0, 2, 3)), latents.std((0, 2, 3)))
    whitened = vae.encoder(pictures)
    assert torch.allclose(whitened.mean((0, 2, 3)), torch.zeros(4), atol=1e-4)
    assert torch.allclose(whitened.std((0, 2, 3)), torch.ones(4), atol=1e-4)
    after = vae.decode(whitened).sample
    # The border differs: zero padding now stands for the mean latent.
    inner = slice(24, 40)
    assert torch.allclose(after[..., inner, inner], before[..., inner, inner], atol=1e-3)


def test_it_survives_saving(tmp_path: Path) -> None:
    vae = _small()
    vae.save_pretrained(tmp_path)
    again = MiniVAE.from_pretrained(tmp_path)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in vae.state_dict().items())
