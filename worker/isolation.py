"""Keeps the failure of one job or task from all others."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager

from redis.exceptions import RedisError

from ms_core.errors import MSDiffusionError
from ms_jobs.connection import is_transient

log = logging.getLogger(__name__)

# Bounds the memory for failures that are known already.
MOST_KNOWN = 1000


class Isolation:
    """Guards single jobs and tasks; each failure is logged once while it lasts."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    @contextmanager
    def guard(self, what: str) -> Generator[None]:
        """Log what is raised in the block, and go on after it.

        Raises:
            redis.exceptions.RedisError: Redis is away, which all others will find too.
        """
        try:
            yield
        except Exception as error:
            if isinstance(error, RedisError) and is_transient(error):
                raise
            self._tell(what, error)
        else:
            self._known.pop(what, None)

    def _tell(self, what: str, error: Exception) -> None:
        reason = f"{type(error).__name__}: {error}"
        if self._known.get(what) == reason:
            return
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        self._known[what] = reason
        if isinstance(error, (MSDiffusionError, RedisError)):
            log.warning("%s: %s", what, error)
        else:
            log.error("%s failed; the others go on", what, exc_info=error)
