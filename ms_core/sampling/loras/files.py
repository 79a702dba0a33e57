"""LoRA files: what they hold, whether it fits the model, and their weights; safetensors only."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import safetensors
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn

from ms_core.errors import UnfitLoraError
from ms_core.model_dir.inspection.base import base_name
from ms_core.model_dir.inspection.headers import DamageError, TensorHeader, read_header
from ms_core.sampling.loras.names import TEXT_ENCODERS, UNET, Target

DOWN, UP, ALPHA = "down", "up", "alpha"
# Endings of a layer's tensors, the longer ones first; the last two follow names such as ``to_q_lora``.
_ROLES = {
    ".lora_linear_layer.down.weight": DOWN,
    ".lora_linear_layer.up.weight": UP,
    ".lora_down.weight": DOWN,
    ".lora_up.weight": UP,
    ".lora.down.weight": DOWN,
    ".lora.up.weight": UP,
    ".lora_A.weight": DOWN,
    ".lora_B.weight": UP,
    ".alpha": ALPHA,
    ".down.weight": DOWN,
    ".up.weight": UP,
}
# Relatives of LoRA by a part of their tensors' names.
_RELATIVES = {
    "dora_scale": "a DoRA",
    "lora_magnitude_vector": "a DoRA",
    "hada_": "a LoHa",
    "lokr_": "a LoKr",
    "oft_": "an OFT",
    "lora_mid": "a LoCon of three matrices for each layer",
    ".diff": "one that holds whole weights",
    ".lora_B.bias": "one with biases",
}
# Bases without SDXL's UNet, by a part of their layers' names.
_TRANSFORMERS = {
    "double_blocks": "Flux",
    "single_transformer_blocks": "Flux",
    "joint_blocks": "Stable Diffusion 3",
    "transformer.": "a base with a transformer, such as Flux or Stable Diffusion 3",
}
_TEXT_KEYS = re.compile(r"attn2[._](?:processor\.)?to_k(?:_lora)?$")
# Where diffusers writes the numbers of the training into the file.
_TRAINING_NUMBERS = "lora_adapter_metadata"


@dataclass(frozen=True, slots=True)
class LowRank:
    """What a LoRA adds to one layer: ``scale * up(down(x))``.

    Attributes:
        down: to the rank: (rank, in), or (rank, in, height, width).
        up: from the rank: (out, rank), or (out, rank, 1, 1).
        scale: alpha divided by the rank.
    """

    down: Tensor
    up: Tensor
    scale: float

    def to(self, device: torch.device) -> LowRank:
        """The same on ``device``."""
        return replace(self, down=self.down.to(device), up=self.up.to(device))

    def __call__(self, module: nn.Module, x: Tensor) -> Tensor:
        """The addition to ``module(x)`` at weight 1."""
        if isinstance(module, nn.Conv2d):
            low = F.conv2d(x, self.down, None, module.stride, module.padding, module.dilation)
            return F.conv2d(low, self.up) * self.scale
        return F.linear(F.linear(x, self.down), self.up) * self.scale


@dataclass(frozen=True, slots=True)
class LayerEntry:
    """Where a file holds one layer's tensors, and alpha divided by the rank."""

    target: Target
    down: str
    up: str
    scale: float


@dataclass(frozen=True, slots=True)
class LoraFile:
    """A LoRA file that fits the model; equal to another reading as long as the file on disk is the same.

    Attributes:
        path: of the file.
        stamp: modification time in nanoseconds, and size in bytes.
        layers: that it changes.
    """

    path: Path
    stamp: tuple[int, int]
    layers: tuple[LayerEntry, ...] = field(compare=False, repr=False)

    @classmethod
    def read(cls, path: Path, targets: Mapping[str, Target]) -> LoraFile:
        """Read names, shapes and alphas of a file, and check that each of its layers is one of the model's.

        Args:
            path: of the file.
            targets: as ``find_targets`` gives them.

        Raises:
            UnfitLoraError: it is broken, holds no plain LoRA, or was made for another base.
        """
        try:
            stamp = file_stamp(path)
            header = read_header(path)
            tensors = _group_tensors(header, path.stem)
            _check_text_width(tensors, header, targets, path.stem)
            _check_layers(tensors, header, targets, path.stem)
            return cls(path, stamp, _read_entries(path, tensors, header, targets))
        except DamageError as error:
            raise UnfitLoraError(f"The file of the LoRA {path.stem!r} {error}; fetch it again.") from error
        except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UnfitLoraError(f"The file of the LoRA {path.stem!r} cannot be read ({_reason(error)}).") from error

    def load(self) -> dict[Target, LowRank]:
        """The weights on the CPU, in the dtypes of the layers they belong to.

        Raises:
            UnfitLoraError: the file is gone, or was changed since it was read.
        """
        try:
            if file_stamp(self.path) != self.stamp:
                raise UnfitLoraError(f"The file of the LoRA {self.path.stem!r} has just been changed; try again.")
            with _open(self.path) as content:
                return {layer.target: _load_layer(content, layer) for layer in self.layers}
        except (OSError, SafetensorError) as error:
            raise UnfitLoraError(
                f"The file of the LoRA {self.path.stem!r} cannot be read ({_reason(error)})."
            ) from error


def _reason(error: Exception) -> str:
    """Why a file cannot be read, without its path, for this goes to users of the service."""
    return (error.strerror or "no reason given") if isinstance(error, OSError) else "it is damaged"


def file_stamp(path: Path) -> tuple[int, int]:
    """Modification time in nanoseconds, and size in bytes."""
    status = path.stat()
    return status.st_mtime_ns, status.st_size


