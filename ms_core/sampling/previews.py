"""Small pictures of latents on their way: a linear map from latent channels to colours, fitted to the VAE.

What a viewer sees comes from sampled latents only, as every pixel does.
"""

from __future__ import annotations

import io
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ms_core.config import PreviewMap
from ms_core.device.residency import Residency
from ms_core.model_dir.preview_map import fit_preview_map

LONGEST_SIDE = 128
MAX_BYTES = 4096

_QUALITIES = (70, 50, 30, 10)


class Previews:
    """Draws previews with one model.

    Args:
        preview_map: from the model's card; ``None``: fitted when it is first needed, which takes the VAE a moment.
        components: hold the VAE.
        residency: brings it to the device.
    """

    def __init__(self, preview_map: PreviewMap | None, components: Any, residency: Residency) -> None:
        self._map = preview_map
        self._components = components
        self._residency = residency

    def draw(self, latents: Float[Tensor, "1 c h w"]) -> Image.Image:
        """A small RGB picture, its longest side ``LONGEST_SIDE``, of latents as the UNet sees them."""
        if self._map is None:
            with self._residency.use("vae"):
                self._map = fit_preview_map(self._components.vae)
        return draw_latents(latents, self._map)


def draw_latents(latents: Float[Tensor, "1 c h w"], preview_map: PreviewMap) -> Image.Image:
    """A small RGB picture of latents, its longest side ``LONGEST_SIDE``."""
    matrix, bias = latents.new_tensor(preview_map.matrix), latents.new_tensor(preview_map.bias)
    colours = torch.einsum("rc,chw->hwr", matrix, latents[0]) + bias
    pixels = ((colours + 1) * 127.5).round().clamp(0, 255).to("cpu", torch.uint8)
    height, width = pixels.shape[:2]
    scale = LONGEST_SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return Image.fromarray(pixels.numpy()).resize(size, Image.Resampling.BICUBIC)


def preview_webp(picture: Image.Image) -> bytes:
    """A preview as WebP of at most ``MAX_BYTES``, in the best quality that fits; half as large if none does."""
    for quality in _QUALITIES:
        buffer = io.BytesIO()
        picture.save(buffer, "WEBP", quality=quality, method=2)
        if buffer.tell() <= MAX_BYTES:
            return buffer.getvalue()
    return preview_webp(picture.reduce(2))
