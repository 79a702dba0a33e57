"""Which layers the tensors of a LoRA file belong to, and whether they fit the model; what does not is named."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from ms_core.errors import UnfitLoraError
from ms_core.model_dir.inspection.base import base_name
from ms_core.model_dir.inspection.headers import TensorHeader
from ms_core.sampling.loras.names import Target, plain_name

DOWN, UP, ALPHA = "down", "up", "alpha"
# Tensors of each layer by their role, in the file's own names; layers by their plain names.
LayerTensors = Mapping[str, Mapping[str, str]]

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
# peft's name of the adapter, such as ``default``, within a tensor's name.
_ADAPTER = re.compile(r"(\.lora_[AB])\.[^.]+(\.(?:weight|bias))$")
# Relatives of LoRA, by a part of their tensors' names.
_RELATIVES = {
    "dora_scale": "a DoRA",
    "lora_magnitude_vector": "a DoRA",
    "hada_": "a LoHa",
    "lokr_": "a LoKr",
    "oft_": "an OFT",
    ".lora_mid.": "a LoCon of three matrices for each layer",
    ".lora_B.bias": "one with biases",
}
# The same, by the end of their tensors' names.
_RELATIVE_ENDINGS = {
    (".diff", ".diff_b"): "one that holds whole weights",
    (".w_norm", ".b_norm"): "one that holds norms",
    (".a1.weight", ".b1.weight"): "a GLoRA",
}
# Textual inversions that OneTrainer and kohya's trainers pack into a LoRA.
_EMBEDDING = "bundle_emb."
# Bases without SDXL's UNet, by a part of their layers' names.
_TRANSFORMERS = {
    "double_blocks": "Flux",
    "single_blocks": "Flux",
    "single_transformer_blocks": "Flux",
    "joint_blocks": "Stable Diffusion 3",
    "lora_te3_": "Stable Diffusion 3",
}
_TRANSFORMER = ("transformer.", "lora_transformer_")
# Attention in the first block, and a fourth block, which SDXL's UNet has not.
_SD15 = re.compile(
    r"down_blocks[._]0[._]attentions|(?:down|up)_blocks[._]3[._]|input_blocks[._][12][._]1[._]|put_blocks[._](?:9|10|11)[._]"
)
_TEXT_KEYS = re.compile(r"attn2[._](?:processor\.)?to_k(?:_lora)?$")
_FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")


def group_tensors(header: Mapping[str, TensorHeader], name: str) -> LayerTensors:
    """Sort a file's tensors by layer and role.

    Args:
        header: of the file.
        name: of the LoRA, for sentences.

    Raises:
        UnfitLoraError: it holds no plain LoRA, or more than one.
    """
    keys = {key: _ADAPTER.sub(r"\1\2", key) for key in header if not key.startswith(_EMBEDDING)}
    _check_relatives(keys.values(), name)
    layers: dict[str, dict[str, str]] = {}
    strangers: list[str] = []
    for key, plain in keys.items():
        ending = next((ending for ending in _ROLES if plain.endswith(ending)), None)
        if ending is None:
            strangers.append(key)
            continue
        layer = plain_name(plain.removesuffix(ending))
        other = layers.setdefault(layer, {}).setdefault(_ROLES[ending], key)
        if other != key:
            raise UnfitLoraError(_twice(name, key, other))
    if not any(DOWN in roles for roles in layers.values()):
        unknown = next((key for key in strangers if "lora" in key.lower()), None)
        if unknown is not None:
            raise UnfitLoraError(f"The LoRA {name!r} has tensors of unknown names, such as {unknown!r}.")
        raise UnfitLoraError(f"The file {name}.safetensors contains no LoRA.")
    if strangers:
        raise UnfitLoraError(f"The LoRA {name!r} contains more than a LoRA, such as {strangers[0]!r}.")
    for roles in layers.values():
        if not {DOWN, UP} <= set(roles):
            key = next(iter(roles.values()))
            raise UnfitLoraError(f"The LoRA {name!r} is incomplete: it has only one half of the layer of {key!r}.")
    return layers


def packed_words(header: Mapping[str, TensorHeader]) -> tuple[str, ...]:
    """Words of the textual inversions in a LoRA's file, each once."""
    return tuple(dict.fromkeys(key.split(".")[1] for key in header if key.startswith(_EMBEDDING)))


