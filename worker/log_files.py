"""Rotates log files that other programs hold open."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

# The current and the previous log are kept, each of about this size at most.
LOG_FILE_BYTES = 20_000_000
_CHUNK = 1 << 20


def roll(path: Path, limit: int = LOG_FILE_BYTES) -> bool:
    """Copy a log to ``<name>.1`` and truncate it, if it is larger than ``limit`` bytes.

    Writers must append (``O_APPEND``) and may keep writing: Redis and crashing interpreters write to these files, so no
    logging handler can rotate them. Lines written between copying and truncating are lost.

    Returns:
        Whether the log was rotated.
    """
    try:
        if path.stat().st_size <= limit:
            return False
    except FileNotFoundError:
        return False
    # On a full disk the copy may fail; truncating without it is better than growing on.
    with suppress(OSError):
        _copy(path, path.with_name(f"{path.name}.1"))
    with suppress(OSError):
        os.truncate(path, 0)
    return True


def _copy(path: Path, older: Path) -> None:
    """Copy to the end, so that few lines are lost."""
    with path.open("rb") as log, older.open("wb") as copy:
        os.fchmod(copy.fileno(), 0o600)
        while chunk := log.read(_CHUNK):
            copy.write(chunk)
