"""Watches a supervisor's workers through Redis, and records their exits there.

It runs in a separate thread: a Redis that hangs must not stop the supervisor.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass

from redis import Redis
from redis.exceptions import RedisError

from ms_jobs.connection import ReasonLog, is_transient
from ms_jobs.outcomes import Requeue
from ms_jobs.probe import WriteProbe
from ms_jobs.records import JobError, WorkerRecord, WorkerState
from ms_jobs.registry import Registry
from worker.recovery import Recovery

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
# A longer pause between two looks means that this process or its host was suspended.
LONGEST_PAUSE_S = 3.0


@dataclass(frozen=True, slots=True)
class WorkerExit:
    """The end of a worker process, as its parent saw it.

    Attributes:
        worker: its last known record.
        cause: one sentence for people; ``None`` if it was told to stop.
        reason: with which a job that it left is requeued.
    """

    worker: WorkerRecord
    cause: str | None
    reason: Requeue = Requeue.ABANDONED


class WorkerWatch:
    """Reads the heartbeats of one supervisor's workers, and handles their exits: ``start`` and ``stop``."""

    def __init__(  # noqa: PLR0913 - what it looks at, and for how long
        self,
        client: Redis,
        recovery: Recovery,
        model: str,
        ttl_s: int,
        grace_s: float,
        reasons: ReasonLog | None = None,
    ) -> None:
        """Send nothing to Redis yet.

        Args:
            client: should have a short timeout.
            ttl_s: how long Redis keeps a worker's record after a heartbeat.
            grace_s: how long a worker may stay silent after that.
            reasons: of this process.
        """
        self._client = client
        self._registry = Registry(client)
        self._probe = WriteProbe(client)
        self._recovery = recovery
        self._model = model
        self._ttl_s = ttl_s
        self._grace_s = grace_s
        self._reasons = reasons or ReasonLog()
        self._exits: deque[WorkerExit] = deque()
        self._handled: list[str] = []
        self._heard: dict[str, tuple[WorkerRecord, float]] = {}
        self._watched: frozenset[str] = frozenset()
        self._trusted_from = 0.0
        self._last_look: tuple[float, float] | None = None
        self._silent: frozenset[str] = frozenset()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._look_until_stopped, name="watch", daemon=True)

    def start(self) -> None:
        """Start looking, about once a second."""
        self._thread.start()

    def stop(self, timeout_s: float) -> list[WorkerExit]:
        """Stop looking, wait at most ``timeout_s`` seconds for the thread, and return the exits not handled yet."""
        self._stopped = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return list(self._exits)

    def watch(self, names: frozenset[str]) -> None:
        """Set the workers to watch."""
        with self._lock:
            self._watched = names
            self._silent &= names

    @property
    def silent(self) -> frozenset[str]:
        """The workers whose heartbeats have stopped."""
        return self._silent

    def last_record(self, name: str) -> WorkerRecord | None:
        """Get a worker's last record; ``None`` if it never had one."""
        heard = self._heard.get(name)
        return None if heard is None else heard[0]

    def record_exit(self, worker_exit: WorkerExit) -> None:
        """Record a worker's exit, to be handled now, or when Redis answers again."""
        self._exits.append(worker_exit)
        self._wake.set()

    def start_over(self) -> None:
        """Discard earlier observations: workers get time for a heartbeat before they count as silent."""
        with self._lock:
            self._start_over()

    def _start_over(self) -> None:
        self._trusted_from = time.monotonic() + self._ttl_s
        self._silent = frozenset()

    def _look_until_stopped(self) -> None:
        while not self._stopped:
            self._wake.clear()
            try:
                self.look()
            except RedisError as error:
                self._reasons.tell(error)
                self.start_over()
            except Exception:  # the thread's boundary: one bug must not end the watch
                log.exception("the watch over the workers failed once and goes on")
            self._wake.wait(LOOK_EVERY_S)

    def look(self) -> None:
        """Handle exits, and read heartbeats."""
        while self._exits:
            self._handle_first()
        began = self._note_look()
        records = {record.name: record for record in self._registry.workers(self._model)}
        with self._lock:
            now = time.monotonic()
            if now - began > LONGEST_PAUSE_S:
                # The records read are outdated by now.
                self._start_over()
                return
            heard = {name: (records[name], now) for name in self._watched & records.keys()}
            self._heard = {name: word for name, word in (self._heard | heard).items() if name in self._watched}
            silent = frozenset(name for name in self._heard if self._is_silent(name, now))
        if silent - self._silent:
            # Raises if Redis refuses to write: then heartbeats cannot arrive.
            self._probe.is_suspended()
        with self._lock:
            if now >= self._trusted_from:
                self._silent = silent & self._watched
        if any(record.state.serves for record, _ in heard.values()):
            self._retire_handled(set(records))

    def _handle_first(self) -> None:
        worker_exit = self._exits.popleft()
        try:
            handle_exit(worker_exit, self._registry, self._recovery, self._ttl_s)
        except RedisError as error:
            if is_transient(error):
                self._exits.appendleft(worker_exit)
                raise
            # The housekeeper finds what the worker left.
            log.warning("the exit of worker %s could not be recorded: %s", worker_exit.worker.name, error)
        self._handled.append(worker_exit.worker.name)

    def _note_look(self) -> float:
        """Get the time; starts over if the last look is too long ago, by the clock of this host or of Redis."""
        seconds, microseconds = self._client.time()
        now, redis_now = time.monotonic(), seconds + microseconds / 1e6
        if self._last_look is not None:
            paused = max(now - self._last_look[0], redis_now - self._last_look[1])
            if paused > LOOK_EVERY_S + LONGEST_PAUSE_S:
                log.warning("suspended for %.0f s; the workers get time for new heartbeats", paused)
                self.start_over()
        self._last_look = now, redis_now
        return now

    def _is_silent(self, name: str, now: float) -> bool:
        record, heard_at = self._heard[name]
        # While it loads, a library may hold the GIL for long; then only the phase clock counts.
        is_loading = record.state is WorkerState.STARTING
        return not is_loading and now - max(heard_at, self._trusted_from) > self._grace_s

    def _retire_handled(self, known: set[str]) -> None:
        """Remove dead workers' records once a replacement is serving."""
        for name in self._handled:
            if name in known:
                self._registry.retire_worker(name, self._model)
        self._handled.clear()


def handle_exit(worker_exit: WorkerExit, registry: Registry, recovery: Recovery, ttl_s: int) -> None:
    """Publish that a worker is defunct, and requeue the job it left.

    Raises:
        redis.exceptions.RedisError: Redis cannot be reached; the call can be repeated.
    """
    worker = worker_exit.worker
    if worker_exit.cause is None:
        registry.retire_worker(worker.name, worker.model)
    else:
        error = JobError(code="worker_ended", detail=worker_exit.cause)
        defunct = worker.model_copy(update={"state": WorkerState.DEFUNCT, "error": error})
        registry.publish_worker(defunct, ttl_s)
    recovery.abandon_jobs_of(worker.name, worker_exit.reason)
