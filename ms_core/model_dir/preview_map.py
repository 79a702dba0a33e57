"""The preview map of a model's card: a linear map from latent channels to colours, fitted to the VAE."""

from __future__ import annotations

from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from ms_core.config import PreviewMap
from ms_core.model_dir.vae import encode_pixels

# So few that the VAE of SDXL takes less than two seconds on one CPU core.
_PICTURES, _SIDE = 8, 64
# Blobs of many sizes, from one colour for all down to the size of a few latents.
_CELLS = (1, 2, 4, 8, 16)
_DECIMALS = 5


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


def _random_pictures(generator: torch.Generator) -> Float[Tensor, "b 3 height width"]:
    """Pictures in [-1, 1]."""
    pictures = torch.zeros(_PICTURES, 3, _SIDE, _SIDE)
    for cells in _CELLS:
        blobs = torch.randn(_PICTURES, 3, cells, cells, generator=generator)
        pictures += functional.interpolate(blobs, (_SIDE, _SIDE), mode="bicubic" if cells > 1 else "nearest")
    return torch.tanh(pictures / 2)
