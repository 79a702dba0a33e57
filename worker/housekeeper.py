"""Runs the periodic tasks: abandoned jobs, deadlines, expiry, and leftovers of dead processes.

Every supervisor has a housekeeper; a lease in Redis lets one work at a time. The lease only saves work: each change is a
compare-and-set or idempotent, so a holder that lost the lease midway breaks nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from itertools import chain

from redis import Redis
from redis.exceptions import RedisError

from ms_core.errors import UnreadableJobError
from ms_jobs import keys
from ms_jobs.artifacts import ArtifactStore
from ms_jobs.connection import ReasonLog, describe
from ms_jobs.job_store import JobStore
from ms_jobs.keys import JobKey
from ms_jobs.lease import Lease
from ms_jobs.outcomes import Gone
from ms_jobs.queue import JobQueue
from ms_jobs.registry import Registry
from worker.config import WorkerSettings
from worker.isolation import Isolation
from worker.queue_leftovers import QueueLeftovers
from worker.recovery import USELESS, Recovery

log = logging.getLogger(__name__)

TICK_S = 1.0
LEASE_TTL_S = 5.0
# Longest time in one tick for deadlines, and for each kind of leftovers.
DEADLINES_BUDGET_S = 2.0
LEFTOVERS_BUDGET_S = 0.2
QUEUE_LEFTOVERS_EVERY_S = 60.0
QUEUE_LEFTOVERS_AGE_S = 60.0
FILES_EVERY_S = 300.0
FILES_AGE_S = 600.0
PAGE = 100
MEBIBYTE = 1024 * 1024


class Housekeeper:
    """Looks after the jobs of one model: ``start`` and ``stop``, or call ``tick`` every second or so."""

    def __init__(
        self,
        client: Redis,
        artifacts: ArtifactStore,
        model: str,
        settings: WorkerSettings,
        reasons: ReasonLog | None = None,
    ) -> None:
        """Send nothing to Redis yet.

        Args:
            client: should have a short timeout.
            reasons: of this process.
        """
        self._client = client
        self._artifacts = artifacts
        self._model = model
        self._settings = settings
        self._jobs = JobStore(client, lifetime_s=settings.lifetime_s)
        self._queue = JobQueue(client, model)
        self._registry = Registry(client)
        self._recovery = Recovery(self._jobs, self._queue, artifacts, model, settings.recovery_grace_s)
        self._lease = Lease(client, keys.housekeeper(model), LEASE_TTL_S)
        self._queue_leftovers = QueueLeftovers(client, self._jobs, model)
        self._queue_pass = _Pass(QUEUE_LEFTOVERS_EVERY_S, lambda: self._clear_queue(QUEUE_LEFTOVERS_AGE_S))
        self._files_pass = _Pass(FILES_EVERY_S, lambda: self._clear_files(FILES_AGE_S))
        self._kept_pass = _Pass(FILES_EVERY_S, lambda: self._clear_kept(FILES_AGE_S))
        self._isolation = Isolation()
        self._reasons = reasons or ReasonLog()
        self._blind_until = 0.0
        self._is_full = False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._tick_until_stopped, name="housekeeper", daemon=True)

    def start(self) -> None:
        """Start ticking, in a separate thread: storage that hangs must not stop the supervisor. Idempotent."""
        if self._thread.ident is None:
            self._thread.start()

    def stop(self) -> None:
        """Stop ticking, and let another host take over at once."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout=2 * TICK_S)
        try:
            self._lease.release()
        except RedisError as error:
            log.info("the housekeeper's lease will expire by itself: %s", describe(error))

    def tick(self) -> bool:
        """Do what is due, if this housekeeper holds the lease; returns whether it does."""
        try:
            held_before = self._lease.held
            if not self._lease.hold():
                return False
            if not held_before:
                self._start_over()
            for name, task in self._tasks().items():
                with self._isolation.guard(name):
                    task()
        except RedisError as error:
            self._reasons.tell(error)
            # Workers get time for a heartbeat before they count as dead.
            self._blind_until = time.monotonic() + self._settings.heartbeat_ttl_s
            self._start_over()
        return self._lease.held

    def _tasks(self) -> dict[str, Callable[[], None]]:
        """What each tick does, by the names for the log; the failure of one costs no other."""
        return {
            "recovery": self._sweep,
            "deadlines": self._pass_deadlines,
            "room": self._watch_room,
            "leftovers in the queue": lambda: self._queue_pass.advance(self._may_go_on),
            "leftovers on disk": lambda: self._files_pass.advance(self._may_go_on),
            "kept pictures": lambda: self._kept_pass.advance(self._may_go_on),
        }

    def clear_leftovers(self, age_s: float) -> list[str]:
        """Remove at once all leftovers that are ``age_s`` seconds old; returns their names.

        Raises:
            redis.exceptions.RedisError: Redis cannot be reached.
            StorageError: the artifact store cannot be read.
        """
        steps = (*self._clear_queue(age_s), *self._clear_files(age_s), *self._clear_kept(age_s))
        return [name for name in steps if name is not None]

    def _tick_until_stopped(self) -> None:
        while not self._stopped.wait(TICK_S):
            try:
                self.tick()
            except Exception:  # the thread's boundary: a bug in one task must not end the others
                log.exception("the housekeeper failed in one tick and goes on")

    def _start_over(self) -> None:
        """Discard earlier observations, since much may have changed meanwhile."""
        self._recovery.start_over()
        self._queue_pass.start_over()
        self._files_pass.start_over()
        self._kept_pass.start_over()

    def _may_go_on(self) -> bool:
        """Whether the lease is still held; renews it during long work."""
        if self._stopped.is_set() or not self._lease.held:
            return False
        return not self._lease.needs_renewal or self._lease.hold()

    def _sweep(self) -> None:
        if time.monotonic() < self._blind_until:
            return
        workers = self._registry.workers(self._model)
        alive = {worker.name: worker.job_id for worker in workers if worker.state not in USELESS}
        self._recovery.sweep(set(alive), alive, self._settings.heartbeat_ttl_s)

    def _pass_deadlines(self) -> None:
        """Apply passed deadlines, the oldest first; a job that cannot be handled is logged, and costs no other."""
        ends_at = time.monotonic() + DEADLINES_BUDGET_S
        handled: set[JobKey] = set()
        while True:
            seconds, microseconds = self._client.time()
            # Those that stay due must not hide the others.
            due = self._jobs.due(self._model, seconds + microseconds / 1e6, len(handled) + PAGE)
            due = [key for key in due if key not in handled]
            if not due:
                return
            for key in due:
                if time.monotonic() > ends_at or not self._may_go_on():
                    return
                with self._isolation.guard(f"deadlines of job {key}"):
                    self._pass_time(key)
            handled.update(due)

    def _pass_time(self, key: JobKey) -> None:
        jobs = self._jobs.for_owner(key.owner)
        passed = jobs.pass_time(key.id)
        if passed is None:
            self._jobs.forget(key, self._model)
            return
        state, is_over = passed
        if is_over:
            # The record first: then the job is gone for all, and its files are leftovers.
            erased = jobs.erase(key.id, Gone.EXPIRED)
            if erased is not None and erased.folder is not None:
                self._artifacts.for_owner(key.owner).remove(erased.folder)
        elif state.ended:
            record = jobs.get(key.id)
            log.info("job %s: a deadline passed, now %s", key, state)
            if record is not None:
                self._queue.drop(record.entry)

    def _watch_room(self) -> None:
        """Log when the storage becomes full; only leftovers can be removed, since jobs are promised to be kept."""
        is_full = self._artifacts.free_bytes() < self._settings.min_free_disk_mb * MEBIBYTE
        if is_full and not self._is_full:
            log.warning(
                "less than MSD_MIN_FREE_DISK_MB (%d) is free: no jobs are accepted until there is room",
                self._settings.min_free_disk_mb,
            )
            self._files_pass.start_over()
        self._is_full = is_full

    def _clear_queue(self, age_s: float) -> Iterator[str | None]:
        for name in self._queue_leftovers.clear(age_s):
            if name is not None:
                log.info("removed %s, left over in the queue", name)
            yield name

    def _clear_files(self, age_s: float) -> Iterator[str | None]:
        for owner in self._artifacts.owners():
            artifacts = self._artifacts.for_owner(owner)
            for name in artifacts.clear_leftovers(self._is_kept_for(owner), age_s):
                if name is not None:
                    log.info("file %s belonged to no job and is removed", name)
                yield name

    def _clear_kept(self, age_s: float) -> Iterator[str | None]:
        for owner in self._artifacts.owners():
            artifacts = self._artifacts.for_owner(owner)
            assets = artifacts.assets(self._settings.asset_lifetime_s)
            for name in chain(assets.clear(age_s), artifacts.cast().clear(age_s)):
                if name is not None:
                    log.info("%s has expired, or was never whole, and is removed", name)
                yield name

    def _is_kept_for(self, owner: str) -> Callable[[str, float], bool]:
        jobs, artifacts = self._jobs.for_owner(owner), self._artifacts.for_owner(owner)

        def is_kept(folder: str, age_s: float) -> bool:
            job_id = folder.partition(".")[0]
            try:
                record = jobs.get(job_id)
            except UnreadableJobError:
                # A newer version of the service may read it.
                return True
            if record is not None:
                return record.folder == folder
            if jobs.gone(job_id) is not None or age_s > self._settings.lifetime_s:
                return False
            # Redis may have lost its records; finished pictures then stay for as long as was promised.
            return artifacts.has_result(folder)

        return is_kept


class _Pass:
    """Goes through many things, a few at each ``advance``, and again some time after its end."""

    def __init__(self, every_s: float, begin: Callable[[], Iterator[str | None]]) -> None:
        self._every_s = every_s
        self._begin = begin
        self._steps: Iterator[str | None] | None = None
        self._next_start = 0.0

    def start_over(self) -> None:
        """Start over with the next ``advance``."""
        self._steps = None
        self._next_start = 0.0

    def advance(self, may_go_on: Callable[[], bool]) -> None:
        """Continue for up to ``LEFTOVERS_BUDGET_S``."""
        if self._steps is None:
            if time.monotonic() < self._next_start:
                return
            self._steps = self._begin()
        ends_at = time.monotonic() + LEFTOVERS_BUDGET_S
        try:
            while may_go_on() and time.monotonic() < ends_at:
                next(self._steps)
        except StopIteration:
            self._steps = None
            self._next_start = time.monotonic() + self._every_s
        except BaseException:
            # A generator that raised has ended; the next pass makes a new one.
            self._steps = None
            self._next_start = time.monotonic() + self._every_s
            raise
