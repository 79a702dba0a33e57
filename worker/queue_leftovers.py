"""Removes what dead workers and API processes left of RQ's in Redis: entries, hashes, registries."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import cast

from redis import Redis
from rq import Queue
from rq.registry import FailedJobRegistry, StartedJobRegistry
from rq.worker_registration import clean_worker_registry

from ms_core.errors import UnreadableJobError
from ms_jobs import keys
from ms_jobs.job_store import JobStore
from ms_jobs.keys import JobKey
from ms_jobs.queue import is_cutout_entry
from ms_jobs.records import JobState, as_text, encode_field, is_job_id

PAGE = 100
KEYS_AT_ONCE = 1000
HASH = "hash"


class QueueLeftovers:
    """Finds and removes leftovers of one model, each only after it looked left over for ``age_s`` seconds.

    Errors of the client, such as ``redis.exceptions.ConnectionError``, pass through unchanged.
    """

    def __init__(self, client: Redis, jobs: JobStore, model: str) -> None:
        """Send nothing to Redis yet."""
        self._client = client
        self._jobs = jobs
        self._queue = Queue(keys.queue_name(model), connection=client, serializer="json")
        self._started = StartedJobRegistry(queue=self._queue)
        self._failed = FailedJobRegistry(queue=self._queue)
        self._seen_since: dict[str, float] = {}

    def clear(self, age_s: float) -> Iterator[str | None]:
        """Check everything once, one item per step; yields what was removed, or ``None``."""
        seen: set[str] = set()
        for suspect in self._suspects():
            if suspect is None:
                yield None
                continue
            seen.add(suspect)
            since = self._seen_since.setdefault(suspect, time.monotonic())
            yield suspect if time.monotonic() - since >= age_s and self._remove(suspect) else None
        self._seen_since = {name: since for name, since in self._seen_since.items() if name in seen}
        self._failed.cleanup()
        clean_worker_registry(self._queue)

    def _suspects(self) -> Iterator[str | None]:
        """Yield name and entry of a list, as one text, for each useless entry; ``None`` for a needed one."""
        intermediate = self._queue.intermediate_queue_key
        for entry in map(_as_text, self._client.lrange(intermediate, 0, -1)):
            # A live worker removes it at once.
            yield f"{intermediate} {entry}"
        for entry, execution in self._started.get_job_and_execution_ids(cleanup=False):
            yield None if self._is_needed(entry) else f"{self._started.key} {entry}:{execution}"
        # From the end, so that removals do not shift entries still to be checked.
        end = self._client.llen(self._queue.key)
        while end > 0:
            start = max(end - PAGE, 0)
            entries = [_as_text(entry) for entry in self._client.lrange(self._queue.key, start, end - 1)]
            for entry, is_waiting in zip(entries, self._are_waiting(entries), strict=True):
                yield None if is_waiting else f"{self._queue.key} {entry}"
            end = start
        yield from self._lone_hashes()

    def _lone_hashes(self) -> Iterator[str | None]:
        """Yield hashes of entries in no list: RQ writes a heartbeat even after another worker removed the entry."""
        prefix = keys.RQ_JOB_PREFIX
        cursor = -1
        while cursor != 0:
            cursor, names = self._client.scan(max(cursor, 0), match=f"{prefix}*_*_*", count=KEYS_AT_ONCE)
            yield None
            for entry in (as_text(name).removeprefix(prefix) for name in names):
                is_ours = is_job_id(JobKey.of_entry(entry).id) or is_cutout_entry(entry)
                yield f"{HASH} {entry}" if is_ours and not self._is_needed(entry) else None

    def _remove(self, suspect: str) -> bool:
        name, _, item = suspect.partition(" ")
        entry, _, execution = item.partition(":")
        is_needed = self._is_needed(entry)
        with self._client.pipeline() as pipeline:
            if name == self._started.key:
                pipeline.zrem(name, item)
                pipeline.delete(keys.rq_execution(entry, execution), keys.rq_executions(entry))
            elif name != HASH:
                pipeline.lrem(name, 1, cast("str", _as_bytes(item)))
            if not is_needed:
                pipeline.delete(_as_bytes(keys.rq_job(entry)))
            removed = pipeline.execute()
        return bool(removed) and removed[0] > 0

    def _are_waiting(self, entries: list[str]) -> list[bool]:
        """Whether the jobs wait for these entries' attempts; in one round trip, since queues may be long."""
        with self._client.pipeline(transaction=False) as pipeline:
            for entry in entries:
                pipeline.hmget(_as_bytes(keys.job(JobKey.of_entry(entry))), "state", "attempt")
            found = pipeline.execute(raise_on_error=False)
        wanted = ([encode_field(JobState.QUEUED), entry.rpartition("_")[2]] for entry in entries)
        # An error concerns the record of one job, which a newer version may read.
        return [
            isinstance(texts, Exception) or [as_text(text or "") for text in texts] == want
            for texts, want in zip(found, wanted, strict=True)
        ]

    def _is_needed(self, entry: str) -> bool:
        """Whether the job waits for this entry's attempt, or runs it."""
        key = JobKey.of_entry(entry)
        if not is_job_id(key.id):
            return False
        try:
            record = self._jobs.for_owner(key.owner).get(key.id)
        except UnreadableJobError:
            # A newer version of the service may read it.
            return True
        if record is None or record.state.ended:
            return False
        # The entry is named by the number of earlier attempts.
        attempts = record.attempt - 1 if record.state is JobState.RUNNING else record.attempt
        return entry.rpartition("_")[2] == str(attempts)


def _as_text(entry: bytes | str) -> str:
    """An entry of a list, which somebody else may have written; ``_as_bytes`` gives it back as it was."""
    return entry.decode("utf-8", "surrogateescape") if isinstance(entry, bytes) else entry


def _as_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
