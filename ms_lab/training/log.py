"""What a stage tells on its way: one line of JSON for each row, and the same for TensorBoard."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

from ms_core.errors import StartupError
from ms_lab.data.writing.files import write_whole


class TrainingLog:
    """The log of one stage: rows with the stage's name, pictures seen, seconds trained, and figures."""

    def __init__(self, path: Path, stage: str, tensorboard: Path | None = None) -> None:
        """Append to ``path``.

        Args:
            path: of the file with one JSON object a line.
            stage: its name.
            tensorboard: folder for TensorBoard's event files; ``None`` writes none.

        Raises:
            StartupError: TensorBoard's files are asked for, and the package that writes them is missing.
        """
        self.path, self.stage = path, stage
        self._tensorboard = None if tensorboard is None else _tensorboard_writer(tensorboard)

    def write(self, pictures: int, seconds: float, values: dict[str, float]) -> None:
        """Add one row."""
        row = {"stage": self.stage, "pictures": pictures, "seconds": seconds} | values
        rounded = {key: round(value, 6) if isinstance(value, float) else value for key, value in row.items()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(rounded) + "\n")
        if self._tensorboard is not None:
            for key, value in values.items():
                self._tensorboard.add_scalar(f"{self.stage}/{key}", value, pictures)

    def close(self) -> None:
        """Have TensorBoard's files written to their end."""
        if self._tensorboard is not None:
            self._tensorboard.close()

    def forget_after(self, pictures: int) -> None:
        """Drop rows of steps that a killed run took after its last checkpoint: they are taken again."""
        if not self.path.is_file():
            return
        lines = self.path.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if _is_row(line) and json.loads(line)["pictures"] <= pictures]
        if kept != lines:
            write_whole(self.path, "".join(f"{line}\n" for line in kept).encode())


def _is_row(line: str) -> bool:
    """False for a line that was being written when the run was killed."""
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _tensorboard_writer(folder: Path) -> Any:
    try:
        # It is slow to import, and not needed without TensorBoard.
        package: Any = import_module("tensorboardX")
    except ImportError as error:
        raise StartupError(
            "TensorBoard's files are written with the package tensorboardX: install the extra data, or set tensorboard = false."
        ) from error
    return package.SummaryWriter(str(folder))
