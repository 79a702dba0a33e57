"""Time limit of a job: raised by a signal, and checked at each step."""

from __future__ import annotations

import signal
import time
from types import FrameType, TracebackType
from typing import Self


class JobTimeout(BaseException):
    """The job took too long. Not an ``Exception``, so that no library's ``except Exception`` swallows it."""


class Deadline:
    """Raises ``JobTimeout`` in the main thread once ``seconds`` have passed.

    The signal arrives only between two bytecodes, and callbacks from C may swallow the exception, so every step must also
    call ``check``. A kernel that never returns is left to the supervisor.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends_at = 0.0

    def __enter__(self) -> Self:
        self._ends_at = time.monotonic() + self._seconds
        signal.signal(signal.SIGALRM, self._on_alarm)
        signal.setitimer(signal.ITIMER_REAL, self._seconds)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)

    def check(self) -> None:
        """Raise ``JobTimeout`` if the time has passed."""
        if time.monotonic() >= self._ends_at:
            raise JobTimeout

    def _on_alarm(self, signum: int, frame: FrameType | None) -> None:
        raise JobTimeout
