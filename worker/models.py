"""Finds a model directory by name or path, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ms_core.config import ModelCard
from ms_core.errors import ModelNotFoundError
from ms_jobs.records import is_model_name

BUNDLED_MODELS = Path(__file__).resolve().parent.parent / "models"

# What ``msd download`` knows.
_DOWNLOADABLE = "sdxl"


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model directory, and its name in the queue and keys."""

    name: str
    directory: Path


def find_model(name_or_path: str, models_dir: Path | None = None) -> FoundModel:
    """Find the model of a name below ``models_dir`` (by default the bundled models), or of a path.

    Raises:
        ModelNotFoundError: there is no such directory, it has no model card, or its name is not a model name.
        CheckpointError: the model card is not valid.
    """
    root = BUNDLED_MODELS if models_dir is None else models_dir
    by_name = root / name_or_path
    is_known = is_model_name(name_or_path) and by_name.is_dir()
    directory = (by_name if is_known else Path(name_or_path)).resolve()
    if not directory.is_dir():
        known = ", ".join(_names(root)) or "none"
        remedy = "Use one of them, or the path of a directory."
        if name_or_path == _DOWNLOADABLE:
            remedy = f"Fetch it with: msd download {_DOWNLOADABLE}"
        raise ModelNotFoundError(f"There is no model {name_or_path!r}. Models by name: {known}. {remedy}")
    if not is_model_name(directory.name):
        raise ModelNotFoundError(
            f"The directory's name {directory.name!r} is not a model name; use letters, digits, '.', '-' and '_'."
        )
    ModelCard.load(directory)
    return FoundModel(directory.name, directory)


def _names(root: Path) -> list[str]:
    return sorted(path.parent.name for path in root.glob("*/ms_adapter.json"))
