"""The layers that a LoRA may change, by every name that files have for them.

Files name layers in three ways: as diffusers does (``unet.down_blocks.1...``), as kohya's trainers do, with underscores
(``lora_unet_down_blocks_1_...``), and either after the UNet of SDXL's own code (``input_blocks.4.1...``). Other programs put
other words before the same names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

UNET = "unet"
TEXT_ENCODERS = ("text_encoder", "text_encoder_2")

_KOHYA = {UNET: ("lora_unet_",), "text_encoder": ("lora_te1_", "lora_te_"), "text_encoder_2": ("lora_te2_",)}
# What peft, torch.compile and parallel training put around a model.
_WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:base_model\.model|_orig_mod|module)\.")
# Other beginnings for the same components: of ComfyUI, OneTrainer and LyCORIS; the longer ones first.
_BEGINNINGS = {
    "model.diffusion_model.": "unet.",
    "diffusion_model.": "unet.",
    "lora_unet.": "unet.",
    "lycoris_": "lora_unet_",
    "text_encoders.": "",
    "clip_l.": "text_encoder.",
    "clip_g.": "text_encoder_2.",
    "lora_te1.": "text_encoder.",
    "lora_te2.": "text_encoder_2.",
}
_COMFY_TEXT_MODEL = re.compile(r"^(text_encoder(?:_2)?)\.transformer\.")
_TEXT_MODEL = "text_model."
_TEXT_PROJECTION = "text_projection"
# Parts of a residual block: diffusers' names, and those of SDXL's own code.
_RESNET_PARTS = {
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
# Layers outside the blocks, in the same two spellings.
_OUTER_LAYERS = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_out": "out.2",
}
_UNET_ATTENTION = re.compile(r"(.+\.attn[12])\.(to_[qkv]|to_out)(?:\.0)?")
_TEXT_ATTENTION = re.compile(r"(.+\.self_attn)\.(q|k|v|out)_proj")


@dataclass(frozen=True, slots=True)
class Target:
    """A linear or convolution layer of the model.

    Attributes:
        component: ``unet``, ``text_encoder`` or ``text_encoder_2``.
        path: of the module in the component.
        shape: of its weight: (out, in), or (out, in, height, width).
        dtype: of its weight when the model was loaded.
    """

    component: str
    path: str
    shape: tuple[int, ...]
    dtype: torch.dtype


def find_targets(components: Any) -> dict[str, Target]:
    """All layers of the UNet and the text encoders that a LoRA may change, by each of their names in files.

    Args:
        components: a ``StableDiffusionXLPipeline``.
    """
    blocks = _block_names(components.unet.config)
    targets: dict[str, Target] = {}
    for component in (UNET, *TEXT_ENCODERS):
        for path, module in getattr(components, component).named_modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                target = Target(component, path, tuple(module.weight.shape), module.weight.dtype)
                names = _unet_names(path, blocks) if component == UNET else _text_names(component, path)
                targets |= dict.fromkeys(names, target)
    return targets


def plain_name(layer: str) -> str:
    """A layer's name in a file, without what wrapped the model and with diffusers' or kohya's beginning."""
    name = _WRAPPERS.sub("", layer)
    for beginning, plain in _BEGINNINGS.items():
        if name.startswith(beginning):
            name = plain + name.removeprefix(beginning)
    return _COMFY_TEXT_MODEL.sub(r"\1.", name)


def _unet_names(path: str, blocks: dict[str, str]) -> Iterator[str]:
    yield from _spell(UNET, path, path)
    yield path
    original = _original_name(path, blocks)
    if original is not None:
        yield from _spell(UNET, original, original)
        yield original
    attention = _UNET_ATTENTION.fullmatch(path)
    if attention is not None:
        old = f"{attention[1]}.processor.{attention[2]}_lora"
        yield old
        yield f"{UNET}.{old}"


def _text_names(component: str, path: str) -> Iterator[str]:
    # transformers leaves this part out for the first text encoder; files never do.
    full = path if path.startswith(_TEXT_MODEL) or path == _TEXT_PROJECTION else _TEXT_MODEL + path
    yield from _spell(component, full, path)
    attention = _TEXT_ATTENTION.fullmatch(full)
    if attention is not None:
        yield f"{component}.{attention[1]}.to_{attention[2]}_lora"


def _spell(component: str, full: str, path: str) -> Iterator[str]:
    """diffusers' and kohya's spellings of one path."""
    yield f"{component}.{full}"
    yield f"{component}.{path}"
    for prefix in _KOHYA[component]:
        yield prefix + full.replace(".", "_")


def _original_name(path: str, blocks: dict[str, str]) -> str | None:
    """The path in the UNet of SDXL's own code; ``None`` for a layer that it has not."""
    if path in _OUTER_LAYERS:
        return _OUTER_LAYERS[path]
    block, _, rest = _split_block(path)
    if block not in blocks:
        return None
    if ".resnets." in block:
        rest = _RESNET_PARTS.get(rest, rest)
    elif ".downsamplers." in block:
        rest = "op"
    return f"{blocks[block]}.{rest}"


def _split_block(path: str) -> tuple[str, str, str]:
    """``down_blocks.1.resnets.0`` or ``mid_block.resnets.0``, a dot, and what comes after."""
    match = re.match(r"(?:mid_block|(?:down|up)_blocks\.\d+)\.[a-z]+\.\d+", path)
    return (match[0], ".", path[match.end() + 1 :]) if match else (path, "", "")


def _block_names(config: Any) -> dict[str, str]:
    """Blocks of a UNet, in diffusers' names, and where they stand in the UNet of SDXL's own code."""
    names = {
        "mid_block.resnets.0": "middle_block.0",
        "mid_block.attentions.0": "middle_block.1",
        "mid_block.resnets.1": "middle_block.2",
    }
    position = 1
    for block in range(len(config.down_block_types)):
        for layer in range(config.layers_per_block):
            names[f"down_blocks.{block}.resnets.{layer}"] = f"input_blocks.{position}.0"
            names[f"down_blocks.{block}.attentions.{layer}"] = f"input_blocks.{position}.1"
            position += 1
        names[f"down_blocks.{block}.downsamplers.0"] = f"input_blocks.{position}.0"
        position += 1
    position = 0
    for block, kind in enumerate(config.up_block_types):
        for layer in range(config.layers_per_block + 1):
            names[f"up_blocks.{block}.resnets.{layer}"] = f"output_blocks.{position}.0"
            names[f"up_blocks.{block}.attentions.{layer}"] = f"output_blocks.{position}.1"
            position += 1
        part = 2 if "CrossAttn" in kind else 1
        names[f"up_blocks.{block}.upsamplers.0"] = f"output_blocks.{position - 1}.{part}"
    return names
