"""Jobs that nobody works on any more: run again once, then failed.

A job is abandoned when its record says ``running`` and its worker no longer beats, and lost when it says ``queued`` and
the queue does not hold it. Either may look so for a moment, while a worker takes a job or after Redis was away; so a
job is taken up only after it looked so for ``grace_s`` seconds without a break. A job is forgotten when its worker beats
and says that it works on something else, for longer than a beat is valid: a mistake of ours, which must not keep the job
from its end. Every change is a compare-and-set: several supervisors may look after the same jobs.
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

log = logging.getLogger(__name__)

STORAGE_PATIENCE_S = 60.0
# States of workers that work on nothing, though they say that they are there.
USELESS = (WorkerState.FAILED, WorkerState.DEFUNCT)


class Recovery:
    """Looks after the jobs of one model: call ``sweep`` every second or so."""

    def __init__(self, jobs: JobStore, queue: JobQueue, artifacts: ArtifactStore, model: str, grace_s: float) -> None:
        """``grace_s`` is in seconds."""
        self._jobs = jobs
        self._queue = queue
        self._artifacts = artifacts
        self._model = model
        self._grace_s = grace_s
        self._suspected_since: dict[JobKey, float] = {}

    def sweep(self, alive: set[str], at_work: Mapping[str, str | None] | None = None, beat_ttl_s: float = 0) -> None:
        """Look at every job that has not ended, once.

        Args:
            alive: names of the workers that beat.
            at_work: the job that each of them says it works on.
            beat_ttl_s: for how long what they say is kept, in seconds.
        """
        waiting = self._queue.waiting()
        suspects: dict[JobKey, tuple[JobRecord, float]] = {}
        for key in sorted(self._jobs.active(self._model) - waiting):
            record = self._jobs.for_owner(key.owner).get(key.id)
            if record is None:
                self._jobs.forget(key, self._model)
            elif record.state is JobState.QUEUED or (record.state is JobState.RUNNING and record.worker not in alive):
                suspects[key] = (record, self._grace_s)
            elif record.state is JobState.RUNNING and (at_work or {}).get(record.worker or "", key.id) != key.id:
                suspects[key] = (record, self._grace_s + beat_ttl_s)
        now = time.monotonic()
        self._suspected_since = {key: self._suspected_since.get(key, now) for key in suspects}
        for key, (record, grace_s) in suspects.items():
            if now - self._suspected_since[key] >= grace_s:
                self._take_up(key, record)

    def abandon_jobs_of(self, worker: str, reason: Requeue = Requeue.ABANDONED) -> None:
        """Take up at once what a worker left that is known to have ended, as by the parent that saw it die."""
        for key in sorted(self._jobs.active(self._model) - self._queue.waiting()):
            record = self._jobs.for_owner(key.owner).get(key.id)
            if record is not None and record.state is JobState.RUNNING and record.worker == worker:
                self._suspected_since.setdefault(key, time.monotonic())
                self._take_up(key, record, reason)

    def start_over(self) -> None:
        """Trust no earlier look: Redis was away."""
        self._suspected_since.clear()

    def _take_up(self, key: JobKey, record: JobRecord, reason: Requeue = Requeue.ABANDONED) -> None:
        if record.state is JobState.QUEUED:
            log.warning("job %s was in no queue; queued again", key)
            self._queue.put_first(record)
        else:
            try:
                manifest = self._stored_manifest(record)
            except StorageError as error:
                if time.monotonic() - self._suspected_since[key] < STORAGE_PATIENCE_S:
                    # The pictures may be there; the next sweep looks again.
                    log.warning("job %s: %s", key, error.detail)
                    return
                manifest = None
            if manifest is None or not self._adopt(record, manifest):
                self._abandon(key, record, reason)
        self._suspected_since.pop(key, None)

    def _stored_manifest(self, record: JobRecord) -> Manifest | None:
        """The manifest of an attempt that stored all its pictures and could not say so any more."""
        artifacts = self._artifacts.for_owner(record.owner)
        try:
            if record.attempt - record.handed_back < MAX_ATTEMPTS:
                # What comes later than this look is found by the next attempt.
                return artifacts.load_manifest(record.folder, record.attempt)
            # There is no next attempt. So the place is taken away first: what is not there now never comes.
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


WORKER_DIED = JobError(
    code="worker_died",
    detail=(
        f"The worker died in {MAX_ATTEMPTS} attempts at this job. Try a smaller picture or fewer images, and see the worker's "
        "log."
    ),
)
