"""What a stage saves to go on later, and the files of a stage that hold it."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import (
    load_file,  # pyright: ignore[reportUnknownVariableType] - safetensors leaves PathLike's parameter open
    save,  # pyright: ignore[reportUnknownVariableType] - the same
)
from torch import Tensor

from ms_core.errors import CheckpointError
from ms_lab.data.writing.files import write_whole

WEIGHTS, AVERAGE, STATE = "weights.safetensors", "average.safetensors", "state.pt"
# In a stage's state.
_WEIGHTS = "weights"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A stage between two steps.

    Attributes:
        weights: of what is trained.
        average: the same names with the running average of the weights.
        state: of the optimiser and the loop; its ``step`` counts the steps that were taken.
        facts: about the training so far, without what is measured afterwards.
    """

    weights: Mapping[str, Tensor]
    average: Mapping[str, Tensor]
    state: Mapping[str, Any]
    facts: Mapping[str, Any]


class Checkpoints(Protocol):
    """Where snapshots are kept."""

    def write(self, snapshot: Snapshot) -> None:
        """Keep a snapshot; what was kept before stays until this one is whole."""
        ...

    def note(self, facts: Mapping[str, Any]) -> None:
        """Exchange the facts of the last snapshot for these, which say what was measured of it."""
        ...

    def read(self, device: torch.device) -> tuple[dict[str, Tensor], dict[str, Any] | None] | None:
        """Weights and state of the last snapshot; ``None``: there is none.

        Weights without a state begin with a fresh optimiser.
        """
        ...


@dataclass(frozen=True, slots=True)
class StageFiles:
    """The last snapshot as three files in a stage's folder.

    The state's file holds the weights, too: a run goes on from this one file, which is whole at any moment.
    """

    folder: Path

    def write(self, snapshot: Snapshot) -> None:
        """Replace the three files, one after the other.

        Raises:
            StorageFullError: there is no room; the state that was kept before stays.
            StorageError: the folder cannot be written.
        """
        state = io.BytesIO()
        torch.save({**snapshot.state, _WEIGHTS: dict(snapshot.weights)}, state)
        # The state comes after the average, so that a step that is saved has its average, and before the weights, which
        # alone would begin anew.
        write_whole(self.folder / AVERAGE, save(dict(snapshot.average)))
        write_whole(self.folder / STATE, state.getvalue())
        write_whole(self.folder / WEIGHTS, save(dict(snapshot.weights)))

    def note(self, facts: Mapping[str, Any]) -> None:
        """A stage's facts are in its log."""

    def read(self, device: torch.device) -> tuple[dict[str, Tensor], dict[str, Any] | None] | None:
        """Weights and state; without the state's file, weights alone.

        Raises:
            CheckpointError: they cannot be read.
        """
        try:
            state = read_state(self.folder / STATE, device) if (self.folder / STATE).is_file() else None
            # Before, the weights were in their own file alone.
            weights = None if state is None else state.pop(_WEIGHTS, None)
            if weights is None and (self.folder / WEIGHTS).is_file():
                weights = load_file(self.folder / WEIGHTS)
        except (OSError, SafetensorError, RuntimeError) as error:
            raise CheckpointError(
                f"What {self.folder} was saved as cannot be read ({error}); remove the folder to train it anew."
            ) from error
        return None if weights is None else (weights, state)


def read_state(path: Path, device: torch.device) -> dict[str, Any]:
    """A snapshot's state from its file."""
    return torch.load(path, map_location=device, weights_only=True)
