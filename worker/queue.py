"""The RQ side of a job: its entry in the queue, which carries nothing but the job's id."""

from __future__ import annotations

from redis import Redis
from rq import Queue

from worker.contract import GENERATE_JOB, queue_name


class JobQueue:
    """The queue of one model."""

    def __init__(self, client: Redis, model: str) -> None:
        self._queue = Queue(queue_name(model), connection=client, serializer="json")

    def put_first(self, job_id: str) -> None:
        """Put a job at the head of the queue; a second entry of the same job does no harm."""
        # RQ's own result and failure records are not used: the job's record tells the truth.
        self._queue.enqueue_call(
            GENERATE_JOB, args=(job_id,), job_id=job_id, at_front=True, result_ttl=0, failure_ttl=60
        )

    def job_ids(self) -> set[str]:
        """Ids of all jobs that wait."""
        return set(self._queue.job_ids)
