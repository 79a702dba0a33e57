"""File operations on the shared volume: files appear whole or not at all, and survive a power cut.

Callers choose the paths. ``FileNotFoundError`` passes through, since only the caller knows what a missing file means; other
errors of the operating system become ``StorageError``, without the path.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ms_core.errors import StorageError, StorageFullError

PART_SUFFIX = ".part"


def make_folder(path: Path) -> None:
    """Make a folder and its parents, if missing."""
    with _storage_errors("written"):
        path.mkdir(parents=True, exist_ok=True)


def make_subfolder(path: Path) -> None:
    """Make a folder, if missing, in an existing one.

    Raises:
        FileNotFoundError: the parent folder does not exist.
    """
    with _storage_errors("written"):
        path.mkdir(exist_ok=True)


def write_file(path: Path, data: bytes, sync_name: bool = True) -> None:
    """Write a file into an existing folder.

    Args:
        sync_name: let its name survive a power cut too; pass ``False`` if a later file of the folder does that.

    Raises:
        FileNotFoundError: the folder does not exist, or was just renamed.
    """
    with _storage_errors("written"):
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


def read_file(path: Path, most: int = -1) -> bytes:
    """Read the bytes of a file, or its first ``most``; links, which this module never makes, are refused.

    Raises:
        FileNotFoundError: the file does not exist.
    """
    with _storage_errors("read"):
        # A named pipe would wait for its writer.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise OSError(errno.EINVAL, "not a regular file")
            return file.read(most)


def holds(path: Path, data: bytes) -> bool:
    """Whether there is a file with this content; one that cannot be read counts as missing."""
    with suppress(OSError, StorageError):
        return path.lstat().st_size == len(data) and read_file(path) == data
    return False


def share_file(source: Path, target: Path, data: bytes) -> None:
    """Hard-link ``source`` to ``target``; if that fails, write ``data``, the content of ``source``.

    Linking fails if the volume has no hard links, the file has too many, or ``source`` is gone.
    """
    try:
        os.link(source, target)
    except FileExistsError:
        pass
    except OSError:
        write_file(target, data)


def link_file(source: Path, target: Path) -> None:
    """Hard-link ``source`` to ``target``; if the volume cannot, copy it.

    Raises:
        FileNotFoundError: ``source`` does not exist.
    """
    try:
        os.link(source, target)
    except (FileExistsError, FileNotFoundError):
        if not target.exists():
            raise
    except OSError:
        write_file(target, read_file(source))


def touch(path: Path) -> None:
    """Set a file's time of change to now; make the file, empty, if it is missing.

    Raises:
        FileNotFoundError: the folder does not exist.
    """
    with _storage_errors("written"):
        path.touch()


def changed_at(path: Path) -> float:
    """When a file changed last, in Unix seconds.

    Raises:
        FileNotFoundError: the file does not exist.
    """
    with _storage_errors("read"):
        return path.lstat().st_mtime


def names_in(folder: Path) -> list[str]:
    """List the names in a folder.

    Raises:
        FileNotFoundError: the folder does not exist.
    """
    with _storage_errors("read"):
        return os.listdir(folder)


def move(source: Path, target: Path) -> None:
    """Rename a file or a folder, in one step.

    Raises:
        FileNotFoundError: the file does not exist.
    """
    with _storage_errors("written"):
        source.rename(target)


def replace_empty(source: Path, target: Path) -> None:
    """Rename a folder, in one step, over an empty one; if the target is not empty, nothing changes.

    Raises:
        FileNotFoundError: the folder does not exist.
    """
    with _storage_errors("written"):
        try:
            source.rename(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise


def remove_tree(folder: Path) -> None:
    """Remove a folder, or a link or file in its place, ignoring errors."""
    if folder.is_symlink() or not folder.is_dir():
        with suppress(OSError):
            folder.unlink()
    else:
        shutil.rmtree(folder, ignore_errors=True)


def is_there(path: Path) -> bool:
    """Whether there is something at a path, if only a link to nothing."""
    return os.path.lexists(path)


def clear_folder(folder: Path) -> None:
    """Remove the files in a folder, ignoring errors."""
    with suppress(OSError):
        for name in os.listdir(folder):
            with suppress(OSError):
                (folder / name).unlink()


def remove_file(path: Path) -> bool:
    """Remove a file; returns whether it was there."""
    with _storage_errors("written"):
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        sync_folder(path.parent)
        return True


def remove_last_name(path: Path) -> bool:
    """Remove a file unless it has other hard links; returns whether it was removed."""
    with suppress(OSError):
        if path.stat().st_nlink == 1:
            path.unlink()
            return True
    return False


def entries(folder: Path) -> Iterator[tuple[Path, float]]:
    """List a folder's entries with the seconds since their last change; nothing if it does not exist."""
    with suppress(FileNotFoundError):
        for name in names_in(folder):
            path = folder / name
            with suppress(FileNotFoundError), _storage_errors("read"):
                yield path, time.time() - path.lstat().st_mtime


def free_bytes(folder: Path) -> int:
    """Get the free space, in bytes, of the volume of a folder, which need not exist yet."""
    with _storage_errors("read"):
        volume = os.statvfs(_nearest(folder))
    return volume.f_bavail * volume.f_frsize


def require_room(folder: Path, min_free_bytes: int) -> None:
    """Raise ``StorageFullError`` if less is free on the volume of a folder."""
    if free_bytes(folder) < min_free_bytes:
        raise storage_full()


def check_writable(folder: Path) -> None:
    """Raise ``StorageError`` unless files can be made in a folder, which need not exist yet."""
    with _storage_errors("written"):
        existing = _nearest(folder)
        if not existing.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(existing, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest of its parents that exists; one that cannot be entered is an error."""
    for path in (folder, *folder.resolve().parents):
        with suppress(FileNotFoundError, NotADirectoryError):
            path.stat()
            return path
    raise FileNotFoundError(folder)


def sync_folder(folder: Path) -> None:
    """Let the names in a folder survive a power cut.

    Raises:
        FileNotFoundError: the folder does not exist.
    """
    with _storage_errors("written"):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def _storage_errors(done: str) -> Iterator[None]:
    """Turn errors of the operating system into ``StorageError``."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise storage_full() from error
        raise StorageError(f"The storage cannot be {done}: {error.strerror}.") from error


@contextmanager
def missing_means(detail: str) -> Iterator[None]:
    """Turn a missing file into a ``StorageError`` with this detail."""
    try:
        yield
    except FileNotFoundError as error:
        raise StorageError(detail) from error


def storage_full() -> StorageFullError:
    """Make the error of a full volume."""
    return StorageFullError("The storage is full. Delete jobs, or try again when some have expired.")
