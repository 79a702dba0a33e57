"""Samples for the training sheets, straight from a batch; users sample through ``ms_core.sampling.pipeline``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from ms_core.method.attention_data import AttentionData
from ms_lab.mini.batches import SceneBatch
from ms_lab.mini.recipe import build_scheduler
from ms_lab.training.text_encoding import Text, encode_captions

if TYPE_CHECKING:
    from ms_lab.training.denoising_stage import DenoisingStage


@torch.no_grad()
def sample_batch(  # noqa: PLR0913 - what pictures depend on
    stage: DenoisingStage,
    batch: SceneBatch,
    steps: int = 20,
    guidance_scale: float = 2.0,
    seeds: Sequence[int] | None = None,
    see_references: bool = True,
) -> Float[Tensor, "b 3 height width"]:
    """Pictures in [-1, 1] for a batch's captions, references and boxes.

    Args:
        stage: whose model draws them.
        batch: the scenes.
        steps, guidance_scale: of the sampling.
        seeds: of each picture's noise; ``None``: the noise is always the same.
        see_references: if not, all subjects are switched off, which is a scale of 0.
    """
    rows, (height, width) = len(batch.captions), (side // 8 for side in batch.images.shape[-2:])
    device = batch.images.device
    nothing = torch.zeros(rows, dtype=torch.bool, device=device)
    text, negative = (encode_captions(stage.model, captions) for captions in (batch.captions, [""] * rows))
    empty = stage.attention_data(batch, ~nothing, nothing)
    data = stage.attention_data(batch, nothing, nothing) if see_references else empty
    scheduler = build_scheduler()
    scheduler.set_timesteps(steps, device=device)
    noise = _noise((rows, stage.model.unet.config.in_channels, height, width), seeds)
    latents = noise.to(device) * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        model_input = scheduler.scale_model_input(latents, timestep)
        conditional = _predict(stage, model_input, timestep, text, data)
        unconditional = _predict(stage, model_input, timestep, negative, empty)
        velocity = unconditional + guidance_scale * (conditional - unconditional)
        latents = scheduler.step(velocity, timestep, latents).prev_sample
    return stage.model.vae.decoder(latents)


def _noise(shape: tuple[int, ...], seeds: Sequence[int] | None) -> Float[Tensor, "b c h w"]:
    if seeds is None:
        return torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return torch.stack([torch.randn(shape[1:], generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def _predict(
    stage: DenoisingStage, latents: Tensor, timestep: Tensor, text: Text, data: AttentionData
) -> Float[Tensor, "b c h w"]:
    return stage.predict(latents, timestep.expand(len(latents)), text, data).float()
