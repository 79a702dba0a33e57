"""The adapter's weights: are they there, converted, and made for this UNet and this card?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ms_core.config import CARD_FILE, PLACE_CODE_DIM, WEIGHTS_FILE, ModelCard, ResamplerConfig
from ms_core.model_dir.inspection.components import Component
from ms_core.model_dir.inspection.files import note_missing, read_tensors
from ms_core.model_dir.inspection.findings import Notes
from ms_core.model_dir.inspection.headers import DamageError, TensorHeader, format_size, main_dtype, read_header

ADAPTER_NOT_CONVERTED = "adapter_not_converted"
ADAPTER_MISMATCH = "adapter_mismatch"
NO_ADAPTER = "no_adapter"

OFFICIAL_FILE = "ms_adapter.bin"

_CROSS_ATTENTION = ".attn2.to_k.weight"
_RESAMPLER = "resampler."
_OFFICIAL_PARTS = ("image_proj", "ms_adapter", "ip_adapter", "dummy_image_tokens", "grounding_latents")

Shapes = dict[str, tuple[int, ...]]


def has_adapter(directory: Path, notes: Notes) -> bool:
    """Whether the directory claims to hold a converted adapter; notes it if it plainly does not."""
    if (directory / WEIGHTS_FILE).is_file():
        return True
    if (directory / OFFICIAL_FILE).is_file():
        _note_unconverted(f"{OFFICIAL_FILE} is the authors' file, which must be converted first.", notes)
        return False
    if not (directory / CARD_FILE).is_file():
        notes.error(
            NO_ADAPTER,
            f"There is no adapter here: neither {WEIGHTS_FILE} nor {CARD_FILE}. Perhaps this is a plain SDXL model.",
            "Add one with: msd convert (see msd convert --help), or use a whole model: msd download sdxl.",
        )
        return False
    return True


def read_adapter(directory: Path, notes: Notes) -> dict[str, TensorHeader] | None:
    """The adapter's tensors, or ``None`` with a note."""
    if not (directory / WEIGHTS_FILE).is_file():
        note_missing(directory, WEIGHTS_FILE, _is_adapter, notes)
        return None
    tensors = read_tensors(directory, WEIGHTS_FILE, notes)
    if tensors is not None and any(name.startswith(_OFFICIAL_PARTS) for name in tensors):
        _note_unconverted(f"{WEIGHTS_FILE} has the keys of the authors' file (or of IP-Adapter), not ours.", notes)
        return None
    return tensors


def adapter_facts(tensors: Mapping[str, TensorHeader]) -> dict[str, Any]:
    """What matters of an adapter, JSON-ready."""
    layers = sum(name.endswith(_CROSS_ATTENTION) for name in tensors)
    size = sum(tensor.size for tensor in tensors.values())
    return {"tensors": len(tensors), "attention_layers": layers, "dtype": main_dtype(tensors), "bytes": size}


def describe_adapter(tensors: Mapping[str, TensorHeader]) -> str:
    """``adapter_facts`` as one sentence."""
    facts = adapter_facts(tensors)
    return (
        f"{WEIGHTS_FILE}: {facts['tensors']} tensors, {facts['attention_layers']} attention layers, {facts['dtype']}, "
        f"{format_size(facts['bytes'])}."
    )


def check_adapter(tensors: Mapping[str, TensorHeader], unet: Component, card: ModelCard, notes: Notes) -> None:
    """Note an adapter whose keys or shapes fit the UNet and the card not."""
    expected = expected_shapes(card, unet.tensors)
    missing, unknown = sorted(set(expected) - set(tensors)), sorted(set(tensors) - set(expected))
    if missing or unknown:
        counts = [f"{len(names)} {what} (such as {names[0]})" for names, what in _named(missing, unknown) if names]
        sentence = f"The adapter was not made for this UNet: of its tensors {' and '.join(counts)}."
    else:
        wrong = [name for name, shape in expected.items() if tensors[name].shape != shape]
        if not wrong:
            return
        sentence = (
            f"The adapter and {CARD_FILE} or the UNet do not belong together: {len(wrong)} tensors have another shape, "
            f"such as {wrong[0]} with {list(tensors[wrong[0]].shape)} instead of {list(expected[wrong[0]])}."
        )
    notes.error(ADAPTER_MISMATCH, sentence, f"Take adapter, card and UNet from one model. {notes.again}", WEIGHTS_FILE)


