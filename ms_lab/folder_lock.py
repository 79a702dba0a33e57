"""One process at a time writes a folder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from ms_core.errors import StartupError

_LOCK = ".lock"


@contextmanager
def sole_writer(folder: Path) -> Generator[None]:
    """Keep every other process out of a folder, which is made if need be, for the time of the block.

    Raises:
        StartupError: another one works in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StartupError(f"Another run works in {folder}; wait for it, or give another folder.") from error
        yield
    finally:
        # The lock ends with the descriptor, so a killed run leaves none.
        os.close(descriptor)
