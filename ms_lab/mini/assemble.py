"""A trained small model as a model directory: the diffusers layout, the image encoder, adapter weights and card."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import StableDiffusionXLPipeline

from ms_core.config import ModelCard
from ms_core.method.checkpoint import save_adapter
from ms_core.model_dir.loading import IMAGE_ENCODER, load_vae
from ms_core.model_dir.preview_map import fit_preview_map
from ms_lab.mini.recipe import VISION_SIZE, MiniModel

# CLIP's own pixel statistics, which the vision tower is trained with.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def save_model(model: MiniModel, directory: Path, card: ModelCard, dtype: torch.dtype = torch.bfloat16) -> None:
    """Write all parts of a model.

    Args:
        model: with its adapter installed or not; it stays as it is.
        directory: made if missing.
        card: with the facts of the training; how previews are drawn is added.
        dtype: of the weights on disk.
    """
    parts = {
        name: _plain_copy(part, dtype)
        for name, part in (
            ("vae", model.vae),
            ("text_encoder", model.text_encoder),
            ("text_encoder_2", model.text_encoder_2),
            ("unet", model.unet),
        )
    }
    pipeline = cast("Any", StableDiffusionXLPipeline)(
        **parts,
        tokenizer=model.tokenizer,
        tokenizer_2=model.tokenizer,
        scheduler=model.scheduler,
        force_zeros_for_empty_prompt=False,
        add_watermarker=False,
    )
    pipeline.save_pretrained(directory, safe_serialization=True)
    _save_image_encoder(model.image_encoder, directory / IMAGE_ENCODER, dtype)
    save_adapter(model.adapter, directory, dtype)
    replace(card, preview=fit_preview_map(load_vae(directory))).save(directory)


def _plain_copy(part: Any, dtype: torch.dtype) -> Any:
    """A copy with stock attention, in ``dtype``, without hooks that belong to an installed adapter."""
    kind = cast("Any", type(part))
    fresh: Any = kind.from_config(part.config) if hasattr(part, "register_to_config") else copy.deepcopy(part)
    fresh.load_state_dict(part.state_dict())
    return fresh.to("cpu", dtype)


def _save_image_encoder(encoder: Any, directory: Path, dtype: torch.dtype) -> None:
    copy.deepcopy(encoder).to("cpu", dtype).save_pretrained(directory, safe_serialization=True)
    preprocessor = {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": VISION_SIZE},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": VISION_SIZE, "width": VISION_SIZE},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": CLIP_MEAN,
        "image_std": CLIP_STD,
    }
    (directory / "preprocessor_config.json").write_text(json.dumps(preprocessor, indent=2) + "\n", encoding="utf-8")
