"""Small pictures of a job while it is made: none unless asked for, not too often, and never at the price of the job."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

# Redis keeps the newest of every running job.
MAX_PREVIEW_BYTES = 6 * 1024
INTERVAL_S = 0.5

log = logging.getLogger(__name__)


class LivePreviews:
    """Draws the previews of one job."""

    def __init__(self, wanted: bool) -> None:
        """Draw none unless they are ``wanted``."""
        self._wanted = wanted
        self._next_at = 0.0

    def draw(self, make: Callable[[], bytes] | None) -> bytes:
        """What ``make`` gives, if it is time for a new one; else, and if it fails, nothing."""
        if make is None or not self._wanted or time.monotonic() < self._next_at:
            return b""
        try:
            preview = make()
        except Exception:  # a job is worth more than its preview: it goes on without
            log.warning("no previews of this job", exc_info=True)
            self._wanted = False
            return b""
        self._next_at = time.monotonic() + INTERVAL_S
        return preview if len(preview) <= MAX_PREVIEW_BYTES else b""
