"""Where a model directory is made: beside its place, so that a half-made one is never found, and only if there is
room."""

from __future__ import annotations

import fcntl
import glob
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
from ms_core.model_dir.inspection.headers import format_size

_PARTIAL = ".partial"
_REPLACED = ".replaced"
_LOCK = ".lock"
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
            f"There is too little space for {what}: {self.path} has {format_size(self.free)} free and needs "
            f"{format_size(self.needed + _RESERVE_BYTES)}. Free some space, or choose another disk."
        )


def check_target(target: Path, force: bool) -> None:
    """Check that a model directory can be made at ``target``, before anything is fetched or converted.

    Args:
        target: of the model directory.
        force: whether a model directory there may be replaced.

    Raises:
        ModelTargetError: something is there, or its place cannot be written.
    """
    real = real_path(target)
    # What a killed process was about to replace counts as if it were still in its place.
    standing = real if real.exists() else _stranded_model(real) or real
    if os.path.ismount(real):
        raise ModelTargetError(
            f"{target} is a mount point, which cannot be replaced; choose a folder inside it with --out."
        )
    if standing.is_dir() and any(standing.iterdir()):
        if not force:
            raise ModelTargetError(
                f"{target} exists already. Choose another place with --out, or make it again with --force (what is "
                "in the "
                "hub's cache is not fetched again; LoRAs, ControlNets and embeddings are kept)."
            )
        if not (standing / CARD_FILE).is_file():
            raise ModelTargetError(
                f"{target} is not a model directory, and only those are replaced; choose another place."
            )
    elif standing.exists() and not standing.is_dir():
        raise ModelTargetError(f"{target} is a file; choose another place with --out.")
    # The new model is made beside the old one and renamed, which needs the right to write there.
    place = existing_folder(real.parent)
    if not (place.is_dir() and os.access(place, os.W_OK | os.X_OK)):
        raise ModelTargetError(f"{place} cannot be written; choose another place with --out, or make it writable.")


@contextmanager
def new_directory(target: Path) -> Generator[Path]:
    """A folder beside ``target`` that takes its place when the block ends, and vanishes if it fails.

    What killed processes left behind is removed, but a model that one was about to replace comes back; a model directory
    at ``target`` stays until the new one is whole. Where ``target`` is a link, what it leads to is replaced.

    Raises:
        ModelTargetError: the disk is full or read-only, or another process makes this model directory now.
    """
    real = real_path(target)
    partial = _beside(real, _PARTIAL)
    try:
        real.parent.mkdir(parents=True, exist_ok=True)
        with _locked(real, target):
            try:
                partial.mkdir()
                with _held(partial):
                    _remove_leftovers(real)
                    yield partial
                    _put_in_place(partial, real)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        reason = (isinstance(error, OSError) and error.filename is None and error.strerror) or error
        raise ModelTargetError(
            f"{target} cannot be written ({reason}). Free some space or fix its rights, or choose another place with "
            "--out."
        ) from error


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
    path = real_path(path)
    return next(place for place in (path, *path.parents) if place.exists())


def real_path(path: Path) -> Path:
    """Where a path leads, absolute and free of links; nothing need be there."""
    return Path(os.path.realpath(path))


def _beside(target: Path, kind: str) -> Path:
    return target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}{kind}")


def _leftovers(target: Path, kind: str) -> list[Path]:
    return sorted(target.parent.glob(f".{glob.escape(target.name)}.????????{kind}"))


def _stranded_model(target: Path) -> Path | None:
    """The newest model directory that was put aside for one that never came."""
    models = [folder for folder in _leftovers(target, _REPLACED) if (folder / CARD_FILE).is_file()]
    return max(models, key=lambda folder: folder.stat().st_ctime_ns, default=None)


@contextmanager
def _locked(target: Path, name: Path) -> Generator[None]:
    """Keep other processes from making the same model directory, until this one ends in whatever way."""
    path = target.with_name(f".{target.name}{_LOCK}")
    handle = os.open(path, os.O_RDONLY | os.O_CREAT, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever had it before may have removed it between these two calls.
        is_mine = path.exists() and os.path.samestat(os.fstat(handle), path.stat())
    except BlockingIOError:
        is_mine = False
    try:
        if not is_mine:
            raise ModelTargetError(f"Another process is making {name} now; wait for it to end.")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
    finally:
        os.close(handle)


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
    """Remove what earlier attempts left behind, unless it is in use; a model without its successor comes back."""
    stranded = None if target.exists() else _stranded_model(target)
    if stranded is not None:
        stranded.rename(target)
    # As long as nothing is in its place, what was put aside may be the only copy.
    for kind in (_PARTIAL, _REPLACED) if target.exists() else (_PARTIAL,):
        for folder in _leftovers(target, kind):
            handle = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _discard(folder, target)
            except BlockingIOError:
                continue
            finally:
                os.close(handle)


def _put_in_place(partial: Path, target: Path) -> None:
    if not target.is_dir():
        partial.rename(target)
        return
    replaced = _beside(target, _REPLACED)
    try:
        target.rename(replaced)
        partial.rename(target)
    except BaseException:
        # Ctrl-C may come between the two.
        if replaced.exists() and not target.exists():
            replaced.rename(target)
        raise
    _discard(replaced, target)


def _discard(folder: Path, target: Path) -> None:
    """Remove a folder under a name by which no half of it is ever taken for a model that was put aside."""
    doomed = _beside(target, _PARTIAL)
    folder.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)
