"""What a stage saves to go on later, and the files of a stage that hold it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import (
    load_file,  # pyright: ignore[reportUnknownVariableType] - safetensors leaves PathLike's parameter open
    save_file,  # pyright: ignore[reportUnknownVariableType] - the same
)
from torch import Tensor

WEIGHTS, AVERAGE, STATE = "weights.safetensors", "average.safetensors", "state.pt"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A stage between two steps.

    Attributes:
        weights: of what is trained.
        average: the same names with the running average of the weights.
        state: of the optimiser and the loop; its ``step`` counts the steps that were taken.
        facts: about the training so far.
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

    def read(self, device: torch.device) -> tuple[dict[str, Tensor], dict[str, Any] | None] | None:
        """Weights and state of the last snapshot; ``None``: there is none.

        Weights without a state begin with a fresh optimiser.
        """
        ...


@dataclass(frozen=True, slots=True)
class StageFiles:
    """The last snapshot as three files in a stage's folder."""

    folder: Path

    def write(self, snapshot: Snapshot) -> None:
        """Replace the three files."""
        save_file(dict(snapshot.weights), self.folder / WEIGHTS)
        torch.save(dict(snapshot.state), self.folder / STATE)
        save_file(dict(snapshot.average), self.folder / AVERAGE)

    def read(self, device: torch.device) -> tuple[dict[str, Tensor], dict[str, Any] | None] | None:
        """Weights and state; without the state's file, weights alone."""
        if not (self.folder / WEIGHTS).is_file():
            return None
        has_state = (self.folder / STATE).is_file()
        return load_file(self.folder / WEIGHTS), read_state(self.folder / STATE, device) if has_state else None


def read_state(path: Path, device: torch.device) -> dict[str, Any]:
    """A snapshot's state from its file."""
    return torch.load(path, map_location=device, weights_only=True)
