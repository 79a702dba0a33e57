"""Small pictures of latents on their way: a linear map from latent channels to colours, fitted to the VAE.

What a viewer sees comes from sampled latents only, as every pixel does.
"""

from __future__ import annotations

import io
from typing import Any, cast

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional

from ms_core.config import PreviewMap
from ms_core.latents import encode_pixels
from ms_core.residency import Residency

LONGEST_SIDE = 128
MAX_BYTES = 4096

# So few that the VAE of SDXL takes less than two seconds on one CPU core.
_PICTURES, _SIDE = 8, 64
# Blobs of many sizes, from one colour for all down to the size of a few latents.
_CELLS = (1, 2, 4, 8, 16)
_QUALITIES = (70, 50, 30, 10)
_DECIMALS = 5


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


def fit_preview_map(vae: Any) -> PreviewMap:
    """The map that best draws what a VAE encodes, by least squares over random colourful pictures.

    Args:
        vae: of any latent channels, where it works.
    """
    pixels = _random_pictures(torch.Generator().manual_seed(0))
    latents = encode_pixels(vae, pixels).cpu()
    colours = functional.adaptive_avg_pool2d(pixels, (latents.shape[2], latents.shape[3])).movedim(1, -1).reshape(-1, 3)
    inputs = latents.movedim(1, -1).reshape(-1, latents.shape[1])
    inputs = torch.cat([inputs, torch.ones(len(inputs), 1)], dim=1)
    linalg = cast("Any", torch.linalg)  # its types are incomplete
    weights: Tensor = linalg.lstsq(inputs.double(), colours.double()).solution
    columns = [[round(float(value), _DECIMALS) for value in column] for column in weights.unbind(1)]
    red, green, blue = (tuple(column[:-1]) for column in columns)
    return PreviewMap((red, green, blue), (columns[0][-1], columns[1][-1], columns[2][-1]))


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


def _random_pictures(generator: torch.Generator) -> Float[Tensor, "b 3 height width"]:
    """Pictures in [-1, 1]."""
    pictures = torch.zeros(_PICTURES, 3, _SIDE, _SIDE)
    for cells in _CELLS:
        blobs = torch.randn(_PICTURES, 3, cells, cells, generator=generator)
        pictures += functional.interpolate(blobs, (_SIDE, _SIDE), mode="bicubic" if cells > 1 else "nearest")
    return torch.tanh(pictures / 2)
