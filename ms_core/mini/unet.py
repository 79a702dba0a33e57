"""SDXL's UNet, told where on the picture each of its cells lies."""

from __future__ import annotations

from functools import wraps
from typing import Any, cast

from diffusers.models.modeling_utils import ModelMixin as ModelMixin
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from jaxtyping import Float
from torch import Tensor, nn

from ms_core.method.place_codes import CODE_DIM, cell_centres, encode_places

_SDXL: Any = UNet2DConditionModel


class PlacedConv(nn.Conv2d):
    """A convolution that adds a learned function of each cell's place.

    SDXL's own UNet finds its way by the zeros around the picture, which takes it long to learn.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        cast("Any", super()).__init__(in_channels, out_channels, 3, padding=1)
        self.place = nn.Linear(CODE_DIM, out_channels, bias=False)

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """The convolved latents of any size."""
        codes = encode_places(cell_centres(*input.shape[-2:], device=input.device)).to(self.place.weight.dtype)
        return super().forward(input) + self.place(codes).permute(2, 0, 1)


class MiniUNet(UNet2DConditionModel):
    """``UNet2DConditionModel`` with a ``PlacedConv`` for its first convolution; all else, and its config, as there."""

    # diffusers reads a config's keys from this signature, so it must stay the parent's.
    @wraps(_SDXL.__init__)
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        cast("Any", super()).__init__(*args, **kwargs)
        first = self.conv_in
        self.conv_in = PlacedConv(first.in_channels, first.out_channels)
