"""Supervises a host's workers: a fresh interpreter for each device, restarted when it ends or hangs.

Commands use this module. It also runs the housekeeper, see ``worker.housekeeper``.
"""

from __future__ import annotations

import logging
import secrets
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from ms_core.errors import StartupError
from ms_jobs.artifacts import ArtifactStore
from ms_jobs.connection import ReasonLog, check_redis, quick_client, redis_client
from ms_jobs.job_store import JobStore
from ms_jobs.outcomes import Requeue
from ms_jobs.queue import JobQueue
from ms_jobs.records import WorkerRecord, WorkerState
from ms_jobs.redis_checks import redis_warnings, require_address
from ms_jobs.registry import Registry
from worker.config import DEVICE_LOST_EXIT_CODE, SETUP_FAILED_EXIT_CODE, STOPPED_LATE_EXIT_CODE, WorkerSettings
from worker.devices import Device, find_devices, lock_devices
from worker.housekeeper import Housekeeper
from worker.models import FoundModel, find_model
from worker.phase_clock import PhaseClock
from worker.process import Command, ManagedProcess, StopSignal
from worker.recovery import Recovery
from worker.watch import WorkerExit, WorkerWatch, handle_exit

log = logging.getLogger(__name__)

TICK_S = 0.2
# A longer pause between two ticks means that this process or its host was suspended.
LONGEST_PAUSE_S = 2.0
START_BUDGET_S = 60.0


def supervise(settings: WorkerSettings) -> None:
    """Run the workers of this host until SIGTERM or Ctrl-C, as ``msd worker`` does.

    Raises:
        QueueUnavailableError: Redis does not answer.
        ModelNotFoundError: there is no such model.
        StartupError: the device or torch is missing, or other workers have the device.
    """
    stop = StopSignal()
    require_address(settings.redis_url)
    check_redis(settings.redis_url)
    warn_of_redis(settings.redis_url)
    supervisor = Supervisor(settings)
    log.info("model %s on %s", supervisor.model.name, ", ".join(supervisor.devices))
    try:
        while not stop.received:
            supervisor.tick()
            time.sleep(TICK_S)
    finally:
        supervisor.stop()


def warn_of_redis(url: str) -> None:
    """Log why this Redis may lose jobs."""
    client = quick_client(url)
    for sentence in redis_warnings(client):
        log.warning(sentence)
    client.close()


@dataclass(slots=True)
class _Slot:
    """One device and the worker process on it.

    Attributes:
        clock: of the worker's phases.
        excused_s: how long this process was suspended during the phase that ends at ``excused_end``.
        killed_for: why the worker was killed, for people.
    """

    device: Device
    process: ManagedProcess
    clock: PhaseClock
    worker_name: str = ""
    excused_s: float = 0.0
    excused_end: float | None = None
    killed_for: str | None = None

    def excuse(self, pause_s: float) -> None:
        """Do not count a pause of this process as time of the worker's phase."""
        ends_at = self.clock.ends_at
        self.excused_s = pause_s + (self.excused_s if ends_at == self.excused_end else 0.0)
        self.excused_end = ends_at

    @property
    def is_hung(self) -> bool:
        """Whether the worker's phase has outlasted its budget."""
        ends_at = self.clock.ends_at
        if ends_at is None:
            return False
        return time.monotonic() > ends_at + (self.excused_s if ends_at == self.excused_end else 0.0)


