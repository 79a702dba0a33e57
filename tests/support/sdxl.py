"""The full SDXL UNet and MS-Diffusion's released shapes, on meta tensors."""

from __future__ import annotations

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from benchmarks.random_sdxl import FULL


def sdxl_unet() -> UNet2DConditionModel:
    """SDXL's UNet as its config file says, without memory."""
    with torch.device("meta"):
        return UNet2DConditionModel(**FULL.unet)


def released_shapes() -> dict[str, dict[str, tuple[int, ...]]]:
    """Keys and shapes of the released ``ms_adapter.bin``, by entry."""
    return {"image_proj": _resampler_shapes(), "ms_adapter": _attention_shapes()}


def _resampler_shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "grounding_latents": (1, 16, 1280),
        "latent_proj.0.weight": (1664, 832),
        "latent_proj.0.bias": (1664,),
        "latent_proj.2.weight": (20480, 1664),
        "latent_proj.2.bias": (20480,),
        "proj_in.weight": (1280, 1664),
        "proj_in.bias": (1280,),
        "proj_out.weight": (2048, 1280),
        "proj_out.bias": (2048,),
    }
    norms = {"latent_norm": 1280, "attention_norm": 1280, "norm_out": 2048}
    for layer in range(4):
        norms |= {f"layers.{layer}.{name}": 1280 for name in ("0.norm1", "0.norm2", "1.0")}
        shapes |= {
            f"layers.{layer}.0.to_q.weight": (1280, 1280),
            f"layers.{layer}.0.to_kv.weight": (2560, 1280),
            f"layers.{layer}.0.to_out.weight": (1280, 1280),
            f"layers.{layer}.1.1.weight": (5120, 1280),
            f"layers.{layer}.1.3.weight": (1280, 5120),
        }
    for name, width in norms.items():
        shapes |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    return shapes


def _attention_shapes() -> dict[str, tuple[int, ...]]:
    """Odd positions only; 640 channels in down_blocks.1 (1 to 7) and up_blocks.1 (109 to 119), 1280 elsewhere."""
    shapes: dict[str, tuple[int, ...]] = {}
    for position in range(1, 140, 2):
        width = 640 if position <= 7 or 109 <= position <= 119 else 1280
        shapes |= {f"{position}.to_{name}_ip.weight": (width, 2048) for name in ("k", "v")}
    return shapes
