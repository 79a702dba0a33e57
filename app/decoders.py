"""Threads that read requests: few, for a picture takes much memory while it is decoded, and they let all others go first."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from typing import TypeVar

Result = TypeVar("Result")

# As many as ``app.pictures`` decodes at a time.
THREADS = 2
# Enough to let polls pass; not so much that a worker on the same CPU keeps requests out.
NICENESS = 5


class Decoders:
    """Runs what takes long and mostly computes; a poll in between does not wait for it."""

    def __init__(self) -> None:
        """No thread runs before the first piece of work."""
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="decoder", initializer=_let_others_go_first)

    async def run(self, work: Callable[[], Result]) -> Result:
        """What ``work`` returns or raises; its log lines carry the request's id."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, copy_context().run, work)

    def close(self) -> None:
        """Begin no more work."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _let_others_go_first() -> None:
    """Lower this thread's priority, where threads have their own."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
