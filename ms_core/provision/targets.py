"""Where a model directory is made: beside its place, so that a half-made one is never found, and only if there is room."""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError

from ms_core.config import CARD_FILE
from ms_core.errors import ModelNotFoundError, ModelTargetError
from ms_core.inspection.headers import format_size

_PARTIAL = ".partial"
_REPLACED = ".replaced"
# Configs, folders and what a file system keeps for itself.
_RESERVE_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes that will be written below a path, and those that are free there."""

    path: Path
    needed: int
    free: int

    @property
    def is_enough(self) -> bool:
        """Whether it fits with some reserve; nothing to write always fits."""
        return not self.needed or self.needed + _RESERVE_BYTES <= self.free

    def describe(self, what: str) -> str:
        """The sentence that refuses ``what``, for it does not fit."""
        return (
            f"There is too little room for {what}: {self.path} has {format_size(self.free)} free and needs "
            f"{format_size(self.needed + _RESERVE_BYTES)}. Make room, or choose another disk."
        )


def check_target(target: Path, force: bool) -> None:
    """Check that a model directory can be made at ``target``, before anything is fetched or converted.

    Args:
        target: of the model directory.
        force: whether a model directory there may be replaced.

    Raises:
        ModelTargetError: something is there, or its place cannot be written.
    """
    if target.is_dir() and any(target.iterdir()):
        if not force:
            raise ModelTargetError(
                f"{target} exists already. Choose another place with --out, or make it anew with --force (what is in the "
                "hub's cache is not fetched again; LoRAs, ControlNets and embeddings are kept)."
            )
        if not (target / CARD_FILE).is_file():
            raise ModelTargetError(
                f"{target} is no model directory, and only those are replaced; choose another place."
            )
    elif target.exists() and not target.is_dir():
        raise ModelTargetError(f"{target} is a file; choose another place with --out.")
    place = existing_folder(target)
    if not (place.is_dir() and os.access(place, os.W_OK | os.X_OK)):
        raise ModelTargetError(f"{place} cannot be written; choose another place with --out, or make it writable.")


@contextmanager
def new_directory(target: Path) -> Generator[Path]:
    """A folder beside ``target`` that takes its place when the block ends, and vanishes if it fails.

    What killed processes left behind is removed; a model directory at ``target`` stays until the new one is whole.

    Raises:
        ModelTargetError: the disk is full or read-only.
    """
    partial = _beside(target, _PARTIAL)
    try:
        partial.mkdir(parents=True)
        with _held(partial):
            _remove_leftovers(target)
            yield partial
            _put_in_place(partial, target)
    except (OSError, SafetensorError) as error:
        reason = (isinstance(error, OSError) and error.filename is None and error.strerror) or error
        raise ModelTargetError(
            f"{target} cannot be written ({reason}). Make room or rights there, or choose another place with --out."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def measure_room(path: Path, needed: int) -> Room:
    """How much room there is at a path, which need not exist yet."""
    return Room(path, needed, shutil.disk_usage(existing_folder(path)).free)


def share_disk(first: Path, second: Path) -> bool:
    """Whether two paths, which need not exist yet, lie on one file system."""
    return existing_folder(first).stat().st_dev == existing_folder(second).stat().st_dev


def bytes_to_copy(files: Iterable[Path], target: Path) -> int:
    """Bytes of the files that cannot be linked to ``target``, for they lie on another file system."""
    return sum(file.stat().st_size for file in files if not share_disk(file.resolve(), target))


def file_size(file: Path) -> int:
    """Bytes of a file.

    Raises:
        ModelNotFoundError: there is no such file.
    """
    if not file.is_file():
        raise ModelNotFoundError(f"There is no file {file}.")
    return file.stat().st_size


def existing_folder(path: Path) -> Path:
    """The nearest of a path and its parents that exists."""
    path = path.absolute()
    return next(place for place in (path, *path.parents) if place.exists())


def _beside(target: Path, kind: str) -> Path:
    return target.absolute().with_name(f".{target.absolute().name}.{uuid.uuid4().hex[:8]}{kind}")


@contextmanager
def _held(folder: Path) -> Generator[None]:
    """Mark a folder as in use, until the process ends in whatever way."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _remove_leftovers(target: Path) -> None:
    """Remove what earlier attempts left behind, unless it is in use."""
    for kind in (_PARTIAL, _REPLACED):
        for folder in target.absolute().parent.glob(f".{target.absolute().name}.????????{kind}"):
            handle = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            except BlockingIOError:
                continue
            finally:
                os.close(handle)


def _put_in_place(partial: Path, target: Path) -> None:
    target = target.absolute()
    if not target.is_dir():
        partial.rename(target)
        return
    replaced = _beside(target, _REPLACED)
    target.rename(replaced)
    try:
        partial.rename(target)
    except OSError:
        replaced.rename(target)
        raise
    shutil.rmtree(replaced, ignore_errors=True)
