"""One process at a time writes a folder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from ms_core.errors import StartupError

_LOCK = ".lock"


class TakenError(StartupError):
    """Another process works in the folder."""


@contextmanager
def sole_writer(folder: Path) -> Generator[None]:
    """Keep every other process out of a folder, which is made if need be, for the time of the block.

    Raises:
        TakenError: another one works in it.
        StartupError: it cannot be written or locked.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise StartupError(f"{folder} cannot be written: {error.strerror}. Give another folder.") from error
    try:
        _lock(descriptor, folder)
        yield
    finally:
        # The lock ends with the descriptor, so a killed run leaves none.
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise TakenError(f"Another run works in {folder}; wait for it, or give another folder.") from error
    except OSError as error:
        # Some network drives know no locks.
        raise StartupError(f"{folder} cannot be locked: {error.strerror}. Give a folder on another disk.") from error
