"""Between latents and pictures: the VAE and its numbers."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ms_core.device.modes import TILE_SIDE, is_tiled
from ms_core.model_dir.vae import latent_statistics


@torch.no_grad()
def decode_latents(components: Any, latents: Float[Tensor, "1 c h w"]) -> Image.Image:
    """One picture of sampled latents; in the VAE's dtype, one at a time, for the decoder needs the most memory."""
    vae = components.vae
    mean, std = latent_statistics(vae, latents)
    scaled = latents / vae.config.scaling_factor * std + mean
    _set_tiling(vae, *latents.shape[-2:])
    decoded = vae.decode(scaled.to(vae.dtype), return_dict=False)[0]
    return components.image_processor.postprocess(decoded.float(), output_type="pil")[0]


@torch.no_grad()
def encode_picture(
    components: Any, image: Image.Image, height: int, width: int, generator: torch.Generator
) -> Float[Tensor, "1 c h w"]:
    """Latents of an opaque picture stretched to ``height`` x ``width`` pixels; float32, as the UNet sees them.

    Args:
        generator: draws the sample from what the VAE's encoder says; as diffusers' image to image does.
    """
    vae = components.vae
    pixels = components.image_processor.preprocess(image, height=height, width=width)
    _set_tiling(vae, height // components.vae_scale_factor, width // components.vae_scale_factor)
    encoded = vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist.sample(generator).float()
    mean, std = latent_statistics(vae, encoded)
    return (encoded - mean) / std * vae.config.scaling_factor


def _set_tiling(vae: Any, latent_height: int, latent_width: int) -> None:
    """Have the VAE take the next picture in tiles if it is large, and as a whole if not."""
    # A VAE of our own has no tiles; its pictures are small.
    if not hasattr(vae, "use_tiling"):
        return
    scale_factor = 2 ** (len(vae.config.block_out_channels) - 1)
    vae.tile_sample_min_size, vae.tile_latent_min_size = TILE_SIDE, TILE_SIDE // scale_factor
    vae.use_tiling = is_tiled(latent_height * scale_factor, latent_width * scale_factor, vae.dtype.itemsize)
