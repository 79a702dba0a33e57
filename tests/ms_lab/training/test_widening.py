"""A model that goes on from a smaller one: more tokens, more latent channels, nearly the same pictures."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from ms_core.config import ResamplerConfig
from ms_core.method.resampler import GroundingResampler
from ms_core.mini.unet import PlacedConv
from ms_core.mini.vae import MiniVAE
from ms_lab.mini.recipe import TOKENS_A_SIDE
from ms_lab.training.widening import load_widened

SIZES = {"dim": 32, "depth": 1, "heads": 2, "dim_head": 16, "feature_dim": 24, "phrase_dim": 16, "output_dim": 40}


def resampler(side: int) -> GroundingResampler:
    sizes: dict[str, Any] = SIZES
    return GroundingResampler(ResamplerConfig(**sizes, num_queries=side**2, patches_per_query=TOKENS_A_SIDE // side))


def test_finer_tokens_say_what_the_coarse_one_in_their_place_said_of_an_even_picture() -> None:
    coarse, fine = resampler(TOKENS_A_SIDE // 2), resampler(TOKENS_A_SIDE)
    load_widened(fine, coarse.state_dict())
    features = torch.randn(1, 1, 24).expand(1, 1 + TOKENS_A_SIDE**2, 24)
    # Without places, which are finer in the finer one.
    for each in (coarse, fine):
        assert each.picture_parts is not None
        for projection in (each.picture_parts.to_query, each.picture_parts.to_token):
            nn.init.zeros_(projection.weight)
            nn.init.zeros_(projection.bias)
        # Attention to more queries would weigh them more.
        each.layers = nn.ModuleList()
    phrase, box = torch.randn(1, 16), torch.tensor([[0.1, 0.2, 0.6, 0.9]])
    for grounded in (True, False):
        expected = coarse(features, phrase, box, grounded).unflatten(1, (TOKENS_A_SIDE // 2, -1))
        tokens = fine(features, phrase, box, grounded).unflatten(1, (TOKENS_A_SIDE, -1))
        torch.testing.assert_close(tokens, expected.repeat_interleave(2, 1).repeat_interleave(2, 2))


def test_more_latent_channels_decode_as_before() -> None:
    narrow, wide = (MiniVAE(latent_channels=channels, width=16, detail_width=8) for channels in (8, 16))
    load_widened(wide, narrow.state_dict())
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    latents = wide.encoder(images)
    torch.testing.assert_close(latents[:, :8], narrow.encoder(images))
    torch.testing.assert_close(wide.decoder(latents), narrow.decoder(narrow.encoder(images)))
    # Zeros here and in the decoder would never learn anything.
    assert latents[:, 8:].std() > 0


def test_a_network_neither_sees_nor_draws_the_new_channels_yet() -> None:
    narrow, wide = (nn.ModuleDict({"conv_in": PlacedConv(n, 6), "conv_out": nn.Conv2d(6, n, 3)}) for n in (8, 16))
    load_widened(wide, narrow.state_dict())
    latents = torch.randn(1, 16, 9, 9)
    seen = wide["conv_in"](latents)
    torch.testing.assert_close(seen, narrow["conv_in"](latents[:, :8]))
    drawn = wide["conv_out"](seen)
    torch.testing.assert_close(drawn[:, :8], narrow["conv_out"](seen))
    assert not drawn[:, 8:].any()


def test_another_size_that_differs_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="size"):
        load_widened(MiniVAE(width=24), MiniVAE(width=16).state_dict())


def test_a_missing_weight_is_an_error() -> None:
    weights = dict(MiniVAE().state_dict())
    weights.popitem()
    with pytest.raises(RuntimeError, match="Missing"):
        load_widened(MiniVAE(), weights)
