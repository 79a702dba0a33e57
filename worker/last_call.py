"""Ends a process that was told to stop but cannot: a step takes long, or it waits for Redis."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable

from worker.config import STOPPED_LATE_EXIT_CODE

log = logging.getLogger(__name__)

IDLE_PATIENCE_S = 3.0
LOOK_EVERY_S = 0.1


class LastCall:
    """Ends the process ``grace_s`` seconds after ``begin``, or sooner if it has no job."""

    def __init__(self, grace_s: float, is_idle: Callable[[], bool]) -> None:
        """Start waiting, in a separate thread.

        Args:
            is_idle: whether the process has no job.
        """
        self._grace_s = grace_s
        self._is_idle = is_idle
        self._begun = threading.Event()
        threading.Thread(target=self._wait, name="last-call", daemon=True).start()

    def begin(self) -> None:
        """Start the countdown; safe in a signal handler."""
        self._begun.set()

    def _wait(self) -> None:
        self._begun.wait()
        begun_at = busy_at = time.monotonic()
        while True:
            now = time.monotonic()
            if not self._is_idle():
                busy_at = now
            if now - begun_at >= self._grace_s or now - busy_at >= IDLE_PATIENCE_S:
                break
            time.sleep(LOOK_EVERY_S)
        log.warning("exiting now: the process was told to stop %.1f s ago", time.monotonic() - begun_at)
        logging.shutdown()
        os._exit(STOPPED_LATE_EXIT_CODE)
