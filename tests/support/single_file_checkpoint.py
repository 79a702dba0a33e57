"""The tiny golden model as one file in the layout of SDXL's first release, as fine-tunes are passed around."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

StateDict = dict[str, Tensor]

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_UNET_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_OPEN_CLIP = {
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm": "ln_final",
    "text_model.encoder.layers.": "transformer.resblocks.",
    ".layer_norm1": ".ln_1",
    ".layer_norm2": ".ln_2",
    ".mlp.fc1": ".mlp.c_fc",
    ".mlp.fc2": ".mlp.c_proj",
    ".self_attn.out_proj": ".attn.out_proj",
}
_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def write_single_file(base: Path, path: Path, dtype: torch.dtype | None = None) -> None:
    """Write the model of a folder in the diffusers layout (two layers in each UNet block) as one safetensors file."""
    state = single_file_tensors(base)
    save_file({name: tensor.to(dtype or tensor.dtype).contiguous().clone() for name, tensor in state.items()}, path)


def single_file_tensors(base: Path) -> StateDict:
    """Tensors of the single file by name."""
    unet = load_file(base / "unet" / "diffusion_pytorch_model.safetensors")
    vae = load_file(base / "vae" / "diffusion_pytorch_model.safetensors")
    first = load_file(base / "text_encoder" / "model.safetensors")
    second = load_file(base / "text_encoder_2" / "model.safetensors")
    levels = 1 + max(int(name.split(".")[2]) for name in vae if name.startswith("decoder.up_blocks."))
    with_attention = {name.split(".")[1] for name in unet if re.match(r"up_blocks\.\d+\.attentions", name)}
    clip = "conditioner.embedders.0.transformer.text_model."
    return {
        **{f"model.diffusion_model.{_unet_name(name, with_attention)}": unet[name] for name in unet},
        **dict(_vae_entry(name, tensor, levels) for name, tensor in vae.items()),
        **{clip + name.removeprefix("text_model."): tensor for name, tensor in first.items()},
        **{f"conditioner.embedders.1.model.{name}": tensor for name, tensor in _open_clip(second).items()},
    }


def _unet_name(name: str, with_attention: set[str]) -> str:
    for ours, theirs in _UNET_ENDS.items():
        if name.startswith(f"{ours}."):
            return theirs + name.removeprefix(ours)
    match = re.match(r"(down_blocks|up_blocks)\.(\d+)\.(\w+)\.(\d+)\.(.*)", name)
    if match is None:
        _, kind, number, rest = name.split(".", 3)
        return f"middle_block.{1 if kind == 'attentions' else 2 * int(number)}.{_inner_name(kind, rest)}"
    side, block, kind, layer, rest = match.groups()
    begin = 3 * int(block)
    if side == "down_blocks":
        if kind == "downsamplers":
            return f"input_blocks.{begin + 3}.0.op.{rest.removeprefix('conv.')}"
        return f"input_blocks.{begin + 1 + int(layer)}.{int(kind == 'attentions')}.{_inner_name(kind, rest)}"
    if kind == "upsamplers":
        return f"output_blocks.{begin + 2}.{2 if block in with_attention else 1}.{rest}"
    return f"output_blocks.{begin + int(layer)}.{int(kind == 'attentions')}.{_inner_name(kind, rest)}"


def _inner_name(kind: str, rest: str) -> str:
    if kind != "resnets":
        return rest
    part, _, end = rest.partition(".")
    return f"{_RESNET[part]}.{end}"


def _vae_entry(name: str, tensor: Tensor, levels: int) -> tuple[str, Tensor]:
    new = re.sub(r"down_blocks\.(\d+)\.resnets", r"down.\1.block", name)
    new = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", new)
    new = re.sub(r"up_blocks\.(\d+)\.resnets", lambda match: f"up.{levels - 1 - int(match[1])}.block", new)
    new = re.sub(r"up_blocks\.(\d+)\.upsamplers\.0", lambda match: f"up.{levels - 1 - int(match[1])}.upsample", new)
    new = re.sub(r"mid_block\.resnets\.(\d)", lambda match: f"mid.block_{int(match[1]) + 1}", new)
    new = new.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
    if "mid_block.attentions.0." in new:
        start, _, end = new.partition("mid_block.attentions.0.")
        part, _, kind = end.rpartition(".")
        new = f"{start}mid.attn_1.{_VAE_ATTENTION[part]}.{kind}"
        if kind == "weight" and part != "group_norm":
            tensor = tensor[:, :, None, None]
    return f"first_stage_model.{new}", tensor


def _open_clip(state: StateDict) -> StateDict:
    renamed: StateDict = {"text_projection": state["text_projection.weight"].T}
    for name, tensor in state.items():
        if name == "text_projection.weight" or re.search(r"\.[qkv]_proj\.", name):
            continue
        new = name
        for ours, theirs in _OPEN_CLIP.items():
            new = new.replace(ours, theirs)
        renamed[new] = tensor
    for layer in {name.split(".")[3] for name in state if name.startswith("text_model.encoder.layers.")}:
        for kind in ("weight", "bias"):
            parts = [state[f"text_model.encoder.layers.{layer}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
            renamed[f"transformer.resblocks.{layer}.attn.in_proj_{kind}"] = torch.cat(parts)
    return renamed
