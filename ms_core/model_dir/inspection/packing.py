"""Weights that are stored packed or scaled, by the header alone: libraries would load the stored numbers as they are."""

from __future__ import annotations

from collections.abc import Mapping

from ms_core.model_dir.inspection.headers import TensorHeader

PACKED_WEIGHTS = "packed_weights"

_ENDINGS = (
    ".scale_weight",
    ".weight_scale",
    ".weight_scale_inv",
    ".comfy_quant",
    "scaled_fp8",
    ".SCB",
    ".absmax",
    ".quant_map",
    ".qweight",
    ".qzeros",
)
_INTEGERS = ("I8", "U8", "I16", "U16", "I32", "U32", "F4", "F8_E8M0")


def packed_tensor(tensors: Mapping[str, TensorHeader]) -> str | None:
    """Name of a tensor that shows that weights are not stored as plain floats."""
    for name, tensor in tensors.items():
        if name.endswith(_ENDINGS) or ".quant_state." in name:
            return name
        if name.endswith(".weight") and tensor.dtype in _INTEGERS:
            return name
    return None
