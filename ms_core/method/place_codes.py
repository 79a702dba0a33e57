"""Codes of points on a picture: sines and cosines of normalised coordinates, as for the boxes of subjects."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ms_core.config import PLACE_CODE_DIM

CODE_DIM, TEMPERATURE = PLACE_CODE_DIM, 100.0
# A sine and a cosine of two coordinates at each frequency.
NUM_FREQUENCIES = CODE_DIM // 4


def cell_centres(height: int, width: int, device: torch.device) -> Float[Tensor, "height width 2"]:
    """Normalised x and y of the middle of every cell."""
    rows, columns = ((torch.arange(length, device=device) + 0.5) / length for length in (height, width))
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij")[::-1], dim=-1)


def encode_places(places: Float[Tensor, "*shape 2"]) -> Float[Tensor, "*shape code"]:
    """Sines, then cosines, of x and y at each frequency; float32."""
    exponents = torch.arange(NUM_FREQUENCIES, device=places.device) / NUM_FREQUENCIES
    angles = places.float().unsqueeze(-1) * TEMPERATURE**exponents
    return torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(-2)


class PlaceCode(nn.Module):
    """Encode points by a learned function."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(CODE_DIM, dim), nn.GELU(), nn.Linear(dim, dim))

    def forward(self, places: Float[Tensor, "*shape 2"]) -> Float[Tensor, "*shape dim"]:
        """Codes of normalised x and y."""
        return self.layers(encode_places(places))
