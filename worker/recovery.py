"""Requeues jobs whose worker is gone, and fails them after the last attempt.

A job is abandoned when it is ``running`` but its worker sends no heartbeats, and lost when it is ``queued`` but not in the
queue. Both can appear for a moment, while a worker takes a job or after Redis was away, so a job is recovered only after
``grace_s`` seconds in that state. A job is forgotten when its worker reports another one for longer than a heartbeat is
valid: a bug of ours, which must not keep the job from ending. Every change is a compare-and-set, so several supervisors may
handle the same jobs.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from ms_core.errors import JobNotFoundError, StorageError
from ms_jobs.artifacts import ArtifactStore, Manifest
from ms_jobs.job_store import JobStore
from ms_jobs.keys import JobKey
from ms_jobs.outcomes import Requeue
from ms_jobs.queue import JobQueue
from ms_jobs.records import MAX_ATTEMPTS, JobError, JobRecord, JobState, WorkerState
from worker.isolation import Isolation

log = logging.getLogger(__name__)

STORAGE_PATIENCE_S = 60.0
# States of workers that run no job, though they have a record.
USELESS = (WorkerState.FAILED, WorkerState.DEFUNCT)


class Recovery:
    """Recovers the jobs of one model: call ``sweep`` every second or so."""

    def __init__(self, jobs: JobStore, queue: JobQueue, artifacts: ArtifactStore, model: str, grace_s: float) -> None:
        """``grace_s`` is in seconds."""
        self._jobs = jobs
        self._queue = queue
        self._artifacts = artifacts
        self._model = model
        self._grace_s = grace_s
        self._suspected_since: dict[JobKey, float] = {}
        self._isolation = Isolation()

    def sweep(self, alive: set[str], at_work: Mapping[str, str | None] | None = None, beat_ttl_s: float = 0) -> None:
        """Check every job that has not ended, once; one that cannot be handled is logged, and costs no other.

        Args:
            alive: names of the workers with heartbeats.
            at_work: the job that each of them reports.
            beat_ttl_s: how long a heartbeat is valid, in seconds.
        """
        waiting = self._queue.waiting()
        suspects: dict[JobKey, tuple[JobRecord, float]] = {}
        for key in sorted(self._jobs.active(self._model) - waiting):
            with self._isolation.guard(f"job {key}"):
                record = self._jobs.for_owner(key.owner).get(key.id)
                if record is None:
                    self._jobs.forget(key, self._model)
                elif record.state is JobState.QUEUED or (
                    record.state is JobState.RUNNING and record.worker not in alive
                ):
                    suspects[key] = (record, self._grace_s)
                elif record.state is JobState.RUNNING and (at_work or {}).get(record.worker or "", key.id) != key.id:
                    suspects[key] = (record, self._grace_s + beat_ttl_s)
        now = time.monotonic()
        self._suspected_since = {key: self._suspected_since.get(key, now) for key in suspects}
        for key, (record, grace_s) in suspects.items():
            if now - self._suspected_since[key] >= grace_s:
                with self._isolation.guard(f"recovery of job {key}"):
                    self._recover(key, record)

    def abandon_jobs_of(self, worker: str, reason: Requeue = Requeue.ABANDONED) -> None:
        """Recover at once the jobs of a worker that is known to have ended, as seen by its parent."""
        for key in sorted(self._jobs.active(self._model) - self._queue.waiting()):
            with self._isolation.guard(f"job {key}, perhaps of worker {worker}"):
                record = self._jobs.for_owner(key.owner).get(key.id)
                if record is not None and record.state is JobState.RUNNING and record.worker == worker:
                    self._suspected_since.setdefault(key, time.monotonic())
                    self._recover(key, record, reason)

    def start_over(self) -> None:
        """Discard earlier observations, since Redis was away."""
        self._suspected_since.clear()

    def _recover(self, key: JobKey, record: JobRecord, reason: Requeue = Requeue.ABANDONED) -> None:
        if record.state is JobState.QUEUED:
            log.warning("job %s was not in the queue; queued again", key)
            self._queue.put_first(record)
        else:
            try:
                manifest = self._stored_manifest(record)
            except StorageError as error:
                if time.monotonic() - self._suspected_since[key] < STORAGE_PATIENCE_S:
                    # The pictures may exist; the next sweep checks again.
                    log.warning("job %s: %s", key, error.detail)
                    return
                manifest = None
            if manifest is None or not self._adopt(record, manifest):
                self._abandon(key, record, reason)
        self._suspected_since.pop(key, None)

    def _stored_manifest(self, record: JobRecord) -> Manifest | None:
        """Load the manifest of an attempt that stored all its pictures but died before it ended the job."""
        artifacts = self._artifacts.for_owner(record.owner)
        try:
            if record.attempt - record.handed_back < MAX_ATTEMPTS:
                # A manifest written after this is found by the next attempt.
                return artifacts.load_manifest(record.folder, record.attempt)
            # There is no next attempt, so end this one first: then no manifest can follow.
            return artifacts.end_attempts(record.folder, record.attempt)
        except JobNotFoundError:
            return None

    def _adopt(self, record: JobRecord, manifest: Manifest) -> bool:
        result = {name: value for name, value in manifest if name != "attempt"}
        jobs = self._jobs.for_owner(record.owner)
        state = jobs.finish(record.id, record.attempt, JobState.SUCCEEDED, result_attempt=manifest.attempt, **result)
        log.warning("job %s was stored by worker %s before it died: now %s", record.id, record.worker, state)
        return state is not None

    def _abandon(self, key: JobKey, record: JobRecord, reason: Requeue) -> None:
        jobs = self._jobs.for_owner(key.owner)
        state = jobs.requeue(key.id, record.attempt, reason, WORKER_DIED)
        log.warning("job %s was left by worker %s: now %s", key, record.worker, state)
        if state is JobState.QUEUED:
            self._queue.put_first(record)


def out_of_attempts(code: str, reason: str) -> JobError:
    """Make the error of a job whose every attempt ended for the same reason, such as "The worker died"."""
    remedy = "Try a smaller picture or fewer images, and see the worker's log."
    return JobError(code=code, detail=f"{reason} in {MAX_ATTEMPTS} attempts at this job. {remedy}")


WORKER_DIED = out_of_attempts("worker_died", "The worker died")
# The process that closed an attempt's files may have died before it changed the record.
FILES_CLOSED = JobError(
    code=WORKER_DIED.code,
    detail=f"The files of all {MAX_ATTEMPTS} attempts at this job were closed: by another process, or since the job's folder "
    "holds one with the number of a later attempt. Send the request again.",
)
