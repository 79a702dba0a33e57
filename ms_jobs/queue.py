"""The RQ queue of a model; an entry holds only a job's owner and id."""

from __future__ import annotations

from typing import Any

from redis import Redis
from redis.client import Pipeline
from rq import Queue

from ms_jobs import keys
from ms_jobs.keys import JobKey
from ms_jobs.records import GENERATE_JOB, JobRecord, as_text

FAILURE_TTL_S = 60
# One step: a process that died between two would leave the entry's hash behind forever.
_DROP = "if redis.call('LREM', KEYS[1], 1, ARGV[1]) > 0 then redis.call('DEL', KEYS[2]) end"


class JobQueue:
    """The queue of one model.

    Errors of the client, such as ``redis.exceptions.ConnectionError``, pass through unchanged.
    """

    def __init__(self, client: Redis, model: str, timeout_s: int | None = None) -> None:
        """Send nothing to Redis yet.

        Args:
            timeout_s: the time limit that RQ writes into new entries, in seconds; by default RQ's. Workers use their own.
        """
        self._client = client
        self._model = model
        self._timeout_s = timeout_s
        self._queue = Queue(keys.queue_name(model), connection=client, serializer="json")

    def entry(self, record: JobRecord) -> list[tuple[Any, ...]]:
        """Make the Redis commands that append a job to the queue."""
        # The pipeline only collects the commands; nothing is sent.
        with self._client.pipeline() as pipeline:
            self._enqueue(record, at_front=False, pipeline=pipeline)
            return [arguments for arguments, _ in pipeline.command_stack]

    def put_first(self, record: JobRecord) -> None:
        """Put a job at the head of the queue; a second entry for the same attempt does no harm."""
        self._enqueue(record, at_front=True)

    def drop(self, entry: str) -> None:
        """Remove an entry from the queue; if a worker has taken it already, the worker skips it."""
        self._client.eval(_DROP, 2, keys.queue(self._model), keys.rq_job(entry), entry)

    def waiting(self) -> set[JobKey]:
        """List all jobs with an entry."""
        entries = self._client.lrange(keys.queue(self._model), 0, -1)
        return {JobKey.of_entry(as_text(entry)) for entry in entries}

    def _enqueue(self, record: JobRecord, at_front: bool, pipeline: Pipeline | None = None) -> None:
        # RQ's own result and failure records are not used; the job's record counts.
        self._queue.enqueue_call(
            GENERATE_JOB,
            args=(record.owner, record.id),
            job_id=record.entry,
            timeout=self._timeout_s,
            result_ttl=0,
            failure_ttl=FAILURE_TTL_S,
            at_front=at_front,
            pipeline=pipeline,
        )
