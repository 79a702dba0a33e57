"""RQ's ``SimpleWorker``, adapted to a warm model; ``docs/decisions/`` explains each change."""

from __future__ import annotations

import time
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
from ms_jobs.at_once import AtOnce, Start
from ms_jobs.connection import BLOCKING_TIMEOUT_S
from ms_jobs.keys import queue_name
from ms_jobs.records import CUTOUT_JOB, GENERATE_JOB
from worker.isolation import Isolation
from worker.job_run import WorkerContext
from worker.jobs import cutout, generate

# RQ waits for a job for this time minus 15 s, then checks whether to stop.
WORKER_TTL_S = 16
SKIP_PAUSE_S = 0.1
ALLOWED: Mapping[str, Callable[[str, str], None]] = {GENERATE_JOB: generate, CUTOUT_JOB: cutout}


class FunctionNotAllowedError(MSDiffusionError):
    """An entry of the queue names another function than ours."""

    code = "function_not_allowed"


class GuardedJob(Job):
    """An entry that can call only the functions of ``worker.jobs``, whatever its hash in Redis says."""

    @property
    def func(self) -> Any:
        """The allowed function.

        Raises:
            FunctionNotAllowedError: the entry names another.
        """
        function = ALLOWED.get(self.func_name or "")
        if function is None or self.instance is not None:
            raise FunctionNotAllowedError(f"Only {' and '.join(ALLOWED)} may be enqueued; this job is refused.")
        return function

    def restore(self, raw_data: Mapping[Any, Any]) -> None:
        """Read the hash without callbacks and webhooks, which would import or call other code."""
        super().restore(dict(raw_data))
        self._success_callback_name = self._failure_callback_name = self._stopped_callback_name = None
        self.webhooks = []


class NoDeathPenalty(BaseDeathPenalty):
    """Switches RQ's alarm off: it raises an ``Exception``, and ``worker.deadline`` limits the part that counts."""

    def setup_death_penalty(self) -> None:
        """Do nothing."""

    def cancel_death_penalty(self) -> None:
        """Do nothing."""


class DeviceWorker(SimpleWorker):
    """Takes jobs from one model's queue and runs them in this process.

    Only one queue: with two, RQ does not use the reliable move, and a job in flight would exist only in memory.
    """

    job_class = GuardedJob
    death_penalty_class = NoDeathPenalty

    def __init__(
        self, context: WorkerContext, client: Redis, model: str, on_stop: Callable[[], None], most_at_once: int = 0
    ) -> None:
        """Send nothing to Redis yet.

        Args:
            client: should wait until Redis answers, since RQ ends a worker without Redis.
            on_stop: called, from a signal handler, at the first SIGTERM or SIGINT.
            most_at_once: jobs of one owner that may run at once, on all workers; 0 is no limit.
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
        self._isolation = Isolation()
        self._on_stop = on_stop
        self._at_once = AtOnce(client, model, most_at_once)

    @property
    def connection_timeout(self) -> int:
        """Socket timeout of Redis, in seconds."""
        return int(BLOCKING_TIMEOUT_S)

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Run the job; end the process if the device is lost."""
        super().execute_job(job, queue)
        self._at_once.has_started(job.id)
        if self._context.device_lost:
            raise StopRequested

    def heartbeat(self, timeout: int | None = None, pipeline: Pipeline | None = None) -> None:
        """Send RQ's heartbeat in one round trip in place of three: it delays the next job."""
        if pipeline is not None:
            super().heartbeat(timeout, pipeline)
            return
        with self.connection.pipeline(transaction=False) as own:
            super().heartbeat(timeout, own)
            own.execute()

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[Job, Queue] | None:
        """Wait for a job; ends the worker, only between two requests, when it was told to stop."""
        if timeout is None:
            return self._dequeue(timeout, max_idle_time)
        while not self._context.stopping:
            found = self._dequeue(timeout, timeout)
            if found is not None:
                return found
        raise StopRequested

    def _dequeue(self, timeout: int | None, max_idle_time: int | None) -> tuple[Job, Queue] | None:
        """Take the next entry that may start; one that cannot be read is left to the housekeeper, and costs no warm worker."""
        while not self._context.stopping:
            with self._isolation.guard("an entry of the queue cannot be read and is skipped"):
                try:
                    found = super().dequeue_job_and_maintain_ttl(timeout, max_idle_time)
                except StopRequested:
                    break
                start = Start.YES if found is None else self._at_once.may_start(found[0].id)
                if start is Start.YES:
                    return found
                if start is Start.ANOTHER_FIRST:
                    continue
            # The next may be no better, or none may start now.
            time.sleep(SKIP_PAUSE_S)
        raise StopRequested

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        """Handle the first SIGTERM or SIGINT: the job's next step requeues it. Further signals do nothing.

        RQ's own handler calls Redis, perhaps in the middle of another command, and blocks while Redis is away.
        """
        if self._context.stopping:
            return
        self._context.stopping = self._stop_requested = True
        self._on_stop()

    def subscribe(self) -> None:
        """Ignore RQ commands: cancel is a flag in the job's record, which cannot get lost."""

    def unsubscribe(self) -> None:
        """Do nothing."""
