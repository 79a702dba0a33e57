"""A time limit on a job: raised by a signal, and read as a flag at each step."""

from __future__ import annotations

import signal
import time
from types import FrameType, TracebackType
from typing import Self


class JobTimeout(BaseException):
    """The job took too long. No ``Exception``, so that no library's ``except Exception`` swallows it."""


class Deadline:
    """Raises ``JobTimeout`` in the main thread once ``seconds`` have passed.

    The signal arrives between two bytecodes only, and code that is called back from C may swallow what it raises; so
    ``check`` belongs into every step as well. A kernel that never returns is the supervisor's business.
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
        """Raise ``JobTimeout`` if the time is over."""
        if time.monotonic() >= self._ends_at:
            raise JobTimeout

    def _on_alarm(self, signum: int, frame: FrameType | None) -> None:
        raise JobTimeout
