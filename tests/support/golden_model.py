"""The tiny model of ``tests/golden`` as a model directory: real components, small, and quick on a CPU."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from ms_core.config import GenerationDefaults, ModelCard
from ms_core.method.checkpoint import load_official_adapter, save_adapter
from tests.support.paths import GOLDEN

RESAMPLER_HEADS = 4
DEFAULT_STEPS = 4


def write_golden_model(directory: Path) -> ModelCard:
    """Make ``directory`` a model directory: 256 x 256 by default, up to 512 x 512, four steps; returns its card."""
    shutil.copytree(GOLDEN / "tiny-sdxl", directory, dirs_exist_ok=True)
    shutil.copytree(GOLDEN / "image_encoder", directory / "image_encoder", dirs_exist_ok=True)
    unet = UNet2DConditionModel.from_pretrained(directory / "unet", torch_dtype=torch.float32)
    adapter = load_official_adapter(GOLDEN / "ms_adapter.bin", unet, RESAMPLER_HEADS)
    save_adapter(adapter, directory)
    card = ModelCard(
        name="golden",
        resampler=adapter.resampler.config,
        num_dummy_tokens=adapter.dummy_tokens.shape[1],
        defaults=GenerationDefaults(height=256, width=256, num_inference_steps=DEFAULT_STEPS),
        max_height=512,
        max_width=512,
    )
    card.save(directory)
    return card
