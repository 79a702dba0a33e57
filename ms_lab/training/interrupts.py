"""Ctrl-C, held back while two things change that belong together."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def held_interrupts() -> Generator[None]:
    """Let Ctrl-C stop the program only after the block."""
    if threading.current_thread() is not threading.main_thread():
        # Ctrl-C never stops another thread.
        yield
        return
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            signal.raise_signal(signal.SIGINT)
