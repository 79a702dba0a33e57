"""Checkpoints that are model directories: the base's files linked, the trained adapter, and what the run goes on from."""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import (
    load_file,  # pyright: ignore[reportUnknownVariableType] - safetensors leaves PathLike's parameter open
    save_file,  # pyright: ignore[reportUnknownVariableType] - the same
)
from torch import Tensor

from ms_core.config import CARD_FILE, WEIGHTS_FILE, ModelCard
from ms_core.errors import CheckpointError, StorageError, StorageFullError
from ms_core.model_dir.inventory import INVENTORY_FILE
from ms_core.model_dir.provision.weights import put_file
from ms_lab.training.checkpoints import STATE, WEIGHTS, Snapshot, read_state

CHECKPOINTS = "checkpoints"
# In a checkpoint: what serving does not read.
TRAINING = "training"
CONFIG = "config.toml"
_PREFIX, _PARTIAL = "step-", ".partial"
_NAME = re.compile(rf"{_PREFIX}\d{{7,}}")
# Of the base's directory, these are written anew, or are no part of the model.
_OWN = (CARD_FILE, WEIGHTS_FILE, INVENTORY_FILE, TRAINING)
_WEIGHTS = (".safetensors", ".bin")
_FULL = ("No space left", "StorageFull", "Disk quota")


@dataclass(frozen=True, slots=True)
class ModelCheckpoints:
    """Folders ``step-0001000``, the newest last; each can be served.

    Attributes:
        folder: that holds them.
        base: the model directory that is trained.
        card: of the checkpoints, without the facts of this training.
        config: the run's, as TOML.
        keep: how many stay.
    """

    folder: Path
    base: Path
    card: ModelCard
    config: str
    keep: int

    def write(self, snapshot: Snapshot) -> None:
        """Write one more, unless it is there, then remove the oldest.

        Raises:
            StorageFullError: there is no room; those before stay.
            StorageError: the folder cannot be written.
        """
        # Only here, for whoever writes is alone.
        for leftover in self.folder.glob(f".*{_PARTIAL}"):
            shutil.rmtree(leftover)
        target = self.folder / f"{_PREFIX}{snapshot.state['step']:07d}"
        if target.is_dir():
            # The run has come no further, and this one is whole.
            return
        with _whole_folder(target) as folder:
            link_base(self.base, folder)
            save_file(dict(snapshot.average), folder / WEIGHTS_FILE)
            self._card(snapshot.facts).save(folder)
            (folder / TRAINING).mkdir()
            (folder / TRAINING / CONFIG).write_text(self.config, encoding="utf-8")
            save_file(dict(snapshot.weights), folder / TRAINING / WEIGHTS)
            with (folder / TRAINING / STATE).open("wb") as file:
                torch.save(dict(snapshot.state), file)
        for old in self.all()[: -self.keep]:
            shutil.rmtree(old)

    def note(self, facts: Mapping[str, Any]) -> None:
        """Write the card of the newest anew; errors as ``write``."""
        newest = self.all()[-1]
        with _new_folder(newest) as folder:
            self._card(facts).save(folder)
            (folder / CARD_FILE).replace(newest / CARD_FILE)

    def _card(self, facts: Mapping[str, Any]) -> ModelCard:
        return replace(self.card, training={**self.card.training, "adapter": dict(facts)})

    def read(self, device: torch.device) -> tuple[dict[str, Tensor], dict[str, Any] | None] | None:
        """Weights and state of the newest.

        Raises:
            CheckpointError: it cannot be read; removing it lets the run go on from the one before.
        """
        if not self.all():
            return None
        newest = self.all()[-1]
        try:
            return load_file(newest / TRAINING / WEIGHTS), read_state(newest / TRAINING / STATE, device)
        except (OSError, SafetensorError, RuntimeError) as error:
            raise CheckpointError(
                f"The checkpoint {newest} cannot be read ({error}); remove it to continue from the one before."
            ) from error

    def all(self) -> list[Path]:
        """Those that are there, oldest first."""
        return all_checkpoints(self.folder)


def all_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first."""
    return sorted(path for path in folder.glob(f"{_PREFIX}*") if _NAME.fullmatch(path.name) and path.is_dir())


def newest_checkpoint(run: Path) -> Path | None:
    """The last checkpoint of a run's folder; ``None``: it has none."""
    found = all_checkpoints(run / CHECKPOINTS)
    return found[-1] if found else None


def link_base(base: Path, folder: Path) -> None:
    """Put all files of a model directory but the adapter's into ``folder``: weights as hard links where that is possible.

    Whatever may be edited or added to is copied, for a change of it would be one of the base as well.
    """
    for source in sorted(base.rglob("*")):
        place = source.relative_to(base)
        if place.parts[0] in _OWN or any(part.startswith(".") for part in place.parts):
            continue
        if source.is_dir():
            (folder / place).mkdir()
        elif source.suffix not in _WEIGHTS:
            shutil.copyfile(source, folder / place)
        else:
            put_file(source, folder / place)


@contextmanager
def _whole_folder(target: Path) -> Generator[Path]:
    """A folder that gets its name only when the block has written all of it."""
    with _new_folder(target) as partial:
        yield partial
        partial.rename(target)


@contextmanager
def _new_folder(target: Path) -> Generator[Path]:
    """A folder beside a checkpoint for what is to be written of it; it is gone after the block.

    Raises:
        StorageFullError: the disk is full.
        StorageError: it cannot be written.
    """
    partial = target.with_name(f".{target.name}{_PARTIAL}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
    except (OSError, SafetensorError, RuntimeError) as error:
        if _is_full(error):
            raise StorageFullError(
                f"The disk is full: the checkpoint {target.name} could not be written. Those before it stay; make room and "
                "run the same command again."
            ) from error
        raise StorageError(f"The checkpoint {target} cannot be written: {error}.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _is_full(error: BaseException | None) -> bool:
    """Whether the disk was full: torch raises an error of its own on the way out of the first one."""
    while error is not None:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or any(sign in str(error) for sign in _FULL):
            return True
        error = error.__context__
    return False