def check_fit(
    tensors: LayerTensors, header: Mapping[str, TensorHeader], targets: Mapping[str, Target], name: str
) -> None:
    """Check that the model has every layer, in the same size, and each once.

    Args:
        tensors: as ``group_tensors`` gives them.
        header: of the file.
        targets: as ``find_targets`` gives them.
        name: of the LoRA, for sentences.

    Raises:
        UnfitLoraError: it was made for another base, or names or stores its layers in a way that is not known.
    """
    _check_text_width(tensors, header, targets, name)
    unknown = {layer: roles[DOWN] for layer, roles in tensors.items() if layer not in targets}
    _check_sizes({layer: roles for layer, roles in tensors.items() if layer in targets}, header, targets, name)
    for layer in unknown:
        base = _foreign_base(layer)
        if base is not None:
            raise UnfitLoraError(f"The LoRA {name!r} was made for {base}, not for this model.")
    if unknown:
        raise UnfitLoraError(
            f"The LoRA {name!r} has unknown names: {len(unknown)} of its {len(tensors)} layers are not in this model as "
            f"kohya, diffusers, peft, OneTrainer or ComfyUI name them, such as {next(iter(unknown.values()))!r}."
        )
    seen: dict[Target, str] = {}
    for layer, roles in tensors.items():
        other = seen.setdefault(targets[layer], roles[DOWN])
        if other != roles[DOWN]:
            raise UnfitLoraError(_twice(name, roles[DOWN], other))


def _check_relatives(keys: Iterable[str], name: str) -> None:
    for key in keys:
        kinds = [kind for mark, kind in _RELATIVES.items() if mark in key]
        kinds += [kind for endings, kind in _RELATIVE_ENDINGS.items() if key.endswith(endings)]
        if kinds:
            raise UnfitLoraError(f"The LoRA {name!r} is {kinds[0]}; only plain LoRAs can be used here.")


def _check_text_width(
    tensors: LayerTensors, header: Mapping[str, TensorHeader], targets: Mapping[str, Target], name: str
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


def _check_sizes(
    tensors: LayerTensors, header: Mapping[str, TensorHeader], targets: Mapping[str, Target], name: str
) -> None:
    for layer, roles in tensors.items():
        for key in (roles[DOWN], roles[UP]):
            if header[key].dtype not in _FLOATS:
                raise UnfitLoraError(
                    f"The LoRA {name!r} is stored in a packed form ({key!r} is {header[key].dtype}); take it in float16."
                )
        size, wanted = _layer_size(header[roles[DOWN]].shape, header[roles[UP]].shape), targets[layer].shape
        if size != _without_ones(wanted):
            raise UnfitLoraError(
                f"The LoRA {name!r} was made for another base: its layer {layer!r} has the size {size}, the model's "
                f"has {_without_ones(wanted)}."
            )


def _foreign_base(layer: str) -> str | None:
    """The base that has a layer of this name, if it is one that is known."""
    for mark, base in _TRANSFORMERS.items():
        if mark in layer:
            return base
    if layer.startswith(_TRANSFORMER):
        return "a base with a transformer, such as Flux or Stable Diffusion 3"
    return "Stable Diffusion 1.5 or 2" if _SD15.search(layer) else None


def _layer_size(down: tuple[int, ...], up: tuple[int, ...]) -> tuple[int, ...] | None:
    """Shape of the layer that two matrices are for; ``None`` if they do not belong together."""
    down, up = _without_ones(down), _without_ones(up)
    if len(down) < 2 or len(up) != 2 or down[0] != up[1]:
        return None
    return (up[0], *down[1:])


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without the height and width of a 1 x 1 convolution, which is a linear layer in disguise."""
    return shape[:2] if all(side == 1 for side in shape[2:]) else shape


def _twice(name: str, key: str, other: str) -> str:
    return f"The LoRA {name!r} holds one layer twice, as {other!r} and {key!r}; save one LoRA alone in a file."
