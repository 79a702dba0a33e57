"""The RQ side of a job: its entry in the queue, which carries nothing but the job's owner and id."""

from __future__ import annotations

from redis import Redis
from rq import Queue

from ms_jobs import keys
from ms_jobs.keys import JobKey
from ms_jobs.records import GENERATE_JOB, JobRecord

FAILURE_TTL_S = 60
# One step, for what dies between two would leave the entry's hash behind for ever.
_DROP = "if redis.call('LREM', KEYS[1], 1, ARGV[1]) > 0 then redis.call('DEL', KEYS[2]) end"


class JobQueue:
    """The queue of one model."""

    def __init__(self, client: Redis, model: str) -> None:
        self._queue = Queue(keys.queue_name(model), connection=client, serializer="json")

    def put_first(self, record: JobRecord) -> None:
        """Put a job at the head of the queue; a second entry of the same attempt does no harm."""
        # RQ's own result and failure records are not used: the job's record tells the truth.
        self._queue.enqueue_call(
            GENERATE_JOB,
            args=(record.owner, record.id),
            job_id=record.entry,
            at_front=True,
            result_ttl=0,
            failure_ttl=FAILURE_TTL_S,
        )

    def drop(self, entry: str) -> None:
        """Take an entry out of the queue; one that a worker holds already is skipped by the worker."""
        self._queue.connection.eval(_DROP, 2, self._queue.key, keys.rq_job(entry), entry)

    def waiting(self) -> set[JobKey]:
        """All jobs that have an entry."""
        return {JobKey.of_entry(entry) for entry in self._queue.job_ids}
