"""Entry point of a worker process: one device, one warm pipeline. The supervisor sets the device in its environment."""

from __future__ import annotations

import logging
import os
import socket
import time
from importlib import import_module
from pathlib import Path

import structlog.contextvars
from redis import Redis

from ms_core.config import ModelCard
from ms_core.errors import MSDiffusionError, StartupError
from ms_jobs.artifacts import ArtifactStore
from ms_jobs.connection import blocking_client, quick_client, redis_client
from ms_jobs.job_store import JobStore
from ms_jobs.measures import Measures
from ms_jobs.pace import Pace
from ms_jobs.queue import JobQueue
from ms_jobs.records import JobError, WorkerRecord, WorkerState
from ms_jobs.registry import Registry
from worker import jobs
from worker.config import DEVICE_LOST_EXIT_CODE, SETUP_FAILED_EXIT_CODE, WorkerSettings
from worker.heartbeat import Heartbeat
from worker.job_run import LoadedRuntime, WorkerContext
from worker.last_call import LastCall
from worker.logs import adopt_libraries, set_up_logs
from worker.phase_clock import PhaseClock
from worker.rq_worker import DeviceWorker
from worker.telemetry import Telemetry, UsageProbe

log = logging.getLogger(__name__)

CARD_EVERY_S = 30.0


class Announcer:
    """Publishes heartbeats and, once the model is loaded, its card every ``CARD_EVERY_S`` seconds."""

    def __init__(self, registry: Registry, ttl_s: int, probe: UsageProbe) -> None:
        self._registry = registry
        self._ttl_s = ttl_s
        self._probe = probe
        self._next_card = 0.0
        self.card: ModelCard | None = None
        self.context: WorkerContext | None = None

    def __call__(self, record: WorkerRecord) -> None:
        """Publish one heartbeat; the card first, so that a worker seen ready has one."""
        if self.card is not None and time.monotonic() >= self._next_card:
            self._registry.publish_card(record.model, self.card)
            self._next_card = time.monotonic() + CARD_EVERY_S
        jobs_done = 0 if self.context is None else self.context.jobs_done
        more = {"usage": self._probe.latest, "jobs_done": jobs_done}
        self._registry.publish_worker(record.model_copy(update=more), self._ttl_s)


def main() -> int:
    """Load the model and run jobs until told to stop; returns the exit code."""
    set_up_logs()
    settings = WorkerSettings()
    record = _record(settings)
    structlog.contextvars.bind_contextvars(worker=record.name)
    probe = UsageProbe(os.environ.get("CUDA_VISIBLE_DEVICES") or None)
    probe.start()
    announcer = Announcer(Registry(redis_client(settings.redis_url)), settings.heartbeat_ttl_s, probe)
    clock = None if settings.phase_clock_fd is None else PhaseClock(settings.phase_clock_fd)
    heartbeat = Heartbeat(record, announcer, settings.budget, settings.heartbeat_s, clock)
    heartbeat.start()
    blocking = blocking_client(settings.redis_url)
    try:
        context, announcer.card = _set_up(settings, record, heartbeat, blocking)
        announcer.context = context
    except MSDiffusionError as error:
        log.error("cannot set up: %s", error.detail)
        heartbeat.fail(JobError(code=error.code, detail=error.detail))
        return SETUP_FAILED_EXIT_CODE
    jobs.bind(context)
    heartbeat.enter("idle", WorkerState.IDLE)
    last_call = LastCall(settings.drain_s, lambda: heartbeat.is_idle)
    try:
        DeviceWorker(context, blocking, record.model, last_call.begin, settings.max_running).work()
    finally:
        heartbeat.stop()
    if context.device_lost:
        return DEVICE_LOST_EXIT_CODE
    # 0 tells the supervisor that the worker was told to stop, so its job costs no attempt.
    return 0 if context.stopping else 1


def find_runtime(name: str) -> type[LoadedRuntime]:
    """Import the class that ``module:Class`` names; in production ``worker.runtime.PipelineRuntime``.

    Raises:
        StartupError: there is no such module or class.
    """
    module, _, class_name = name.partition(":")
    try:
        return getattr(import_module(module), class_name)
    except (ModuleNotFoundError, AttributeError) as error:
        raise StartupError(f"MSD_RUNTIME names {name}, which cannot be found ({error}). Unset it.") from error


def _set_up(
    settings: WorkerSettings, record: WorkerRecord, heartbeat: Heartbeat, blocking: Redis
) -> tuple[WorkerContext, ModelCard]:
    """Load the model; all steps before this are fast, so that the worker is visible from the start."""
    heartbeat.enter("load", WorkerState.STARTING)
    begun = time.monotonic()
    # Imports torch, which takes seconds.
    runtime = find_runtime(settings.runtime).setup(settings, Path(settings.model), record.device)
    adopt_libraries()
    heartbeat.describe(memory_mode=runtime.memory_mode)
    client = redis_client(settings.redis_url)
    telemetry = Telemetry(Measures(client, record.model), Pace(client, record.model))
    load_s = time.monotonic() - begun
    telemetry.keep_load(load_s)
    log.info("model loaded", extra={"seconds": round(load_s, 3), "device": record.device})
    context = WorkerContext(
        name=record.name,
        job_timeout_s=settings.job_timeout_s,
        jobs=JobStore(quick_client(settings.redis_url), lifetime_s=settings.lifetime_s),
        blocking_jobs=JobStore(blocking, lifetime_s=settings.lifetime_s),
        queue=JobQueue(blocking, record.model),
        artifacts=ArtifactStore(settings.data_dir),
        heartbeat=heartbeat,
        runtime=runtime,
        asset_lifetime_s=settings.asset_lifetime_s,
        telemetry=telemetry,
    )
    return context, runtime.card


def _record(settings: WorkerSettings) -> WorkerRecord:
    uuid = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return WorkerRecord(
        name=settings.worker_name,
        model=Path(settings.model).name,
        state=WorkerState.STARTING,
        device="cpu" if settings.device == "cpu" else f"cuda {uuid}",
        host=socket.gethostname(),
        pid=os.getpid(),
        started_at=time.time(),
    )


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    # A broken CUDA context can hang the interpreter's exit; all results are stored by now.
    os._exit(code)
