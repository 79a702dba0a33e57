"""Jobs that nobody works on any more: run again once, then failed.

A job is abandoned when its record says ``running`` and its worker no longer beats, and lost when it says ``queued`` and
the queue does not hold it. Either may look so for a moment, while a worker takes a job or after Redis was away; so a
job is taken up only after it looked so for ``grace_s`` seconds without a break. Every change is a compare-and-set:
several supervisors may look after the same jobs.
"""

from __future__ import annotations

import logging
import time

from ms_core.errors import StorageError
from worker.artifacts import ArtifactStore
from worker.contract import JobError, JobRecord, JobState, JobStore, WorkerState
from worker.queue import JobQueue

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 2


class Recovery:
    """Looks after the jobs of one model: call ``sweep`` every second or so."""

    def __init__(self, jobs: JobStore, queue: JobQueue, artifacts: ArtifactStore, model: str, grace_s: float) -> None:
        self._jobs = jobs
        self._queue = queue
        self._artifacts = artifacts
        self._model = model
        self._grace_s = grace_s
        self._suspected_since: dict[str, float] = {}

    def sweep(self, alive: set[str]) -> None:
        """Look at every job that has not ended, once; ``alive`` are the names of the workers that beat."""
        waiting = self._queue.job_ids()
        suspects: dict[str, JobRecord] = {}
        for job_id in self._jobs.active_ids(self._model) - waiting:
            record = self._jobs.get(job_id)
            if record is None:
                self._jobs.forget(job_id, self._model)
            elif record.state is JobState.QUEUED or (record.state is JobState.RUNNING and record.worker not in alive):
                suspects[job_id] = record
        now = time.monotonic()
        self._suspected_since = {job_id: self._suspected_since.get(job_id, now) for job_id in suspects}
        for job_id, record in suspects.items():
            if now - self._suspected_since[job_id] >= self._grace_s:
                self._take_up(record)

    def start_over(self) -> None:
        """Trust no earlier look: Redis was away."""
        self._suspected_since.clear()

    def _take_up(self, record: JobRecord) -> None:
        self._suspected_since.pop(record.id, None)
        if record.state is JobState.QUEUED:
            log.warning("job %s was in no queue; queued again", record.id)
            self._queue.put_first(record.id)
        elif self._is_done(record):
            pass
        elif record.attempt >= MAX_ATTEMPTS:
            self._fail(record)
        elif self._jobs.transition(record.id, {JobState.RUNNING}, JobState.QUEUED):
            log.warning("job %s was left by worker %s; queued again", record.id, record.worker)
            self._queue.put_first(record.id)

    def _is_done(self, record: JobRecord) -> bool:
        """End a job whose worker stored all its pictures and died before it could say so."""
        try:
            manifest = self._artifacts.load_manifest(record.id)
        except StorageError as error:
            log.warning("job %s: %s", record.id, error)
            return False
        if manifest is None:
            return False
        fields = dict(manifest)
        return self._jobs.transition(record.id, {JobState.RUNNING}, JobState.SUCCEEDED, **fields)

    def _fail(self, record: JobRecord) -> None:
        detail = (
            f"The worker ended without a word while it made this picture, {record.attempt} times in a row. "
            "Try a smaller picture or fewer images; the worker's log may tell more."
        )
        log.error("job %s failed: its workers died %d times", record.id, record.attempt)
        error = JobError(code="worker_died", detail=detail)
        self._jobs.transition(record.id, {JobState.RUNNING}, JobState.FAILED, error=error)


def alive_names(jobs: JobStore, model: str) -> set[str]:
    """Names of the workers of a model that beat and can work."""
    return {worker.name for worker in jobs.workers(model) if worker.state is not WorkerState.FAILED}
