"""Where a model lies: a folder, or a hub's repository that is on this machine. Free of torch."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import snapshot_download  # pyright: ignore[reportUnknownVariableType] - open parameters
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

from ms_core.errors import ModelNotFoundError


def find_model(name: str) -> Path:
    """The folder of a model: itself, or the hub's snapshot in the cache.

    Raises:
        ModelNotFoundError: it is not on this machine; the sentence says how to get it.
    """
    if Path(name).is_dir():
        return Path(name)
    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError, OSError) as error:
        raise ModelNotFoundError(
            f"The model {name} is not on this machine. Get it with: hf download {name}; or name its folder in the configuration."
        ) from error
