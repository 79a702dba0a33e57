"""Draws small previews of a running job: only if requested, not too often, and without risk to the job."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

# Redis holds the newest one of every running job.
MAX_PREVIEW_BYTES = 6 * 1024
INTERVAL_S = 0.5

log = logging.getLogger(__name__)


class LivePreviews:
    """Draws the previews of one job."""

    def __init__(self, wanted: bool) -> None:
        """Draw none unless ``wanted``."""
        self._wanted = wanted
        self._next_at = 0.0

    def draw(self, make: Callable[[], bytes] | None) -> bytes:
        """Draw a preview with ``make`` if one is due; empty if not, or if it fails."""
        if make is None or not self._wanted or time.monotonic() < self._next_at:
            return b""
        try:
            preview = make()
        except Exception:  # a failed preview must not fail the job
            log.warning("a preview failed; no more previews of this job", exc_info=True)
            self._wanted = False
            return b""
        self._next_at = time.monotonic() + INTERVAL_S
        return preview if len(preview) <= MAX_PREVIEW_BYTES else b""
