"""How long the worker's current phase may last, told to the supervisor through shared memory.

A call that hangs may hold Python's lock, and then no thread of the worker can say anything; what stands here already says
enough.
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
    """16 bytes that the worker writes and the supervisor reads: which phase it is, and when its budget ends.

    Moments are seconds on the monotonic clock, which all processes of a host share.
    """

    def __init__(self, descriptor: int) -> None:
        """Use the memory behind a file descriptor, which is this object's from now on."""
        self.descriptor = descriptor
        self._memory = mmap.mmap(descriptor, _CELLS.size)
        # Through a typed view each number is written in one piece.
        self._cells = memoryview(self._memory).cast("q")

    @classmethod
    def create(cls) -> PhaseClock:
        """New memory, in phase ``start`` without an end; a child gets it when it inherits ``descriptor``."""
        descriptor = os.memfd_create("phase-clock") if sys.platform == "linux" else _unnamed_file()
        os.ftruncate(descriptor, _CELLS.size)
        return cls(descriptor)

    def enter(self, phase: str, budget_s: float | None) -> None:
        """Say that a phase begins, or goes on, and may last ``budget_s`` more seconds; ``None`` for no limit."""
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
        """The moment at which the phase's budget ends; ``None`` for no limit."""
        ends_at = self._cells[0]
        return ends_at / 1e9 if ends_at else None

    def close(self) -> None:
        """Give the memory back; nothing else may be called any more."""
        self._cells.release()
        self._memory.close()
        os.close(self.descriptor)


def _unnamed_file() -> int:
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