def expected_shapes(card: ModelCard, unet: Mapping[str, TensorHeader]) -> Shapes:
    """Names and shapes of all weights of an adapter for a card and a UNet, as ``MSAdapter`` has them."""
    shapes: Shapes = {f"{_RESAMPLER}{name}": shape for name, shape in _resampler_shapes(card.resampler).items()}
    shapes["dummy_tokens"] = (1, card.num_dummy_tokens, card.resampler.output_dim)
    for name, tensor in unet.items():
        if name.endswith(_CROSS_ATTENTION):
            path = name.removesuffix(".to_k.weight")
            shapes |= {f"attention.{path}.{projection}.weight": tensor.shape for projection in ("to_k", "to_v")}
    return shapes


def _resampler_shapes(config: ResamplerConfig) -> Shapes:
    dim, inner_dim, hidden_dim = config.dim, config.heads * config.dim_head, config.ff_mult * config.dim
    # A sine and a cosine of four coordinates at each frequency stand beside the phrase.
    grounding_dim = config.phrase_dim + 8 * config.num_frequencies
    shapes: Shapes = {
        "learned_queries": (1, config.num_queries, dim),
        **_linear("query_proj.0", 2 * grounding_dim, grounding_dim),
        **_linear("query_proj.2", config.num_queries * dim, 2 * grounding_dim),
        **_linear("proj_in", dim, config.feature_dim),
        **_linear("proj_out", config.output_dim, dim),
    }
    norms = {"query_norm": dim, "attention_norm": dim, "norm_out": config.output_dim}
    for layer in (f"layers.{index}" for index in range(config.depth)):
        norms |= dict.fromkeys(
            (f"{layer}.attention.norm_features", f"{layer}.attention.norm_queries", f"{layer}.feed_forward.0"), dim
        )
        shapes |= {
            f"{layer}.attention.to_q.weight": (inner_dim, dim),
            f"{layer}.attention.to_kv.weight": (2 * inner_dim, dim),
            f"{layer}.attention.to_out.weight": (dim, inner_dim),
            f"{layer}.feed_forward.1.weight": (hidden_dim, dim),
            f"{layer}.feed_forward.3.weight": (dim, hidden_dim),
        }
    for name, width in norms.items():
        shapes |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    return shapes | _part_shapes(config)


def _part_shapes(config: ResamplerConfig) -> Shapes:
    if not (patches := config.patches_per_query):
        return {}
    return {
        "picture_parts.to_part.weight": (config.dim, config.feature_dim, patches, patches),
        "picture_parts.to_part.bias": (config.dim,),
        **_linear("picture_parts.to_query", config.dim, PLACE_CODE_DIM),
        **_linear("picture_parts.to_token", config.output_dim, PLACE_CODE_DIM),
    }


def _linear(name: str, height: int, width: int) -> Shapes:
    return {f"{name}.weight": (height, width), f"{name}.bias": (height,)}


def _named(missing: list[str], unknown: list[str]) -> tuple[tuple[list[str], str], ...]:
    return (missing, "are missing"), (unknown, "are unknown")


def _is_adapter(file: Path) -> bool:
    try:
        return any(name.startswith(_RESAMPLER) for name in read_header(file))
    except (DamageError, OSError):
        return False


def _note_unconverted(sentence: str, notes: Notes) -> None:
    notes.error(
        ADAPTER_NOT_CONVERTED,
        f"The adapter is not converted: {sentence}",
        "Convert it with: msd convert (see msd convert --help).",
        WEIGHTS_FILE,
    )
