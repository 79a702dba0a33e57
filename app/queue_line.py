"""The line that jobs wait in: RQ's list, of which the API uses nothing else."""

from __future__ import annotations

from functools import cache
from typing import Any

import redis
from rq import Queue

from ms_jobs import keys
from ms_jobs.records import GENERATE_JOB, JobRecord

# RQ's own records of results and failures are not used: the job's record tells the truth.
QUEUE_FAILURE_TTL_S = 60
# One step, for what dies between two would leave the entry's hash behind for ever.
_DROP = "if redis.call('LREM', KEYS[1], 1, ARGV[1]) > 0 then redis.call('DEL', KEYS[2]) end"


class QueueLine:
    """Where jobs wait for a worker of their model.

    Args:
        timeout_s: time after which RQ would give up a running job, in seconds.
    """

    def __init__(self, client: redis.Redis, timeout_s: int) -> None:
        self._client = client
        self._timeout_s = timeout_s
        self._queue = cache(self._open)

    def entry(self, record: JobRecord) -> list[tuple[Any, ...]]:
        """The commands of Redis that put a job at the end of the line."""
        # Nothing is sent: the pipeline only gathers them.
        with self._client.pipeline() as pipeline:
            self._queue(record.model).enqueue_call(
                GENERATE_JOB,
                args=(record.owner, record.id),
                job_id=record.entry,
                timeout=self._timeout_s,
                result_ttl=0,
                failure_ttl=QUEUE_FAILURE_TTL_S,
                pipeline=pipeline,
            )
            return [arguments for arguments, _ in pipeline.command_stack]

    def drop(self, record: JobRecord) -> None:
        """Take a job out of the line; one that a worker holds already is skipped by the worker."""
        self._client.eval(_DROP, 2, keys.queue(record.model), keys.rq_job(record.entry), record.entry)

    def _open(self, model: str) -> Queue:
        return Queue(keys.queue_name(model), connection=self._client, serializer="json")
