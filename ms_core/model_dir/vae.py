"""What a VAE's encoder gives, scaled as the UNet sees it."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def encode_pixels(vae: Any, pixels: Float[Tensor, "b 3 height width"]) -> Float[Tensor, "b c h w"]:
    """Most likely latents of pictures in [-1, 1]; float32, as the UNet sees them."""
    return encode_mean_and_spread(vae, pixels)[0]


@torch.no_grad()
def encode_mean_and_spread(
    vae: Any, pixels: Float[Tensor, "b 3 height width"]
) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"]]:
    """Mean and standard deviation of the latents of pictures in [-1, 1]; float32, as the UNet sees them."""
    encoded = vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist
    mean, std = latent_statistics(vae, encoded.mean.float())
    factor = vae.config.scaling_factor
    return (encoded.mean.float() - mean) / std * factor, encoded.std.float() / std * factor


def latent_statistics(vae: Any, latents: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each latent channel, ``[1, c, 1, 1]``; zero and one if the VAE has none."""
    mean, std = (getattr(vae.config, name, None) for name in ("latents_mean", "latents_std"))
    if mean is None or std is None:
        mean, std = (0.0,), (1.0,)
    return (latents.new_tensor(mean).view(1, -1, 1, 1), latents.new_tensor(std).view(1, -1, 1, 1))
