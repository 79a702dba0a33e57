"""What may lie beside the weights of the tiny golden model: a ControlNet, LoRAs, and presets that use them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import save_file

from ms_core.config import CONTROLNETS, LORAS, ModelCard, Preset, PresetLora

CROSS_ATTENTION_KEY = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"


def add_extras(directory: Path) -> ModelCard:
    """Give the golden model the ControlNet ``canny``, the LoRA ``paper``, one for another base, and three presets."""
    unet = UNet2DConditionModel.from_pretrained(directory / "unet")
    _save_controlnet(directory / CONTROLNETS / "canny", unet)
    (directory / LORAS).mkdir()
    width = unet.get_submodule(CROSS_ATTENTION_KEY).weight.shape[1]
    _save_lora(directory / LORAS / "paper.safetensors", unet, width)
    _save_lora(directory / LORAS / "other-base.safetensors", unet, width + 8)
    presets = {
        "quick": Preset("Two steps.", num_inference_steps=2, guidance_scale=1.0, timestep_spacing="trailing"),
        "paper": Preset("On paper.", num_inference_steps=2, loras=(PresetLora("paper", 0.8),)),
        "incomplete": Preset("Its LoRA is missing.", loras=(PresetLora("lost"),)),
    }
    card = replace(ModelCard.load(directory), presets=presets)
    card.save(directory)
    return ModelCard.load(directory)


def _save_controlnet(directory: Path, unet: UNet2DConditionModel) -> None:
    """A ControlNet whose "zero convolutions" are not zero, so that it acts."""
    net = ControlNetModel.from_unet(unet)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in (net.controlnet_mid_block, *net.controlnet_down_blocks):
            module.weight.normal_(std=0.2, generator=generator)
    net.save_pretrained(directory)


def _save_lora(path: Path, unet: UNet2DConditionModel, width: int) -> None:
    """A LoRA of one layer, made for a model whose text is ``width`` wide."""
    generator = torch.Generator().manual_seed(0)
    out = unet.get_submodule(CROSS_ATTENTION_KEY).weight.shape[0]
    name = "lora_unet_" + CROSS_ATTENTION_KEY.replace(".", "_")
    tensors = {
        f"{name}.lora_down.weight": torch.randn(4, width, generator=generator),
        f"{name}.lora_up.weight": torch.randn(out, 4, generator=generator),
        f"{name}.alpha": torch.tensor(4.0),
    }
    save_file(tensors, path)
