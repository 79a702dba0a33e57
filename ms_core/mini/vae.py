"""A small autoencoder that is quick on a CPU: pixel unshuffle, residual convolutions at an eighth of the size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers.configuration_utils import (
    ConfigMixin,
    register_to_config,  # pyright: ignore[reportUnknownVariableType] - diffusers leaves its decorator untyped
)
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from jaxtyping import Float
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with ReLU, added to their input; no norms, which cost most on a CPU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv_out = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)

    def forward(self, hidden_states: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return hidden_states + self.conv_out(torch.relu(self.conv_in(torch.relu(hidden_states))))


class MiniVAE(ModelMixin, ConfigMixin):
    """Deterministic autoencoder with the interface of diffusers' ``AutoencoderKL``: eight times smaller latents.

    Latents are whitened per channel after training, so ``scaling_factor`` is 1.

    Args:
        latent_channels: of the latents.
        width: channels at an eighth of the size.
        detail_width: channels at a quarter of the size, in the decoder.
        encoder_blocks, decoder_blocks, detail_blocks: residual blocks of each part.
        block_out_channels: unused here; diffusers takes the scale factor from its length, 2 ** (length - 1).
        scaling_factor: latents are multiplied by it after encoding.
    """

    @register_to_config
    def __init__(  # noqa: PLR0913 - diffusers reads a config from these arguments
        self,
        latent_channels: int = 8,
        width: int = 160,
        detail_width: int = 48,
        encoder_blocks: int = 3,
        decoder_blocks: int = 4,
        detail_blocks: int = 2,
        block_out_channels: Sequence[int] = (48, 48, 160, 160),
        scaling_factor: float = 1.0,
        force_upcast: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(8),
            nn.Conv2d(3 * 64, width, 1),
            *(ResidualBlock(width) for _ in range(encoder_blocks)),
            nn.ReLU(),
            nn.Conv2d(width, latent_channels, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(latent_channels, width, 3, padding=1),
            *(ResidualBlock(width) for _ in range(decoder_blocks)),
            nn.Conv2d(width, detail_width * 4, 1),
            nn.PixelShuffle(2),
            *(ResidualBlock(detail_width) for _ in range(detail_blocks)),
            nn.ReLU(),
            nn.Conv2d(detail_width, 3 * 16, 3, padding=1),
            nn.PixelShuffle(4),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and not module.weight.is_meta and module.weight.any():
                nn.init.kaiming_normal_(module.weight, nonlinearity="linear")

    def encode(self, sample: Float[Tensor, "b 3 height width"], return_dict: bool = True) -> AutoencoderKLOutput:
        """Latents of pictures in [-1, 1], as a distribution without spread."""
        mean = self.encoder(sample)
        distribution = DiagonalGaussianDistribution(torch.cat([mean, torch.full_like(mean, -30.0)], 1), True)
        return AutoencoderKLOutput(latent_dist=distribution)

    def decode(
        self, z: Float[Tensor, "b c h w"], return_dict: bool = True, generator: torch.Generator | None = None
    ) -> DecoderOutput | tuple[Float[Tensor, "b 3 height width"]]:
        """Pictures in about [-1, 1] from unscaled latents."""
        sample = self.decoder(z)
        return DecoderOutput(sample=sample) if return_dict else (sample,)

    @torch.no_grad()
    def whiten(self, mean: Float[Tensor, " c"], std: Float[Tensor, " c"]) -> None:
        """Fold ``(latents - mean) / std`` into the last encoder and the first decoder convolution.

        The decoder's borders, which its zero padding fills with latents of zero, change a little; train on a while.
        """
        last, first = self.encoder[-1], self.decoder[0]
        if not (isinstance(last, nn.Conv2d) and isinstance(first, nn.Conv2d) and last.bias is not None):
            raise TypeError("the encoder ends and the decoder begins with a convolution")
        last.weight.div_(std[:, None, None, None])
        last.bias.sub_(mean).div_(std)
        if first.bias is not None:
            first.bias.add_(torch.einsum("ochw,c->o", first.weight, mean))
        first.weight.mul_(std[None, :, None, None])
