"""LoRA files: what they hold, whether it fits the model, and their weights; safetensors only."""

from __future__ import annotations

import json
import math
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
from ms_core.model_dir.inspection.headers import DamageError, TensorHeader, read_header
from ms_core.sampling.loras.fit import ALPHA, DOWN, UP, LayerTensors, check_fit, group_tensors, packed_words
from ms_core.sampling.loras.names import TEXT_ENCODERS, UNET, Target

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
        words: of textual inversions that are in the file, too, and are not used.
    """

    path: Path
    stamp: tuple[int, int]
    layers: tuple[LayerEntry, ...] = field(compare=False, repr=False)
    words: tuple[str, ...] = field(compare=False, default=())

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
            tensors = group_tensors(header, path.stem)
            check_fit(tensors, header, targets, path.stem)
            return cls(path, stamp, _read_entries(path, tensors, header, targets), packed_words(header))
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


def _read_entries(
    path: Path,
    tensors: LayerTensors,
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
