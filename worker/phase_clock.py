"""Shares a worker's current phase and its deadline with the supervisor, through shared memory.

A call that hangs may hold the GIL, so that no thread of the worker can report; the deadline is already here.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
import tempfile
import time

# A phase goes through shared memory as its position here.
PHASES = ("start", "load", "open", "encode", "denoise", "decode", "score", "store", "record", "idle", "other")
_NOT_YET_WORKING = ("start", "load")
_CELLS = struct.Struct("qq")


class PhaseClock:
    """16 bytes that the worker writes and the supervisor reads: the phase, and when its budget ends.

    Times are seconds on the monotonic clock, which all processes of a host share.
    """

    def __init__(self, descriptor: int) -> None:
        """Map the memory of a file descriptor; this object owns it from now on."""
        self.descriptor = descriptor
        self._memory = mmap.mmap(descriptor, _CELLS.size)
        # Through a typed view each number is written in one piece.
        self._cells = memoryview(self._memory).cast("q")

    @classmethod
    def create(cls) -> PhaseClock:
        """Make new memory, in phase ``start`` without a limit; a child that inherits ``descriptor`` shares it."""
        descriptor = os.memfd_create("phase-clock") if sys.platform == "linux" else _unnamed_file()
        os.ftruncate(descriptor, _CELLS.size)
        return cls(descriptor)

    def enter(self, phase: str, budget_s: float | None) -> None:
        """Enter or continue a phase, which may last ``budget_s`` more seconds; ``None``: no limit."""
        ends_at = 0 if budget_s is None else time.monotonic_ns() + int(budget_s * 1e9)
        self._cells[0] = ends_at
        self._cells[1] = PHASES.index(phase if phase in PHASES else "other")

    @property
    def phase(self) -> str:
        """The phase entered last."""
        return PHASES[self._cells[1]]

    @property
    def has_worked(self) -> bool:
        """Whether the model was loaded."""
        return self.phase not in _NOT_YET_WORKING

    @property
    def ends_at(self) -> float | None:
        """When the phase's budget ends; ``None``: no limit."""
        ends_at = self._cells[0]
        return ends_at / 1e9 if ends_at else None

    def close(self) -> None:
        """Release the memory; the object cannot be used afterwards."""
        self._cells.release()
        self._memory.close()
        os.close(self.descriptor)


def _unnamed_file() -> int:
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
