"""Files that are whole or not there at all, and the sentence for a full disk."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ms_core.errors import StorageError, StorageFullError

_TEMPORARY = ".tmp"
_CHUNK = 1 << 20


@contextmanager
def new_file(path: Path) -> Generator[BinaryIO]:
    """A file that gets its name only when the block has written all of it.

    Raises:
        StorageFullError: there is no room; what stood under this name stays.
        StorageError: the folder cannot be written.
    """
    # Two actors may write the same part, with the same bytes.
    temporary = path.with_name(f".{path.name}.{os.getpid()}{_TEMPORARY}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFullError(
                f"The disk is full: {path.name} could not be written. What is whole stays; make room and run the same command again."
            ) from error
        raise StorageError(f"{path.name} cannot be written: {error.strerror or error}.") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file at once; errors as ``new_file``."""
    with new_file(path) as file:
        file.write(content)


def remove_leftovers(folder: Path) -> None:
    """Remove what an interrupted run has not finished."""
    for path in folder.rglob(f".*{_TEMPORARY}"):
        path.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """Of a file's content, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
