"""Adapter weights on disk: our safetensors (keys are module paths) and the official ``ms_adapter.bin`` (positions)."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import (
    load_file,  # pyright: ignore[reportUnknownVariableType] - safetensors leaves PathLike's parameter open
    save_file,  # pyright: ignore[reportUnknownVariableType] - the same
)
from torch import Tensor

from ms_core.config import WEIGHTS_FILE, ModelCard, ResamplerConfig, encoder_name
from ms_core.errors import CheckpointError, ModelNotFoundError, WrongImageEncoderError
from ms_core.method.adapter import MSAdapter, cross_attention_layers
from ms_core.method.attention import Attend, fused_attention

StateDict = dict[str, Tensor]

_OFFICIAL_ENTRIES = ("dummy_image_tokens", "image_proj", "ms_adapter")

# Official names in ``image_proj`` and ours in the resampler, both as prefixes of whole key parts.
_RESAMPLER_NAMES = (
    ("grounding_latents", "learned_queries"),
    ("latent_proj.", "query_proj."),
    ("latent_norm.", "query_norm."),
    ("layers.{}.0.norm1.", "layers.{}.attention.norm_features."),
    ("layers.{}.0.norm2.", "layers.{}.attention.norm_queries."),
    ("layers.{}.0.", "layers.{}.attention."),
    ("layers.{}.1.", "layers.{}.feed_forward."),
)


def load_adapter(directory: Path, unet: Any, card: ModelCard, attend: Attend = fused_attention) -> MSAdapter:
    """Load the adapter of a model directory, in the file's dtype, on the CPU.

    Raises:
        ModelNotFoundError: the file is missing.
        CheckpointError: keys or shapes do not fit the card and the UNet.
    """
    try:
        state = load_file(directory / WEIGHTS_FILE)
    except FileNotFoundError as error:
        raise ModelNotFoundError(f"The model directory lacks its {WEIGHTS_FILE}.") from error
    except SafetensorError as error:
        raise CheckpointError(f"{WEIGHTS_FILE} is broken ({error}); fetch it again.") from error
    return _build(state, unet, card, attend)


def save_adapter(adapter: MSAdapter, directory: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write an adapter into a model directory."""
    state = {name: tensor.to("cpu", dtype).contiguous() for name, tensor in adapter.state_dict().items()}
    save_file(state, directory / WEIGHTS_FILE)


def load_official_adapter(
    path: Path, unet: Any, heads: int | None = None, attend: Attend = fused_attention
) -> MSAdapter:
    """Load an adapter from an official ``ms_adapter.bin``, in the file's dtype, on the CPU.

    Args:
        path: the file; three entries, ``image_proj``, ``ms_adapter`` and ``dummy_image_tokens``.
        unet: the ``UNet2DConditionModel`` it belongs to; gives the order of the numeric keys.
        heads: of the resampler's attention, which the file does not record; ``None`` takes heads of 64, as released.
        attend: the softmax attention of all layers.

    Raises:
        ModelNotFoundError: the file is missing.
        CheckpointError: it is not such a file, or does not fit the UNet.
    """
    official = _read_official(path)
    state = from_official(official, tuple(cross_attention_layers(unet)))
    card = ModelCard(
        resampler=infer_resampler_config(state, heads), num_dummy_tokens=_tensor(state, "dummy_tokens").shape[1]
    )
    return _build(state, unet, card, attend)


def from_official(official: Any, layer_paths: tuple[str, ...]) -> StateDict:
    """Convert the official state dict to ours.

    Args:
        official: content of ``ms_adapter.bin``.
        layer_paths: cross-attention layers in the order of ``unet.attn_processors``.

    Raises:
        CheckpointError: an entry or a key is unknown or missing.
    """
    if not _has_official_entries(official):
        raise CheckpointError(f"An official adapter file has exactly the entries {', '.join(_OFFICIAL_ENTRIES)}.")
    state: StateDict = {"dummy_tokens": official["dummy_image_tokens"].detach()}
    for key, tensor in official["image_proj"].items():
        state[f"resampler.{_rename(key, _RESAMPLER_NAMES)}"] = tensor
    names = _attention_names(layer_paths)
    _check_keys(names, official["ms_adapter"])
    for key, tensor in official["ms_adapter"].items():
        state[names[key]] = tensor
    return state


def to_official(adapter: MSAdapter) -> dict[str, Any]:
    """Convert an adapter to the content of an official ``ms_adapter.bin``, for ``torch.save``."""
    state = adapter.state_dict()
    backward = tuple((ours, theirs) for theirs, ours in _RESAMPLER_NAMES)
    prefix = "resampler."
    return {
        "image_proj": {
            _rename(key.removeprefix(prefix), backward): tensor
            for key, tensor in state.items()
            if key.startswith(prefix)
        },
        "ms_adapter": {theirs: state[ours] for theirs, ours in _attention_names(adapter.layer_paths).items()},
        "dummy_image_tokens": state["dummy_tokens"],
    }


