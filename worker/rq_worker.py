"""RQ's ``SimpleWorker``, made fit for a warm model: see ``docs/decisions/`` for why each change is there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

from redis import Redis
from redis.client import Pipeline
from rq import Queue, SimpleWorker
from rq.exceptions import StopRequested
from rq.job import Job
from rq.timeouts import BaseDeathPenalty

from ms_core.errors import MSDiffusionError
from ms_jobs.connection import BLOCKING_TIMEOUT_S
from ms_jobs.keys import queue_name
from ms_jobs.records import GENERATE_JOB
from worker.job_run import WorkerContext
from worker.jobs import generate

# RQ waits for a job for this time less 15 s, and then looks whether it is to stop.
WORKER_TTL_S = 16


class FunctionNotAllowedError(MSDiffusionError):
    """A job in the queue names a function that is not ours."""

    code = "function_not_allowed"


class GuardedJob(Job):
    """A job that can call ``worker.jobs.generate`` and nothing else, whatever its hash in Redis says."""

    @property
    def func(self) -> Any:
        """The one allowed function.

        Raises:
            FunctionNotAllowedError: the job names another.
        """
        if self.func_name != GENERATE_JOB or self.instance is not None:
            raise FunctionNotAllowedError(f"Only {GENERATE_JOB} may be enqueued; this job is refused.")
        return generate

    def restore(self, raw_data: Mapping[Any, Any]) -> None:
        """Read the hash, but nothing of it that would import or call something else."""
        super().restore(dict(raw_data))
        self._success_callback_name = self._failure_callback_name = self._stopped_callback_name = None
        self.webhooks = []


class NoDeathPenalty(BaseDeathPenalty):
    """RQ's own alarm is off: its exception is an ``Exception``, and ``worker.deadline`` limits the part that counts."""

    def setup_death_penalty(self) -> None:
        """Arm nothing."""

    def cancel_death_penalty(self) -> None:
        """There is nothing to take back."""


class DeviceWorker(SimpleWorker):
    """Takes jobs from the one queue of one model and runs them in this very process.

    One queue only: with two, RQ leaves the reliable move, and a job in flight would live in memory alone.
    """

    job_class = GuardedJob
    death_penalty_class = NoDeathPenalty

    def __init__(self, context: WorkerContext, client: Redis, model: str, on_stop: Callable[[], None]) -> None:
        """Nothing is asked of Redis yet.

        Args:
            client: should wait for Redis for as long as it takes: RQ ends a worker whose Redis is away.
            on_stop: is called, from a signal handler, at the first SIGTERM or SIGINT.
        """
        queue = Queue(queue_name(model), connection=client, serializer="json", job_class=GuardedJob)
        super().__init__(
            [queue],
            name=context.name,
            connection=client,
            serializer="json",
            worker_ttl=WORKER_TTL_S,
            default_result_ttl=0,
            log_job_description=False,
        )
        self._context = context
        self._on_stop = on_stop

    @property
    def connection_timeout(self) -> int:
        """How long, in seconds, an answer of Redis is waited for."""
        return int(BLOCKING_TIMEOUT_S)

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Run the job; end the process if the device cannot be used any more."""
        super().execute_job(job, queue)
        if self._context.device_lost:
            raise StopRequested

    def heartbeat(self, timeout: int | None = None, pipeline: Pipeline | None = None) -> None:
        """As RQ's own, with one question to Redis in place of three: it comes between a job's end and the next start."""
        if pipeline is not None:
            super().heartbeat(timeout, pipeline)
            return
        with self.connection.pipeline(transaction=False) as own:
            super().heartbeat(timeout, own)
            own.execute()

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[Job, Queue] | None:
        """Wait for a job; ends the worker, between two looks and never in one, when it was told to end."""
        if timeout is None:
            return super().dequeue_job_and_maintain_ttl(timeout, max_idle_time)
        while not self._context.stopping:
            found = super().dequeue_job_and_maintain_ttl(timeout, timeout)
            if found is not None:
                return found
        raise StopRequested

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        """At the first SIGTERM or SIGINT: the job's next step hands it back to the queue. More of them change nothing.

        RQ's own handler asks Redis, perhaps in the midst of another question, and for as long as Redis is away.
        """
        if self._context.stopping:
            return
        self._context.stopping = self._stop_requested = True
        self._on_stop()

    def subscribe(self) -> None:
        """Listen to no RQ commands: cancel is a flag in the job's record, which cannot get lost."""

    def unsubscribe(self) -> None:
        """There is nothing to leave."""
