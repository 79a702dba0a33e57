"""How a model is loaded: from safetensors, on the device that this process was given, without any download."""

from __future__ import annotations

import json
from typing import Any, cast

import torch
from safetensors import SafetensorError
from transformers import AutoTokenizer

from ms_core.errors import CheckpointError, ModelNotFoundError
from ms_core.model_dir.loading import quiet
from ms_lab.data.models.places import find_model


def load_model(kind: Any, name: str, device: torch.device) -> Any:
    """A transformers model of this class, in evaluation mode.

    Raises:
        ModelNotFoundError: it or a file of it is missing.
        CheckpointError: a file cannot be used.
    """
    folder = find_model(name)
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    try:
        with quiet():
            model = kind.from_pretrained(folder, dtype=dtype, use_safetensors=True, local_files_only=True)
    except OSError as error:
        raise ModelNotFoundError(f"A file of the model {name} is missing or unreadable: {error}") from error
    except (SafetensorError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"A file of the model {name} cannot be used: {error}") from error
    return model.eval().to(device)


def load_tokenizer(name: str) -> Any:
    """A model's tokenizer; errors as ``load_model``."""
    folder = find_model(name)
    try:
        with quiet():
            return cast("Any", AutoTokenizer).from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ModelNotFoundError(f"The tokenizer of the model {name} is missing or unreadable: {error}") from error


def read_json(name: str, file: str) -> dict[str, Any]:
    """A JSON file of a model; empty if it has none."""
    path = find_model(name) / file
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def pick_device() -> torch.device:
    """The GPU that this process was given, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def indexes_above(scores: Any, threshold: float) -> list[int]:
    """Indexes of a row of scores that reach a threshold."""
    found: Any = torch.nonzero(scores >= threshold)
    return found.flatten().tolist()
