"""The RQ queue of a model; an entry holds only a job's owner and id."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

from redis import Redis
from redis.client import Pipeline
from rq import Queue

from ms_jobs import keys
from ms_jobs.keys import JobKey
from ms_jobs.records import CUTOUT_JOB, GENERATE_JOB, JobRecord, as_text

FAILURE_TTL_S = 60
CUTOUT_TTL_S = 600
# Requeued jobs go to the head of the queue, so the oldest is among the first, not always the first.
OLDEST_AMONG = 16
# One step: a process that died between two would leave the entry's hash behind forever.
_DROP = "if redis.call('LREM', KEYS[1], 1, ARGV[1]) > 0 then redis.call('DEL', KEYS[2]) end"


class Line(NamedTuple):
    """The jobs that no worker has taken.

    Attributes:
        depth: how many.
        oldest_s: seconds that the one queued first has waited; ``None`` if none waits, or it cannot be read.
    """

    depth: int
    oldest_s: float | None


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

    def put_cutout(self, owner: str, asset_id: str) -> None:
        """Ask for the cut-out of an asset, before all jobs: somebody looks on, and it takes a moment. Asking again does nothing.

        The entry goes if it is not taken within ``CUTOUT_TTL_S``; who still wants the cut-out asks again.
        """
        entry = cutout_entry(owner, self._model, asset_id)
        if not self._client.exists(keys.rq_job(entry)):
            self._queue.enqueue_call(
                CUTOUT_JOB,
                args=(owner, asset_id),
                job_id=entry,
                ttl=CUTOUT_TTL_S,
                result_ttl=0,
                failure_ttl=FAILURE_TTL_S,
                at_front=True,
            )

    @property
    def model(self) -> str:
        """Name of the model."""
        return self._model

    def line(self) -> Line:
        """How many jobs wait, and for how long."""
        queue = keys.queue(self._model)
        with self._client.pipeline(transaction=False) as pipeline:
            pipeline.time()
            pipeline.llen(queue)
            pipeline.lrange(queue, 0, OLDEST_AMONG - 1)
            (seconds, micros), depth, first = pipeline.execute()
        # Cut-outs are put first and are no jobs.
        jobs = [entry for entry in map(as_text, first) if not is_cutout_entry(entry)]
        with self._client.pipeline(transaction=False) as pipeline:
            for entry in jobs:
                pipeline.hget(keys.job(JobKey.of_entry(entry)), "queued_at")
            since = list(_numbers(pipeline.execute(raise_on_error=False)))
        return Line(depth - (len(first) - len(jobs)), max(0.0, seconds + micros / 1e6 - min(since)) if since else None)

    def waiting(self) -> set[JobKey]:
        """List all jobs with an entry."""
        entries = map(as_text, self._client.lrange(keys.queue(self._model), 0, -1))
        return {JobKey.of_entry(entry) for entry in entries if not is_cutout_entry(entry)}

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


def cutout_entry(owner: str, model: str, asset_id: str) -> str:
    """Make RQ's id of the entry that asks for a cut-out; it is too long to be that of a job."""
    return f"{owner}_cutout-{hashlib.sha256(f'{model} {asset_id}'.encode()).hexdigest()}_0"


def is_cutout_entry(entry: str) -> bool:
    """Whether ``cutout_entry`` made this id."""
    return re.fullmatch(r"[a-z0-9-]+_cutout-[0-9a-f]{64}_0", entry) is not None


def _numbers(answers: Iterable[object]) -> Iterator[float]:
    """The numbers among the answers of Redis; a damaged record costs its own only."""
    for answer in answers:
        with suppress(ValueError):
            if isinstance(answer, bytes):
                yield float(answer)
