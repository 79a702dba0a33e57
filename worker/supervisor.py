"""One supervisor per host: a fresh interpreter for each device, started again when it ends or hangs.

The public face of this room for commands. It also looks after abandoned jobs, see ``worker.recovery``.
"""

from __future__ import annotations

import logging
import secrets
import socket
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from redis.exceptions import RedisError

from ms_core.errors import StartupError
from worker.artifacts import ArtifactStore
from worker.config import SETUP_FAILED_EXIT_CODE, WorkerSettings
from worker.connection import brisk_client, check_redis
from worker.contract import JobStore, Registry
from worker.devices import Device, find_devices, lock_devices
from worker.housekeeper import Housekeeper
from worker.models import FoundModel, find_model
from worker.process import Command, ManagedProcess, StopSignal
from worker.queue import JobQueue
from worker.recovery import Recovery, alive_names

log = logging.getLogger(__name__)

TICK_S = 0.2
SWEEP_S = 1.0
FIRST_BEAT_S = 60.0


def supervise(settings: WorkerSettings) -> None:
    """Run the workers of this host until SIGTERM or Ctrl-C; what ``msd worker`` does.

    Raises:
        QueueUnavailableError: Redis does not answer.
        ModelNotFoundError: there is no such model.
        StartupError: the wanted device, or torch itself, is missing, or other workers have the device.
    """
    stop = StopSignal()
    check_redis(settings.redis_url)
    supervisor = Supervisor(settings)
    log.info("model %s on %s", supervisor.model.name, ", ".join(supervisor.devices))
    try:
        while not stop.received:
            supervisor.tick()
            time.sleep(TICK_S)
    finally:
        supervisor.stop()


@dataclass(slots=True)
class _Slot:
    """One device and the worker process on it."""

    device: Device
    process: ManagedProcess
    worker_name: str = ""
    last_beat: float | None = None


class Supervisor:
    """Keeps one worker running on each device: call ``tick`` often, and ``stop`` in the end."""

    def __init__(self, settings: WorkerSettings, log_dir: Path | None = None) -> None:
        """Find the model and the devices; starts nothing yet.

        Args:
            log_dir: where the workers' output goes; ``None`` shares this process's own.

        Raises:
            ModelNotFoundError: there is no such model.
            StartupError: the wanted device, or torch itself, is missing, or other workers have the device.
        """
        if find_spec("torch") is None:
            raise StartupError("Workers need torch and more: pip install 'ms-diffusion-service[worker]'.")
        self._settings = settings
        self._log_dir = log_dir
        self.model: FoundModel = find_model(settings.model, settings.models_dir)
        client = brisk_client(settings.redis_url)
        self._registry = Registry(client)
        jobs = JobStore(client, lifetime_s=settings.lifetime_s)
        artifacts = ArtifactStore(settings.data_dir)
        queue = JobQueue(client, self.model.name)
        self._recovery = Recovery(jobs, queue, artifacts, self.model.name, settings.recovery_grace_s)
        self._housekeeper = Housekeeper(client, artifacts, self.model.name, settings)
        devices = find_devices("cpu" if settings.memory_mode == "cpu" else settings.device)
        self._slots = [self._slot(device) for device in devices]
        self._next_sweep = 0.0
        self._blind_until = 0.0
        self._locks = lock_devices(devices)

    @property
    def devices(self) -> list[str]:
        """Short names of the devices."""
        return [slot.device.label for slot in self._slots]

    @property
    def worker_pids(self) -> list[int]:
        """Process ids of the workers that run."""
        return [slot.process.pid for slot in self._slots if slot.process.pid is not None]

    def tick(self) -> None:
        """Start what is due, and once a second look for hung workers."""
        self._housekeeper.start()
        for slot in self._slots:
            code = slot.process.tick()
            if code == SETUP_FAILED_EXIT_CODE:
                self._note_failed_setup(slot)
            elif code is not None:
                self._retire(slot)
        if time.monotonic() >= self._next_sweep:
            self._next_sweep = time.monotonic() + SWEEP_S
            self._look_after()

    def stop(self) -> None:
        """End all workers; each hands its job back to the queue if it can within the grace time."""
        self._housekeeper.stop()
        for slot in self._slots:
            slot.process.terminate()
        deadline = time.monotonic() + self._settings.stop_grace_s
        for slot in self._slots:
            slot.process.stop(deadline - time.monotonic())
            self._retire(slot)
        for lock in self._locks:
            lock.release()

    def _look_after(self) -> None:
        now = time.monotonic()
        try:
            alive = alive_names(self._registry, self.model.name)
            if now >= self._blind_until:
                self._kill_hung(alive)
        except RedisError as error:
            if now >= self._blind_until:
                log.warning("Redis does not answer: %s", error)
            # Every worker gets the time to be heard again before it is taken for dead.
            self._blind_until = now + self._settings.heartbeat_ttl_s

    def _kill_hung(self, alive: set[str]) -> None:
        """Kill the workers that beat no more; a new one, which must load Python first, has longer."""
        now = time.monotonic()
        for slot in self._slots:
            if slot.process.pid is None:
                continue
            if slot.worker_name in alive:
                slot.last_beat = now
            elif slot.last_beat is None:
                self._kill_if(slot, slot.process.age_s > FIRST_BEAT_S)
            else:
                self._kill_if(slot, now - slot.last_beat > self._settings.recovery_grace_s)

    def _kill_if(self, slot: _Slot, is_silent: bool) -> None:
        if is_silent:
            log.error("worker %s gives no sign of life and is killed", slot.worker_name)
            slot.process.kill()

    def _note_failed_setup(self, slot: _Slot) -> None:
        """Tell why a worker could not set up; it has left word, which expires by itself."""
        try:
            records = self._registry.workers(self.model.name)
        except RedisError:
            return
        for record in records:
            if record.name == slot.worker_name and record.error is not None:
                log.error("the worker on %s cannot start: %s", slot.device.label, record.error.detail)

    def _retire(self, slot: _Slot) -> None:
        try:
            self._registry.retire_worker(slot.worker_name, self.model.name)
        except RedisError as error:
            log.warning("worker %s could not be signed off: %s", slot.worker_name, error)

    def _slot(self, device: Device) -> _Slot:
        slot = _Slot(device, ManagedProcess(lambda: self._command(slot)))
        return slot

    def _command(self, slot: _Slot) -> Command:
        slot.worker_name = f"{socket.gethostname()}-{slot.device.label}-{secrets.token_hex(4)}"
        slot.last_beat = None
        env = {
            **self._settings.to_environment(),
            **slot.device.environment(),
            "MSD_DATA_DIR": str(self._settings.data_dir.resolve()),
            "MSD_MODEL": str(self.model.directory),
            "MSD_WORKER_NAME": slot.worker_name,
        }
        log_file = None if self._log_dir is None else self._log_dir / f"worker-{slot.device.label}.log"
        return Command(f"worker {slot.worker_name}", [sys.executable, "-m", "worker.main"], env, log_file)