def _group_tensors(header: Mapping[str, TensorHeader], name: str) -> dict[str, dict[str, str]]:
    """Tensors of each layer by their role; layers in the file's names."""
    for mark, kind in _RELATIVES.items():
        if any(mark in key for key in header):
            raise UnfitLoraError(f"The LoRA {name!r} is {kind}; only plain LoRAs can be used here.")
    layers: dict[str, dict[str, str]] = {}
    strangers: list[str] = []
    for key in header:
        ending = next((ending for ending in _ROLES if key.endswith(ending)), None)
        if ending is None:
            strangers.append(key)
        else:
            layers.setdefault(key.removesuffix(ending), {})[_ROLES[ending]] = key
    if not any(DOWN in roles for roles in layers.values()):
        raise UnfitLoraError(f"The file {name}.safetensors contains no LoRA.")
    if strangers:
        raise UnfitLoraError(f"The LoRA {name!r} contains more than a LoRA, such as {strangers[0]!r}.")
    for layer, roles in layers.items():
        if not {DOWN, UP} <= set(roles):
            raise UnfitLoraError(f"The LoRA {name!r} is incomplete: it has only one half of {layer!r}.")
    return layers


def _check_text_width(
    tensors: Mapping[str, Mapping[str, str]],
    header: Mapping[str, TensorHeader],
    targets: Mapping[str, Target],
    name: str,
) -> None:
    """Tell the base by the width of the text that its UNet reads, where the LoRA changes a layer that does."""
    wanted = next(target.shape[1] for key, target in targets.items() if _TEXT_KEYS.search(key))
    for layer, roles in tensors.items():
        if _TEXT_KEYS.search(layer):
            width = header[roles[DOWN]].shape[1]
            if width != wanted:
                raise UnfitLoraError(
                    f"The LoRA {name!r} was made for {base_name(width)} (text {width} wide), not for "
                    f"{base_name(wanted)} (text {wanted} wide)."
                )


def _check_layers(
    tensors: Mapping[str, Mapping[str, str]],
    header: Mapping[str, TensorHeader],
    targets: Mapping[str, Target],
    name: str,
) -> None:
    """Check that the model has every layer, in the same size."""
    unknown = [layer for layer in tensors if layer not in targets]
    for mark, base in _TRANSFORMERS.items():
        if any(mark in layer for layer in unknown):
            raise UnfitLoraError(f"The LoRA {name!r} was made for {base}, not for this model.")
    if unknown:
        raise UnfitLoraError(
            f"The LoRA {name!r} was made for another base: {len(unknown)} of its {len(tensors)} layers are not in this "
            f"model, such as {unknown[0]!r}."
        )
    for layer, roles in tensors.items():
        size = _layer_size(header[roles[DOWN]].shape, header[roles[UP]].shape)
        if size != _without_ones(targets[layer].shape):
            raise UnfitLoraError(
                f"The LoRA {name!r} was made for another base: its layer {layer!r} has the size {size}, the model's "
                "has "
                f"{_without_ones(targets[layer].shape)}."
            )


def _layer_size(down: tuple[int, ...], up: tuple[int, ...]) -> tuple[int, ...] | None:
    """Shape of the layer that two matrices are for; ``None`` if they do not belong together."""
    down, up = _without_ones(down), _without_ones(up)
    if len(down) < 2 or len(up) != 2 or down[0] != up[1]:
        return None
    return (up[0], *down[1:])


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without the height and width of a 1 x 1 convolution, which is a linear layer in disguise."""
    return shape[:2] if all(side == 1 for side in shape[2:]) else shape


def _read_entries(
    path: Path,
    tensors: Mapping[str, Mapping[str, str]],
    header: Mapping[str, TensorHeader],
    targets: Mapping[str, Target],
) -> tuple[LayerEntry, ...]:
    with _open(path) as content:
        metadata: dict[str, str] = content.metadata() or {}
        numbers = json.loads(metadata.get(_TRAINING_NUMBERS, "{}"))
        entries: list[LayerEntry] = []
        for layer, roles in tensors.items():
            rank = header[roles[DOWN]].shape[0]
            if ALPHA in roles:
                scale = float(content.get_tensor(roles[ALPHA])) / rank
            else:
                scale = _trained_scale(numbers, layer, rank)
            entries.append(LayerEntry(targets[layer], roles[DOWN], roles[UP], scale))
        return tuple(entries)


def _trained_scale(numbers: Mapping[str, Any], layer: str, rank: int) -> float:
    """Alpha divided by the rank, by the training's numbers; 1 if the file has none."""
    part = layer.split(".")[0]
    prefix = f"{part}." if part in (UNET, *TEXT_ENCODERS) else ""
    if f"{prefix}lora_alpha" not in numbers:
        return 1.0
    patterns = cast("dict[str, float]", numbers.get(f"{prefix}alpha_pattern") or {})
    # A pattern names the end of a layer's path; what peft would read as a regular expression is taken as it stands.
    path = f".{layer.removeprefix(prefix)}"
    matches = (alpha for pattern, alpha in patterns.items() if path.endswith(f".{pattern.removeprefix('^')}"))
    alpha = float(next(matches, numbers[f"{prefix}lora_alpha"]))
    return alpha / (math.sqrt(rank) if numbers.get(f"{prefix}use_rslora") else rank)


def _open(path: Path) -> Any:
    """A safetensors file, whose tensors are read one by one."""
    return cast("Any", safetensors).safe_open(path, framework="pt")


def _load_layer(content: Any, layer: LayerEntry) -> LowRank:
    out, *rest = layer.target.shape
    down, up = (content.get_tensor(key).to(layer.target.dtype) for key in (layer.down, layer.up))
    ones = [1] * (len(rest) - 1)
    return LowRank(down.reshape(len(down), *rest), up.reshape(out, len(down), *ones), layer.scale)
