"""Random LoRA files in every spelling, and the slow, obvious way to use them: weights merged by hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

# Layers of each kind in the tiny golden model, by component and path.
UNET_LAYERS = (
    "conv_in",
    "add_embedding.linear_1",
    "down_blocks.0.resnets.0.conv1",
    "down_blocks.1.resnets.0.conv_shortcut",
    "down_blocks.1.downsamplers.0.conv",
    "down_blocks.1.resnets.1.time_emb_proj",
    "down_blocks.1.attentions.0.proj_in",
    "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q",
    "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_q",
    "down_blocks.2.attentions.1.transformer_blocks.1.attn2.to_k",
    "down_blocks.2.attentions.1.transformer_blocks.1.attn2.to_v",
    "mid_block.attentions.0.transformer_blocks.1.attn2.to_out.0",
    "mid_block.resnets.1.conv2",
    "up_blocks.0.upsamplers.0.conv",
    "up_blocks.1.attentions.2.transformer_blocks.0.ff.net.0.proj",
    "up_blocks.2.resnets.2.conv_shortcut",
)
TEXT_LAYERS = (
    "encoder.layers.0.self_attn.q_proj",
    "encoder.layers.1.self_attn.out_proj",
    "encoder.layers.1.mlp.fc1",
    "encoder.layers.2.mlp.fc2",
)
Layer = tuple[str, str]
UNET: tuple[Layer, ...] = tuple(("unet", path) for path in UNET_LAYERS)
TEXT: tuple[Layer, ...] = (
    *(("text_encoder", path) for path in TEXT_LAYERS),
    *(("text_encoder_2", f"text_model.{path}") for path in TEXT_LAYERS),
    ("text_encoder_2", "text_projection"),
)
# kohya's names of some layers after the UNet of SDXL's own code, here of three blocks of two layers.
ORIGINAL_NAMES = {
    "conv_in": "input_blocks_0_0",
    "add_embedding.linear_1": "label_emb_0_0",
    "down_blocks.0.resnets.0.conv1": "input_blocks_1_0_in_layers_2",
    "down_blocks.1.resnets.0.conv_shortcut": "input_blocks_4_0_skip_connection",
    "down_blocks.1.downsamplers.0.conv": "input_blocks_6_0_op",
    "down_blocks.1.resnets.1.time_emb_proj": "input_blocks_5_0_emb_layers_1",
    "down_blocks.1.attentions.0.proj_in": "input_blocks_4_1_proj_in",
    "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q": "input_blocks_4_1_transformer_blocks_0_attn1_to_q",
    "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_q": "input_blocks_4_1_transformer_blocks_0_attn2_to_q",
    "down_blocks.2.attentions.1.transformer_blocks.1.attn2.to_k": "input_blocks_8_1_transformer_blocks_1_attn2_to_k",
    "down_blocks.2.attentions.1.transformer_blocks.1.attn2.to_v": "input_blocks_8_1_transformer_blocks_1_attn2_to_v",
    "mid_block.attentions.0.transformer_blocks.1.attn2.to_out.0": "middle_block_1_transformer_blocks_1_attn2_to_out_0",
    "mid_block.resnets.1.conv2": "middle_block_2_out_layers_3",
    "up_blocks.0.upsamplers.0.conv": "output_blocks_2_2_conv",
    "up_blocks.1.attentions.2.transformer_blocks.0.ff.net.0.proj": "output_blocks_5_1_transformer_blocks_0_ff_net_0_proj",
    "up_blocks.2.resnets.2.conv_shortcut": "output_blocks_8_0_skip_connection",
}


@dataclass(frozen=True)
class Matrices:
    """What a LoRA holds of one layer."""

    down: torch.Tensor
    up: torch.Tensor
    alpha: float

    def delta(self) -> torch.Tensor:
        """The change of the layer's weight."""
        rank = len(self.down)
        flat = self.up.flatten(1) @ self.down.flatten(1) * (self.alpha / rank)
        return flat.reshape(len(self.up), *self.down.shape[1:])


def make_lora(components: Any, layers: Iterable[Layer], seed: int = 0, size: float = 0.15) -> dict[Layer, Matrices]:
    """Random matrices; ranks and alphas differ from layer to layer."""
    generator = torch.Generator().manual_seed(seed)
    lora: dict[Layer, Matrices] = {}
    for index, (component, path) in enumerate(layers):
        out, *rest = getattr(components, component).get_submodule(path).weight.shape
        rank = 2 + index % 3
        down = torch.randn(rank, *rest, generator=generator) * size
        up = torch.randn(out, rank, *([1] * (len(rest) - 1)), generator=generator) * size
        lora[component, path] = Matrices(down, up, alpha=1.0 + index % 4)
    return lora


def write_kohya(path: Path, lora: Mapping[Layer, Matrices], original: bool = False) -> None:
    """As kohya's trainers write it; ``original`` names the UNet's layers after SDXL's own code."""
    tensors: dict[str, torch.Tensor] = {}
    for (component, layer), matrices in lora.items():
        if component == "unet":
            name = "lora_unet_" + (ORIGINAL_NAMES[layer] if original else layer.replace(".", "_"))
        else:
            name = f"lora_te{1 if component == 'text_encoder' else 2}_{_full(layer).replace('.', '_')}"
        tensors[f"{name}.lora_down.weight"] = matrices.down
        tensors[f"{name}.lora_up.weight"] = matrices.up
        tensors[f"{name}.alpha"] = torch.tensor(matrices.alpha)
    save_file(tensors, path)


def write_peft(path: Path, lora: Mapping[Layer, Matrices], metadata: Mapping[str, str] | None = None) -> None:
    """As diffusers writes it today; alphas only go into ``metadata``."""
    tensors: dict[str, torch.Tensor] = {}
    for (component, layer), matrices in lora.items():
        name = layer if component == "unet" else _full(layer)
        tensors[f"{component}.{name}.lora_A.weight"] = matrices.down
        tensors[f"{component}.{name}.lora_B.weight"] = matrices.up
    save_file(tensors, path, metadata=None if metadata is None else dict(metadata))


def write_old_diffusers(path: Path, lora: Mapping[Layer, Matrices]) -> None:
    """As diffusers wrote it first: attention processors and ``lora_linear_layer``; without alphas."""
    tensors: dict[str, torch.Tensor] = {}
    for (component, layer), matrices in lora.items():
        head, _, last = layer.rpartition(".")
        if "attn" in layer and component == "unet":
            head = head.removesuffix(".to_out")
            name = f"unet.{head}.processor.{'to_out' if last == '0' else last}_lora"
        elif "self_attn" in layer:
            name = f"{component}.{_full(head)}.to_{last.removesuffix('_proj')}_lora"
        elif component == "unet":
            name = f"unet.{layer}.lora"
        else:
            name = f"{component}.{_full(layer)}.lora_linear_layer"
        tensors[f"{name}.down.weight"] = matrices.down
        tensors[f"{name}.up.weight"] = matrices.up
    save_file(tensors, path)


def merge(components: Any, lora: Mapping[Layer, Matrices], weight: float = 1.0) -> None:
    """Add a LoRA to a model's own weights."""
    for (component, path), matrices in lora.items():
        parameter = getattr(components, component).get_submodule(path).weight
        parameter.data += weight * matrices.delta()


def _full(path: str) -> str:
    """A text encoder's path as files name it."""
    return path if path.startswith("text_model.") or path == "text_projection" else f"text_model.{path}"