def infer_resampler_config(state: StateDict, heads: int | None = None) -> ResamplerConfig:
    """Read the resampler's sizes off its weights' shapes; only the heads do not show in them.

    Raises:
        CheckpointError: a weight is missing, or ``heads`` does not divide the attention's width.
    """
    released = ResamplerConfig()
    _, num_queries, dim = _tensor(state, "resampler.learned_queries").shape
    output_dim = _tensor(state, "resampler.proj_out.weight").shape[0]
    inner_dim = _tensor(state, "resampler.layers.0.attention.to_q.weight").shape[0]
    grounding_dim = _tensor(state, "resampler.query_proj.0.weight").shape[1]
    heads = inner_dim // released.dim_head if heads is None else heads
    if heads < 1 or inner_dim % heads:
        raise CheckpointError(f"The resampler's attention is {inner_dim} wide, which {heads} heads do not divide.")
    return ResamplerConfig(
        dim=dim,
        depth=len({key.split(".")[2] for key in state if key.startswith("resampler.layers.")}),
        heads=heads,
        dim_head=inner_dim // heads,
        num_queries=num_queries,
        feature_dim=_tensor(state, "resampler.proj_in.weight").shape[1],
        # The rest of the grounding is the box: a sine and a cosine of four coordinates at each frequency.
        phrase_dim=grounding_dim - 8 * released.num_frequencies,
        output_dim=output_dim,
        ff_mult=_tensor(state, "resampler.layers.0.feed_forward.1.weight").shape[0] // dim,
    )


def check_encoders(config: ResamplerConfig, image_encoder: Any, text_encoder: Any) -> None:
    """Check that the encoders' widths are those the resampler was trained on.

    Raises:
        WrongImageEncoderError: the image encoder's hidden states have another width; names the one needed.
        CheckpointError: the first text encoder's pooled output has another width.
    """
    width = image_encoder.config.hidden_size
    if width != config.feature_dim:
        raise WrongImageEncoderError(
            f"This adapter reads image features of width {config.feature_dim}, as {encoder_name(config.feature_dim)} "
            f"gives; the image encoder here gives {width} ({encoder_name(width)}). Put the right one into "
            "image_encoder/."
        )
    if text_encoder.config.hidden_size != config.phrase_dim:
        raise CheckpointError(
            f"This adapter reads phrases of width {config.phrase_dim}; the first text encoder gives "
            f"{text_encoder.config.hidden_size}."
        )


def _build(state: StateDict, unet: Any, card: ModelCard, attend: Attend) -> MSAdapter:
    """An adapter that takes over the tensors of ``state``, strictly."""
    with torch.device("meta"):
        adapter = MSAdapter.for_unet(unet, card, attend)
    expected = adapter.state_dict()
    _check_keys(expected, state)
    wrong = [name for name, tensor in expected.items() if tensor.shape != state[name].shape]
    if wrong:
        name = wrong[0]
        raise CheckpointError(
            f"{len(wrong)} adapter weights have the wrong shape: {name} is {tuple(state[name].shape)}, "
            f"the model needs {tuple(expected[name].shape)}."
        )
    adapter.load_state_dict(state, strict=True, assign=True)
    return adapter


def _read_official(path: Path) -> Any:
    if not path.is_file():
        raise ModelNotFoundError(f"There is no adapter file {path.name}.")
    # The reader of torch's older format fails on other files in many ways; the official file is an archive.
    if not zipfile.is_zipfile(path):
        raise CheckpointError(f"{path.name} is not a torch.save archive; perhaps its download was interrupted.")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        raise CheckpointError(f"{path.name} cannot be read as weights: {error}") from error


def _has_official_entries(official: object) -> bool:
    return isinstance(official, Mapping) and set(cast("Mapping[str, Any]", official)) == set(_OFFICIAL_ENTRIES)


def _attention_names(layer_paths: tuple[str, ...]) -> dict[str, str]:
    """Official attention keys and ours: attn1 layers hold the even positions, attn2 layers the odd ones."""
    names: dict[str, str] = {}
    for index, path in enumerate(layer_paths):
        for projection in ("to_k", "to_v"):
            names[f"{2 * index + 1}.{projection}_ip.weight"] = f"attention.{path}.{projection}.weight"
    return names


def _rename(key: str, names: Iterable[tuple[str, str]]) -> str:
    """``key`` with the first matching prefix replaced; ``{}`` stands for a number."""
    for old, new in names:
        pattern = re.escape(old).replace(r"\{\}", r"(\d+)")
        match = re.match(pattern, key)
        if match:
            return new.format(*match.groups()) + key[match.end() :]
    return key


def _check_keys(expected: Iterable[str], given: Iterable[str]) -> None:
    missing, unknown = sorted(set(expected) - set(given)), sorted(set(given) - set(expected))
    if missing or unknown:
        raise CheckpointError(
            f"The adapter weights do not fit this UNet: {len(missing)} missing {missing[:3]}, "
            f"{len(unknown)} unknown {unknown[:3]}."
        )


def _tensor(state: StateDict, name: str) -> Tensor:
    if name not in state:
        raise CheckpointError(f"The adapter weights lack {name}.")
    return state[name]
