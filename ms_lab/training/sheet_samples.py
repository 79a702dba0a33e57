"""Samples for the training sheets, straight from a batch; users sample through ``ms_core.sampling.pipeline``."""

from __future__ import annotations

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
def sample_batch(
    stage: DenoisingStage, batch: SceneBatch, steps: int = 20, guidance_scale: float = 2.0
) -> Float[Tensor, "b 3 height width"]:
    """Pictures in [-1, 1] for a batch's captions, references and boxes, always from the same noise."""
    rows, (height, width) = len(batch.captions), (side // 8 for side in batch.images.shape[-2:])
    device = batch.images.device
    nothing = torch.zeros(rows, dtype=torch.bool, device=device)
    text, negative = (encode_captions(stage.model, captions) for captions in (batch.captions, [""] * rows))
    data = stage.attention_data(batch, nothing, nothing)
    empty = stage.attention_data(batch, ~nothing, nothing)
    scheduler = build_scheduler()
    scheduler.set_timesteps(steps, device=device)
    channels = stage.model.unet.config.in_channels
    noise = torch.randn(rows, channels, height, width, generator=torch.Generator().manual_seed(0))
    latents = noise.to(device) * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        model_input = scheduler.scale_model_input(latents, timestep)
        conditional = _predict(stage, model_input, timestep, text, data)
        unconditional = _predict(stage, model_input, timestep, negative, empty)
        velocity = unconditional + guidance_scale * (conditional - unconditional)
        latents = scheduler.step(velocity, timestep, latents).prev_sample
    return stage.model.vae.decoder(latents)


def _predict(
    stage: DenoisingStage, latents: Tensor, timestep: Tensor, text: Text, data: AttentionData
) -> Float[Tensor, "b c h w"]:
    return stage.predict(latents, timestep.expand(len(latents)), text, data).float()
