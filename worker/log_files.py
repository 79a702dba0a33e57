"""Log files that cannot grow without bound, though other programs hold them open."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

# A log and the one before it are kept, each of about this size at most.
LOG_FILE_BYTES = 20_000_000
_CHUNK = 1 << 20


def roll(path: Path, limit: int = LOG_FILE_BYTES) -> bool:
    """Move what a log holds to ``<name>.1`` and empty it, if it is larger than ``limit`` bytes.

    Whoever writes must append (``O_APPEND``), and may go on writing: Redis and Python's own last words go to these files,
    so no handler can roll them. A line that is written in the moment between copying and emptying is lost.

    Returns:
        Whether it was done.
    """
    try:
        if path.stat().st_size <= limit:
            return False
    except FileNotFoundError:
        return False
    # A full disk may forbid the copy; then emptying without one is better than growing on.
    with suppress(OSError):
        _copy(path, path.with_name(f"{path.name}.1"))
    with suppress(OSError):
        os.truncate(path, 0)
    return True


def _copy(path: Path, older: Path) -> None:
    """Copy to the very end, so that the moment in which lines are lost is short."""
    with path.open("rb") as log, older.open("wb") as copy:
        os.fchmod(copy.fileno(), 0o600)
        while chunk := log.read(_CHUNK):
            copy.write(chunk)
