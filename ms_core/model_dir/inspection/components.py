"""The components of a model directory: class, sizes, tensors; from config files and the headers of weights alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ms_core.model_dir.inspection.files import JsonObject, parse_json, read_json, read_weights
from ms_core.model_dir.inspection.findings import Notes
from ms_core.model_dir.inspection.headers import TensorHeader, format_size, main_dtype
from ms_core.model_dir.inspection.packing import PACKED_WEIGHTS, packed_tensor
from ms_core.model_dir.inventory import MISSING_FILE

UNET = "unet"
VAE = "vae"
TEXT_ENCODERS = ("text_encoder", "text_encoder_2")
TOKENIZERS = ("tokenizer", "tokenizer_2")
SCHEDULER = "scheduler"
IMAGE_ENCODER = "image_encoder"

DIFFUSERS_WEIGHTS = "diffusion_pytorch_model"
TRANSFORMERS_WEIGHTS = "model"

_WEIGHTS = {
    UNET: DIFFUSERS_WEIGHTS,
    VAE: DIFFUSERS_WEIGHTS,
    **dict.fromkeys((*TEXT_ENCODERS, IMAGE_ENCODER), TRANSFORMERS_WEIGHTS),
}
_ENCODER_NUMBERS = (("width", "hidden_size"), ("layers", "num_hidden_layers"))
_NUMBERS = {
    UNET: (("text width", "cross_attention_dim"), ("channels in", "in_channels"), ("blocks", "block_out_channels")),
    VAE: (("latent channels", "latent_channels"),),
    **dict.fromkeys((*TEXT_ENCODERS, IMAGE_ENCODER), _ENCODER_NUMBERS),
}


@dataclass(frozen=True, slots=True)
class Component:
    """One component with weights.

    Attributes:
        name: of its folder.
        kind: its class.
        config: content of its ``config.json``.
        tensors: from its weights' headers, by name.
    """

    name: str
    kind: str
    config: Mapping[str, Any]
    tensors: Mapping[str, TensorHeader]

    def number(self, key: str) -> Any:
        """A number of its config, or a list of numbers; ``None`` if there is none."""
        return self.config.get(key)

    def shape(self, ending: str) -> tuple[int, ...] | None:
        """Shape of the first tensor whose name ends so; libraries differ in what they put before it."""
        return next((tensor.shape for name, tensor in self.tensors.items() if name.endswith(ending)), None)

    def facts(self) -> dict[str, Any]:
        """What matters of it, JSON-ready; ``bytes`` are those of its tensors."""
        numbers = {key: self.number(key) for _, key in _NUMBERS.get(self.name, ())}
        return {
            "class": self.kind,
            **numbers,
            "tensors": len(self.tensors),
            "dtype": main_dtype(self.tensors),
            "bytes": sum(tensor.size for tensor in self.tensors.values()),
        }

    def describe(self) -> str:
        """``facts`` as one sentence."""
        facts = self.facts()
        numbers = [(label, facts[key]) for label, key in _NUMBERS.get(self.name, ()) if facts[key] is not None]
        parts = [f"{label} {_numbers(value)}" for label, value in numbers]
        parts += [f"{facts['tensors']} tensors", f"{facts['dtype']}", format_size(facts["bytes"])]
        return f"{self.name}: {self.kind}, {', '.join(parts)}."


def read_component(directory: Path, name: str, notes: Notes) -> Component | None:
    """A component with weights, or ``None`` with a note."""
    config = read_config(directory, name, notes)
    if config is None:
        return None
    tensors = read_weights(directory, name, _WEIGHTS[name], notes)
    if tensors is None:
        return None
    packed = packed_tensor(tensors)
    if packed is not None:
        sentence = f"{name} has packed or scaled weights, such as {packed!r}, which would be read as plain numbers."
        notes.error(PACKED_WEIGHTS, sentence, f"Take a {name} in float16 or bfloat16.", name)
    return Component(name, _kind(config), config, tensors)


def read_config(directory: Path, name: str, notes: Notes) -> JsonObject | None:
    """Content of a component's ``config.json``, or ``None`` with a note."""
    mark = "_class_name" if _WEIGHTS[name] == DIFFUSERS_WEIGHTS else "model_type"
    return read_json(directory, f"{name}/config.json", mark, notes) if _has_folder(directory, name, notes) else None


def check_tokenizer(directory: Path, name: str, notes: Notes) -> None:
    """Note a tokenizer without its vocabulary; it would load silently, with an empty one."""
    if not _has_folder(directory, name, notes):
        return
    files = {file.name for file in (directory / name).iterdir()}
    if "tokenizer.json" not in files and files & {"vocab.json", "merges.txt"}:
        for file in sorted({"vocab.json", "merges.txt"} - files):
            notes.error(MISSING_FILE, f"{name}/{file} is missing.", notes.again, f"{name}/{file}")
        return
    read_json(directory, f"{name}/tokenizer.json", "model", notes)


def check_small_files(directory: Path, notes: Notes) -> None:
    """Note a scheduler's or preprocessor's config that is missing or broken."""
    if _has_folder(directory, SCHEDULER, notes):
        read_json(directory, f"{SCHEDULER}/scheduler_config.json", "_class_name", notes)
    if (directory / IMAGE_ENCODER).is_dir():
        read_json(directory, f"{IMAGE_ENCODER}/preprocessor_config.json", "image_mean", notes)


def peek_number(directory: Path, name: str, key: str) -> int | None:
    """A number of a component's config, without notes; ``None`` if there is none."""
    try:
        value = (parse_json(directory / name / "config.json") or {}).get(key)
    except OSError:
        return None
    return value if isinstance(value, int) else None


def _has_folder(directory: Path, name: str, notes: Notes) -> bool:
    if (directory / name).is_dir():
        return True
    notes.error(MISSING_FILE, f"The model lacks its folder {name}.", notes.again, name)
    return False


def _kind(config: JsonObject) -> str:
    """The class that a config names, in the words of either library."""
    architectures = config.get("architectures") or [config.get("model_type", "unknown")]
    return str(config.get("_class_name", architectures[0]))


def _numbers(value: Any) -> str:
    return "/".join(map(str, cast("list[Any]", value))) if isinstance(value, list) else str(value)
