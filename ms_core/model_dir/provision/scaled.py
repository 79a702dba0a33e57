"""Weights that a single file stores as 8-bit floats with a scale for each: widened, where that is plain; else refused.

ComfyUI and others write a layer's scale beside its weight, as ``scale_weight`` or ``weight_scale``, and what they know of
its format as JSON in ``comfy_quant``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from ms_core.errors import CheckpointError

_SCALES = (".scale_weight", ".weight_scale")
# For 8-bit products, which are not computed here: whoever widens the weights needs them no more.
_INPUT_SCALES = (".scale_input", ".input_scale")
_FORMAT = ".comfy_quant"
_MARK = "scaled_fp8"
_FLOAT8 = (torch.float8_e4m3fn, torch.float8_e5m2)
# What a format's JSON may say; anything more could change the weights.
_FORMAT_KEYS = {"format", "full_precision_matrix_mult"}


def widen_scaled(tensors: Mapping[str, Tensor], dtype: torch.dtype, path: Path) -> dict[str, Tensor]:
    """Multiply 8-bit weights by their scales.

    Args:
        tensors: of the file by name, which may be mapped from it.
        dtype: of the widened weights.
        path: of the file, for sentences.

    Returns:
        The tensors with widened weights, without what only tells how they were stored.

    Raises:
        CheckpointError: it is not certain what a weight's value is.
    """
    scales = _find_scales(tensors, path)
    spent = set(scales.values()) | {name for name in tensors if _is_spent(tensors, name, scales, path)}
    widened = {name: tensor for name, tensor in tensors.items() if name not in spent}
    for weight, scale in scales.items():
        widened[weight] = (tensors[weight].float() * tensors[scale].float().item()).to(dtype)
        if not widened[weight].isfinite().all():
            raise packed_error(path, scale)
    return widened


def _find_scales(tensors: Mapping[str, Tensor], path: Path) -> dict[str, str]:
    """Names of scales by those of their weights."""
    scales: dict[str, str] = {}
    for name in tensors:
        if name.endswith(_SCALES):
            weight = f"{name.rpartition('.')[0]}.weight"
            if weight in scales or not _is_plain(tensors.get(weight), tensors[name]):
                raise packed_error(path, name)
            scales[weight] = name
    return scales


def _is_spent(tensors: Mapping[str, Tensor], name: str, scales: Mapping[str, str], path: Path) -> bool:
    """Whether a tensor only tells how weights were stored, and no more than their scales do."""
    layer, _, last = name.rpartition(".")
    weight = f"{layer}.weight"
    if name.endswith(_INPUT_SCALES):
        return weight in scales
    if name.endswith(_FORMAT):
        if weight not in scales or not _is_float8(tensors[name], tensors[weight].dtype):
            raise packed_error(path, name)
        return True
    if last == _MARK and not scales:
        raise packed_error(path, name)
    return last == _MARK


def _is_plain(weight: Tensor | None, scale: Tensor) -> bool:
    """Whether a weight is of 8-bit floats with one scale for all."""
    if weight is None or weight.dtype not in _FLOAT8 or scale.numel() != 1 or scale.dtype in _FLOAT8:
        return False
    return scale.is_floating_point() and bool(scale.isfinite().all()) and scale.item() > 0


def _is_float8(text: Tensor, dtype: torch.dtype) -> bool:
    """Whether a format's JSON, as bytes, says no more than that a weight is of this dtype."""
    try:
        data: Any = json.loads(bytes(int(byte) for byte in text.to(torch.uint8).flatten()))
    except ValueError:
        return False
    if not isinstance(data, dict):
        return False
    told = cast("dict[str, Any]", data)
    return told.keys() <= _FORMAT_KEYS and f"torch.{told.get('format')}" == str(dtype)


def packed_error(path: Path, name: str) -> CheckpointError:
    """Why a file is refused one of whose tensors is not the plain value of a weight."""
    return CheckpointError(
        f"{path} holds weights in a packed form that cannot be undone with certainty, such as {name!r}. Take the same "
        "checkpoint in float16 or bfloat16."
    )
