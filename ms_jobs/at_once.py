"""Keeps an owner from running more jobs at once than it may, whatever the order of the queue."""

from __future__ import annotations

from enum import IntEnum
from pathlib import Path

from redis import Redis

from ms_jobs import keys
from ms_jobs.keys import JobKey
from ms_jobs.queue import is_cutout_entry

# From taking an entry to the job's start; a worker that takes longer may start one too many.
STARTS_WITHIN_S = 30
_SCRIPT = (Path(__file__).parent / "lua" / "hold_back.lua").read_text()


class Start(IntEnum):
    """What becomes of an entry that a worker took."""

    YES = 1
    ANOTHER_FIRST = 0
    NONE_NOW = -1


class AtOnce:
    """Asks, for each entry that a worker of one model took, whether it may start; one that may not goes back."""

    def __init__(self, client: Redis, model: str, most: int) -> None:
        """Send nothing to Redis yet.

        Args:
            most: jobs of one owner that may run at once, on all workers; 0 is no limit.
        """
        self._client = client
        self._most = most
        self._taken = keys.taken(model)
        self._lists = (keys.queue(model), keys.rq_taken(model), keys.running(model), self._taken)
        self._script = client.register_script(_SCRIPT)

    def may_start(self, entry: str) -> Start:
        """Ask for one entry that is in RQ's list of taken ones; cut-outs always may.

        Raises:
            redis.exceptions.RedisError: Redis cannot be reached; the housekeeper finds the entry.
        """
        if not self._most or is_cutout_entry(entry):
            return Start.YES
        name = str(JobKey.of_entry(entry))
        return Start(self._script(keys=self._lists, args=[entry, name, self._most, STARTS_WITHIN_S]))

    def has_started(self, entry: str) -> None:
        """Note that an entry's job has started, or never will: from now on its record counts.

        Raises:
            redis.exceptions.RedisError: Redis cannot be reached.
        """
        if self._most:
            self._client.zrem(self._taken, str(JobKey.of_entry(entry)))
