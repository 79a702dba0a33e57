"""Files on the shared volume: each appears whole or not at all, and stays after a power cut.

Paths are the caller's business. ``FileNotFoundError`` passes through, for only the caller knows what a missing file means;
any other error of the operating system becomes ``StorageError``, without the path.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ms_core.errors import StorageError, StorageFullError

PART_SUFFIX = ".part"


def make_folder(path: Path) -> None:
    """Make a folder and those above it, unless they are there."""
    with _told("written"):
        path.mkdir(parents=True, exist_ok=True)


def make_subfolder(path: Path) -> None:
    """Make a folder in one that exists, unless it is there.

    Raises:
        FileNotFoundError: the folder above does not exist.
    """
    with _told("written"):
        path.mkdir(exist_ok=True)


def write_file(path: Path, data: bytes, sync_name: bool = True) -> None:
    """Write a file into a folder that exists.

    Args:
        sync_name: let its name outlast a power cut too; without it, whoever writes the last file of a folder does that.

    Raises:
        FileNotFoundError: the folder does not exist, or was taken away in this moment.
    """
    with _told("written"):
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=PART_SUFFIX)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        if sync_name:
            sync_folder(path.parent)


def read_file(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        FileNotFoundError: there is no such file.
    """
    with _told("read"):
        return path.read_bytes()


def share_file(source: Path, target: Path, data: bytes) -> None:
    """Give the file at ``source`` a second name; write ``data``, which it holds, where that cannot be done.

    It cannot where the volume knows no such thing, where a file has its most names, and when ``source`` is gone.
    """
    try:
        os.link(source, target)
    except FileExistsError:
        pass
    except OSError:
        write_file(target, data)


def names_in(folder: Path) -> list[str]:
    """The names in a folder.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    with _told("read"):
        return os.listdir(folder)


def move(source: Path, target: Path) -> None:
    """Rename a file or a folder, in one step.

    Raises:
        FileNotFoundError: there is no such file.
    """
    with _told("written"):
        source.rename(target)


def replace_empty(source: Path, target: Path) -> None:
    """Rename a folder, in one step, to the name of an empty one; a target that is not empty stays, and so does the source.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    with _told("written"):
        try:
            source.rename(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise


def remove_tree(folder: Path) -> None:
    """Remove a folder as far as it can be removed."""
    shutil.rmtree(folder, ignore_errors=True)


def clear_folder(folder: Path) -> None:
    """Remove the files in a folder as far as they can be removed."""
    with suppress(OSError):
        for name in os.listdir(folder):
            with suppress(OSError):
                (folder / name).unlink()


def remove_last_name(path: Path) -> bool:
    """Remove a file that has no second name; whether it was removed."""
    with suppress(OSError):
        if path.stat().st_nlink == 1:
            path.unlink()
            return True
    return False


def entries(folder: Path) -> Iterator[tuple[Path, float]]:
    """What is in a folder, and how many seconds ago it was changed; nothing if there is no such folder."""
    with suppress(FileNotFoundError):
        for name in names_in(folder):
            path = folder / name
            with suppress(FileNotFoundError), _told("read"):
                yield path, time.time() - path.stat().st_mtime


def free_bytes(folder: Path) -> int:
    """How much the volume of a folder, which need not exist yet, can still take."""
    existing = next(path for path in (folder, *folder.resolve().parents) if path.exists())
    with _told("read"):
        volume = os.statvfs(existing)
    return volume.f_bavail * volume.f_frsize


def sync_folder(folder: Path) -> None:
    """Let the names in a folder outlast a power cut.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    with _told("written"):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def _told(done: str) -> Iterator[None]:
    """Errors of the operating system in the user's words."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise storage_full() from error
        raise StorageError(f"The storage cannot be {done}: {error.strerror}.") from error


def storage_full() -> StorageFullError:
    """There is no room left."""
    return StorageFullError("The storage is full. Delete jobs, or try again when some have expired.")
