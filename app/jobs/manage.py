"""Finds, cancels and deletes jobs, and loads their pictures."""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from typing import Annotated, Any

import redis

from app.config import Settings
from app.dependencies import owned
from ms_core.errors import ImageNotFoundError, JobConflictError, JobGoneError, JobNotFoundError, StorageError
from ms_jobs.artifacts import ArtifactStore
from ms_jobs.job_store import JobStore
from ms_jobs.outcomes import CancelOutcome, Gone
from ms_jobs.queue import JobQueue
from ms_jobs.records import ErasedJob, JobRecord, JobState, StoredImage, is_job_id

_GONE = {
    Gone.DELETED: "This job was deleted with all its pictures.",
    Gone.EXPIRED: "This job has expired and its pictures are deleted; send the request again.",
}


class Jobs:
    """The jobs of one owner.

    Attributes:
        owner: their owner.

    Raises (every method):
        redis.exceptions.RedisError: Redis cannot be reached.
        StorageError: the artifact store cannot be read or written.
        JobNotFoundError: there is no such job.
        JobGoneError: the job was deleted or has expired.
        UnreadableJobError: its record is damaged, or of a newer version; it can be deleted.
    """

    def __init__(self, client: redis.Redis, artifacts: ArtifactStore, settings: Settings) -> None:
        """Ask nothing of Redis yet.

        Args:
            client: of the Redis with the jobs; returns bytes.
            artifacts: of the same owner: pictures, requests and results.
        """
        self.owner = artifacts.owner
        self._store = JobStore(client, self.owner, settings.lifetime_s)
        self._client = client
        self._artifacts = artifacts
        self._lifetime_s = settings.lifetime_s

    def find(self, job_id: str) -> JobRecord:
        """Read the job's record, after applying its deadlines."""
        record = self._store.get(job_id) if is_job_id(job_id) else None
        if record is not None and is_due(record, self._lifetime_s):
            record = self._pass_time(record)
        if record is None:
            raise self._missing(job_id)
        return record

    def image(self, job_id: str, index: int) -> tuple[StoredImage, bytes]:
        """Load a finished picture and the bytes of its file.

        Raises:
            ImageNotFoundError: the job does not have this picture, or not yet.
        """
        record = self.find(job_id)
        count = len(shown_images(record))
        if not 0 <= index < count:
            has = f"{count} images, counted from 0" if count else "no images"
            raise ImageNotFoundError(f"The job is {record.state} and has {has}.")
        image = record.images[index]
        try:
            encoded = self._artifacts.load_image(record.folder, record.files_attempt, index, image.content_type)
        except ImageNotFoundError:
            # The job may just have been deleted.
            self.find(job_id)
            raise
        if hashlib.sha256(encoded).hexdigest() != image.sha256:
            raise StorageError("The stored picture is damaged; retry the job to make it again.")
        return image, encoded

    def reference(self, job_id: str, subject: int) -> bytes:
        """Load what the model sees of a subject, as PNG.

        Raises:
            ImageNotFoundError: nothing is stored for this subject, or not yet.
        """
        record = self.find(job_id)
        if subject not in shown_references(record):
            raise ImageNotFoundError("The job has no such reference; only subjects with a cutout have one.")
        return self._artifacts.load_reference(record.folder, record.files_attempt, subject)

    def asked(self, job_id: str) -> tuple[JobRecord, dict[str, Any]]:
        """Load a job and its request as it was asked for, with pictures by their SHA-256."""
        record = self.find(job_id)
        try:
            return record, self._artifacts.asked(record.folder)
        except JobNotFoundError:
            # The job may just have been deleted.
            self.find(job_id)
            raise

    def request_picture(self, job_id: str, sha256: str) -> bytes:
        """Load a picture of the request, as PNG.

        Raises:
            ImageNotFoundError: the request has no such picture.
        """
        record = self.find(job_id)
        try:
            return self._artifacts.request_picture(record.folder, sha256)
        except ImageNotFoundError:
            # As above.
            self.find(job_id)
            raise

    def cancel(self, job_id: str) -> JobRecord:
        """Cancel a queued job now, or ask the worker of a running one to stop.

        Raises:
            JobConflictError: the job has ended in another way.
        """
        self.find(job_id)
        outcome = self._store.request_cancel(job_id)
        record = self.find(job_id)
        if outcome is CancelOutcome.ENDED:
            raise JobConflictError(f"The job has already ended: {record.state}.")
        if outcome is CancelOutcome.CANCELED:
            self._leave_queue(record)
        return record

    def delete(self, job_id: str) -> None:
        """Cancel a job and erase its record and files; a no-op for an erased job."""
        erased = self._store.erase(job_id, Gone.DELETED) if is_job_id(job_id) else None
        if erased is not None:
            self._remove_rest(erased)
        elif not isinstance(error := self._missing(job_id), JobGoneError):
            raise error
        else:
            # An earlier call may have found the store closed.
            self._artifacts.remove_all(job_id)

    def _pass_time(self, record: JobRecord) -> JobRecord | None:
        """Apply the deadlines and read the record; ``None`` if the job has expired and is erased."""
        answer = self._store.pass_time(record.id)
        if answer is None:
            return None
        state, is_over = answer
        if is_over:
            erased = self._store.erase(record.id, Gone.EXPIRED)
            if erased is not None:
                self._remove_rest(erased)
            return None
        if state.ended and not record.state.ended:
            self._leave_queue(record)
        return self._store.get(record.id)

    def _remove_rest(self, erased: ErasedJob) -> None:
        """Remove the queue entry and files of an erased record; the housekeeper does it if this process dies."""
        if erased.model is not None:
            JobQueue(self._client, erased.model).drop(erased.entry)
        if erased.folder is not None:
            # A damaged record may name no folder of a job.
            with suppress(JobNotFoundError):
                self._artifacts.remove(erased.folder)

    def _leave_queue(self, record: JobRecord) -> None:
        JobQueue(self._client, record.model).drop(record.entry)

    def _missing(self, job_id: str) -> JobNotFoundError:
        """Make the error of a missing job."""
        reason = self._store.gone(job_id) if is_job_id(job_id) else None
        if reason is None:
            return JobNotFoundError("There is no job with this id; GET /jobs lists all jobs.")
        return JobGoneError(_GONE[reason])


JobsDependency = Annotated[Jobs, owned("jobs")]


def is_due(record: JobRecord, lifetime_s: float) -> bool:
    """Whether a deadline of the job has passed, by this host's clock."""
    now = time.time()
    if record.state.ended:
        return record.expires_at is not None and now >= record.expires_at
    if record.cancel_at is not None and now >= record.cancel_at and not record.cancel_requested:
        return True
    if record.state is JobState.RUNNING:
        return False
    starts_too_late = record.attempt == 0 and record.start_before is not None and now >= record.start_before
    return starts_too_late or now >= record.queued_at + lifetime_s


def shown_images(record: JobRecord) -> tuple[StoredImage, ...]:
    """Get the pictures that may be served: those of a job that succeeded, none otherwise."""
    return record.images if record.state is JobState.SUCCEEDED else ()


def shown_references(record: JobRecord) -> tuple[int, ...]:
    """Get the subjects whose references may be served; none once a job has ended without pictures."""
    return record.references if record.state in (JobState.RUNNING, JobState.SUCCEEDED) else ()
