"""What a supervisor hears and tells of its workers by way of Redis.

All of it happens in a thread of its own: a Redis that hangs must not hang who watches over processes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass

from redis import Redis
from redis.exceptions import RedisError

from ms_jobs.outcomes import Requeue
from ms_jobs.records import JobError, WorkerRecord, WorkerState
from ms_jobs.registry import Registry
from worker.recovery import Recovery

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
# A longer pause between two looks was none of ours: this process, or its whole host, stood still.
LONGEST_PAUSE_S = 3.0


@dataclass(frozen=True, slots=True)
class WorkerExit:
    """The end of a worker process, as its parent saw it.

    Attributes:
        worker: its record, as far as it is known.
        cause: one sentence for people; ``None`` if it was told to end.
        reason: what that means for the job it left, if it left one.
    """

    worker: WorkerRecord
    cause: str | None
    reason: Requeue = Requeue.ABANDONED


class WorkerWatch:
    """Hears the workers of one supervisor, and settles what those leave behind that died: ``start`` and ``stop``."""

    def __init__(self, client: Redis, recovery: Recovery, model: str, ttl_s: int, grace_s: float) -> None:
        """Nothing is asked of Redis yet.

        Args:
            client: should give up soon when Redis does not answer.
            ttl_s: time after its last beat at which a worker is forgotten by Redis.
            grace_s: how long it may then still keep silent.
        """
        self._client = client
        self._registry = Registry(client)
        self._recovery = recovery
        self._model = model
        self._ttl_s = ttl_s
        self._grace_s = grace_s
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
        """Begin to look, about once a second."""
        self._thread.start()

    def stop(self, patience_s: float) -> list[WorkerExit]:
        """Look no more; returns the exits that are not settled. Waits for at most ``patience_s`` seconds."""
        self._stopped = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(patience_s)
        return list(self._exits)

    def watch(self, names: frozenset[str]) -> None:
        """Which workers are to be heard."""
        with self._lock:
            self._watched = names
            self._silent &= names

    @property
    def silent(self) -> frozenset[str]:
        """The workers that were heard, and are not heard any more."""
        return self._silent

    def last_record(self, name: str) -> WorkerRecord | None:
        """What a worker said last of itself."""
        heard = self._heard.get(name)
        return None if heard is None else heard[0]

    def record_exit(self, worker_exit: WorkerExit) -> None:
        """Settle what a dead worker leaves behind: now, or when Redis answers again."""
        self._exits.append(worker_exit)
        self._wake.set()

    def start_over(self) -> None:
        """Trust no earlier look: every worker gets the time to be heard again before it is taken for dead."""
        with self._lock:
            self._start_over()

    def _start_over(self) -> None:
        self._trusted_from = time.monotonic() + self._ttl_s
        self._silent = frozenset()

    def _look_until_stopped(self) -> None:
        is_away = False
        while not self._stopped:
            self._wake.clear()
            try:
                self.look()
                is_away = False
            except RedisError as error:
                if not is_away:
                    log.warning("Redis does not answer: %s", error)
                is_away = True
                self.start_over()
            except Exception:  # the thread's boundary: one mistake must not end the watch for good
                log.exception("the watch over the workers stumbled and goes on")
            self._wake.wait(LOOK_EVERY_S)

    def look(self) -> None:
        """Settle exits, and hear who lives."""
        while self._exits:
            self._handle_first()
        began = self._note_look()
        records = {record.name: record for record in self._registry.workers(self._model)}
        with self._lock:
            now = time.monotonic()
            if now - began > LONGEST_PAUSE_S:
                # What was read is old by now.
                self._start_over()
                return
            heard = {name: (records[name], now) for name in self._watched & records.keys()}
            self._heard = {name: word for name, word in (self._heard | heard).items() if name in self._watched}
            if now >= self._trusted_from:
                self._silent = frozenset(name for name in self._heard if self._is_silent(name, now))
        if any(record.state.serves for record, _ in heard.values()):
            self._retire_handled(set(records))

    def _handle_first(self) -> None:
        worker_exit = self._exits.popleft()
        try:
            handle_exit(worker_exit, self._registry, self._recovery, self._ttl_s)
        except RedisError:
            self._exits.appendleft(worker_exit)
            raise
        self._handled.append(worker_exit.worker.name)

    def _note_look(self) -> float:
        """The time now; starts over if the last look is too long ago, by this host's clock or by that of Redis."""
        seconds, microseconds = self._client.time()
        now, redis_now = time.monotonic(), seconds + microseconds / 1e6
        if self._last_look is not None:
            paused = max(now - self._last_look[0], redis_now - self._last_look[1])
            if paused > LOOK_EVERY_S + LONGEST_PAUSE_S:
                log.warning("stood still for %.0f s; the workers get time to be heard again", paused)
                self.start_over()
        self._last_look = now, redis_now
        return now

    def _is_silent(self, name: str, now: float) -> bool:
        record, heard_at = self._heard[name]
        # While it loads, a library may hold Python's lock for long; then only the phase clock counts.
        is_loading = record.state is WorkerState.STARTING
        return not is_loading and now - max(heard_at, self._trusted_from) > self._grace_s

    def _retire_handled(self, known: set[str]) -> None:
        """Their successors serve: nobody needs to be told of them any more."""
        for name in self._handled:
            if name in known:
                self._registry.retire_worker(name, self._model)
        self._handled.clear()


def handle_exit(worker_exit: WorkerExit, registry: Registry, recovery: Recovery, ttl_s: int) -> None:
    """Say of a dead worker that it is defunct, and see to the job it left.

    Raises:
        redis.exceptions.RedisError: Redis cannot be reached; it may be done again.
    """
    worker = worker_exit.worker
    if worker_exit.cause is None:
        registry.retire_worker(worker.name, worker.model)
    else:
        error = JobError(code="worker_ended", detail=worker_exit.cause)
        defunct = worker.model_copy(update={"state": WorkerState.DEFUNCT, "error": error})
        registry.publish_worker(defunct, ttl_s)
    recovery.abandon_jobs_of(worker.name, worker_exit.reason)
