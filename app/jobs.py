"""The seam to the queue: submits, finds and cancels jobs."""

from __future__ import annotations

import secrets
from contextlib import suppress

import redis
from rq import Queue
from rq.job import Job as QueueEntry

from app.config import MEBIBYTE, Settings
from app.generate_request import GenerateRequest
from app.intake import complete_request
from ms_core.errors import ImageNotFoundError, JobConflictError, JobNotFoundError, QueueUnavailableError
from ms_core.spec import MAX_SEED
from worker.artifacts import ArtifactStore
from worker.contract import (
    GENERATE_JOB,
    CancelOutcome,
    JobRecord,
    JobState,
    JobStore,
    Registry,
    is_job_id,
    new_job_id,
    queue_name,
)

# RQ's own records of results and failures are not used: the job's record tells the truth.
QUEUE_FAILURE_TTL_S = 60


class Jobs:
    """The jobs of one model.

    Args:
        client: of the Redis that carries the jobs; gives bytes.
        artifacts: where pictures, requests and results are kept.
        settings: name the model whose queue is filled.

    Raises (every method):
        redis.exceptions.RedisError: Redis cannot be reached.
        StorageError: the artifact store cannot be read or written.
    """

    def __init__(self, client: redis.Redis, artifacts: ArtifactStore, settings: Settings) -> None:
        self._client = client
        self._store = JobStore(client, lifetime_s=settings.lifetime_s)
        self._registry = Registry(client)
        self._artifacts = artifacts
        self._model = settings.model
        self._timeout_s = settings.job_timeout_s
        self._min_free_bytes = settings.min_free_disk_mb * MEBIBYTE
        self._queue = Queue(queue_name(settings.model), connection=client, serializer="json")

    def submit(self, request: GenerateRequest) -> JobRecord:
        """Keep the request and its pictures, and queue a job for it.

        Raises:
            InvalidRequestError: values that do not fit each other or the model.
        """
        # Asked first: without Redis nothing is written to disk.
        complete = complete_request(request, self._registry.card(self._model))
        self._artifacts.require_room(self._min_free_bytes)
        seed = secrets.randbelow(MAX_SEED + 1) if request.seed is None else request.seed
        job_id = new_job_id()
        with self._artifacts.new_folder(job_id) as folder:
            folder.save_request(complete.to_stored(folder.save_picture, seed, self._model))
        record = JobRecord(
            id=job_id,
            model=self._model,
            folder=folder.name,
            seed=seed,
            num_images=request.num_images,
            warnings=complete.warnings,
        )
        self._store.create(record)
        self._enqueue(record)
        return self.find(job_id)

    def find(self, job_id: str) -> JobRecord:
        """The job as it stands now.

        Raises:
            JobNotFoundError: there is no such job.
        """
        record = self._store.get(job_id) if is_job_id(job_id) else None
        if record is None:
            raise JobNotFoundError("There is no job with this id; it may be older than a day.")
        return record

    def position(self, record: JobRecord) -> int | None:
        """How many jobs are ahead of a queued job; ``None`` if it is not queued."""
        if record.state is not JobState.QUEUED:
            return None
        return self._queue.get_job_position(record.entry)

    def image(self, job_id: str, index: int) -> bytes:
        """The bytes of a finished picture.

        Raises:
            JobNotFoundError: there is no such job.
            ImageNotFoundError: the job has no such picture, or not yet.
        """
        record = self.find(job_id)
        if not 0 <= index < len(record.images):
            raise ImageNotFoundError(f"The job is {record.state} and has {len(record.images)} images, counted from 0.")
        return self._artifacts.load_image(record.folder, record.files_attempt, index)

    def reference(self, job_id: str, subject: int) -> bytes:
        """What the model sees of a subject, as PNG.

        Raises:
            JobNotFoundError: there is no such job.
            ImageNotFoundError: nothing is kept for this subject, or not yet.
        """
        record = self.find(job_id)
        if subject not in record.references:
            raise ImageNotFoundError("The job shows no such reference; only subjects that ask for a cut-out have one.")
        return self._artifacts.load_reference(record.folder, record.files_attempt, subject)

    def cancel(self, job_id: str) -> JobRecord:
        """Cancel a queued job now, or ask the worker of a running one to stop.

        Raises:
            JobNotFoundError: there is no such job.
            JobConflictError: the job has ended otherwise.
        """
        self.find(job_id)
        outcome = self._store.request_cancel(job_id)
        record = self.find(job_id)
        if outcome is CancelOutcome.ENDED:
            raise JobConflictError(f"The job has already {record.state}; there is nothing left to cancel.")
        if outcome is CancelOutcome.CANCELED:
            self._drop_from_queue(record.entry)
        return record

    def _enqueue(self, record: JobRecord) -> None:
        try:
            self._queue.enqueue_call(
                GENERATE_JOB,
                args=(record.owner, record.id),
                job_id=record.entry,
                timeout=self._timeout_s,
                result_ttl=0,
                failure_ttl=QUEUE_FAILURE_TTL_S,
            )
        except redis.RedisError as error:
            # What is not accepted is not kept. With Redis still away the sweep finds the job and has it run.
            with suppress(redis.RedisError):
                self._store.erase(record.id, None)
                self._artifacts.remove(record.folder)
            detail = "The queue went away while the job was handed over; send the request again."
            raise QueueUnavailableError(detail) from error

    def _drop_from_queue(self, entry: str) -> None:
        """Take a canceled job out of the line; one that a worker holds already is skipped by the worker."""
        if self._queue.remove(entry):
            self._client.delete(QueueEntry.key_for(entry))