class Supervisor:
    """Keeps one worker running on each device: call ``tick`` often, and ``stop`` at the end.

    ``tick`` checks only processes and never waits; all that needs Redis runs in other threads.
    """

    def __init__(self, settings: WorkerSettings, log_dir: Path | None = None) -> None:
        """Find the model and the devices; start nothing yet.

        Args:
            log_dir: of the workers' output; ``None``: this process's output.

        Raises:
            ModelNotFoundError: there is no such model.
            StartupError: the device or torch is missing, or other workers have the device.
        """
        if find_spec("torch") is None:
            raise StartupError("Workers need torch and more: pip install 'ms-diffusion-service[worker]'.")
        self._settings = settings
        self._log_dir = log_dir
        self.model: FoundModel = find_model(settings.model, settings.models_dir)
        devices = find_devices("cpu" if settings.memory_mode == "cpu" else settings.device)
        self._slots = [self._slot(device) for device in devices]
        self._client = client = redis_client(settings.redis_url)
        self._artifacts = ArtifactStore(settings.data_dir)
        # Both threads find the same out; it is said once.
        reasons = ReasonLog()
        self._watch = WorkerWatch(
            client,
            self._recovery(client),
            self.model.name,
            settings.heartbeat_ttl_s,
            settings.recovery_grace_s,
            reasons,
        )
        self._housekeeper = Housekeeper(client, self._artifacts, self.model.name, settings, reasons)
        self._last_tick: float | None = None
        self._locks = lock_devices(devices)

    @property
    def devices(self) -> list[str]:
        """Short names of the devices."""
        return [slot.device.label for slot in self._slots]

    @property
    def worker_pids(self) -> list[int]:
        """Process ids of the running workers."""
        return [slot.process.pid for slot in self._slots if slot.process.pid is not None]

    def tick(self) -> None:
        """Start workers that are due, and kill those that hang."""
        self._note_tick()
        for slot in self._slots:
            code = slot.process.tick()
            if code is not None:
                self._note_end(slot, code)
            elif slot.process.pid is not None:
                self._look_at(slot)

    def stop(self) -> None:
        """Stop all workers within the grace time; each ends or requeues its job, or the supervisor requeues it."""
        begun = time.monotonic()
        ends_at = begun + self._settings.drain_s
        for slot in self._slots:
            slot.process.terminate()
        # In a thread, since it may wait for Redis.
        ending = threading.Thread(target=self._end_housekeeping, name="end-housekeeping", daemon=True)
        ending.start()
        exits: list[WorkerExit] = []
        for slot in self._slots:
            worker = self._last_record(slot)
            code = slot.process.stop(ends_at - time.monotonic())
            if code is not None:
                reason = Requeue.ABANDONED if code == DEVICE_LOST_EXIT_CODE else Requeue.WORKER_STOPPING
                exits.append(WorkerExit(worker, None, reason))
            slot.clock.close()
        self._sign_off([*self._watch.stop(timeout_s=0.1), *exits])
        for lock in self._locks:
            lock.release()
        ending.join(max(0.0, begun + self._settings.stop_grace_s - time.monotonic()))

    def _end_housekeeping(self) -> None:
        self._housekeeper.stop()
        self._client.close()

    def _note_tick(self) -> None:
        now = time.monotonic()
        if self._last_tick is None:
            self._watch.start()
            self._housekeeper.start()
        elif now - self._last_tick > LONGEST_PAUSE_S:
            log.warning("this process was suspended for %.1f s", now - self._last_tick)
            self._watch.start_over()
            for slot in self._slots:
                slot.excuse(now - self._last_tick)
        self._last_tick = now

    def _look_at(self, slot: _Slot) -> None:
        """Kill a worker that hangs; note that it works otherwise."""
        if slot.killed_for is not None:
            return
        if slot.is_hung:
            slot.killed_for = f"made no progress in phase {slot.clock.phase} within its time limit"
        elif slot.worker_name in self._watch.silent:
            slot.killed_for = "sent no heartbeat"
        elif slot.clock.has_worked:
            slot.process.note_work()
        if slot.killed_for is not None:
            log.error("worker %s %s and is killed", slot.worker_name, slot.killed_for)
            slot.process.kill()

    def _note_end(self, slot: _Slot, code: int) -> None:
        worker = self._last_record(slot)
        if code == SETUP_FAILED_EXIT_CODE:
            # It has published the reason itself.
            return
        if code in (0, STOPPED_LATE_EXIT_CODE):
            self._watch.record_exit(WorkerExit(worker, None, Requeue.WORKER_STOPPING))
        else:
            cause = f"The worker on {slot.device.label} {slot.killed_for or _describe(code)}; a new one is starting."
            self._watch.record_exit(WorkerExit(worker, cause))

    def _last_record(self, slot: _Slot) -> WorkerRecord:
        """Get the worker's last record, or make one of what is known."""
        return self._watch.last_record(slot.worker_name) or WorkerRecord(
            name=slot.worker_name,
            model=self.model.name,
            state=WorkerState.STARTING,
            phase=slot.clock.phase,
            device=slot.device.label,
            host=socket.gethostname(),
            pid=slot.process.pid or 0,
            started_at=time.time() - slot.process.age_s,
        )

    def _sign_off(self, exits: list[WorkerExit]) -> None:
        """Handle the exits; without Redis, another housekeeper finds the jobs abandoned."""
        client = quick_client(self._settings.redis_url)
        try:
            for worker_exit in exits:
                handle_exit(worker_exit, Registry(client), self._recovery(client), self._settings.heartbeat_ttl_s)
        except RedisError as error:
            log.warning("the exits of the workers could not be recorded: %s", error)
        finally:
            client.close()

    def _recovery(self, client: Redis) -> Recovery:
        settings = self._settings
        jobs = JobStore(client, lifetime_s=settings.lifetime_s)
        queue = JobQueue(client, self.model.name)
        return Recovery(jobs, queue, self._artifacts, self.model.name, settings.recovery_grace_s)

    def _slot(self, device: Device) -> _Slot:
        slot = _Slot(device, ManagedProcess(lambda: self._command(slot)), PhaseClock.create())
        return slot

    def _command(self, slot: _Slot) -> Command:
        slot.worker_name = f"{socket.gethostname()}-{slot.device.label}-{secrets.token_hex(4)}"
        slot.killed_for = None
        slot.clock.close()
        slot.clock = PhaseClock.create()
        slot.clock.enter("start", START_BUDGET_S)
        self._watch.watch(frozenset(slot.worker_name for slot in self._slots))
        env = {
            **self._settings.to_environment(),
            **slot.device.environment(),
            "MSD_DATA_DIR": str(self._settings.data_dir.resolve()),
            "MSD_MODEL": str(self.model.directory),
            "MSD_WORKER_NAME": slot.worker_name,
            "MSD_PHASE_CLOCK_FD": str(slot.clock.descriptor),
        }
        log_file = None if self._log_dir is None else self._log_dir / f"worker-{slot.device.label}.log"
        argv = [sys.executable, "-m", "worker.main"]
        return Command(f"worker {slot.worker_name}", argv, env, log_file, [slot.clock.descriptor])


def _describe(code: int) -> str:
    """Describe how a worker ended, for people."""
    if code == DEVICE_LOST_EXIT_CODE:
        return "lost its device"
    if code < 0:
        return f"was ended by signal {-code} ({signal.Signals(-code).name})"
    return f"exited with code {code}"
