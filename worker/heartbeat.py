"""Sends a worker's heartbeats, only while its phase makes progress, so that a hung kernel looks dead."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from redis.exceptions import RedisError

from ms_jobs.records import JobError, WorkerRecord, WorkerState
from worker.phase_clock import PhaseClock

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Moment:
    """The worker's current activity; ``since`` is on the monotonic clock."""

    state: WorkerState
    phase: str
    job_id: str | None
    since: float


class Heartbeat:
    """Publishes the worker's record at intervals, from a separate thread.

    Args:
        record: the worker's record; state and phase are filled in with each beat.
        publish: writes one beat.
        budget: time limit of a phase without progress, in seconds.
        interval_s: time between two beats.
        clock: shares the phase's deadline with the supervisor.
    """

    def __init__(
        self,
        record: WorkerRecord,
        publish: Callable[[WorkerRecord], None],
        budget: Callable[[str], float | None],
        interval_s: float,
        clock: PhaseClock | None = None,
    ) -> None:
        self._record = record
        self._publish = publish
        self._budget = budget
        self._interval_s = interval_s
        self._clock = clock
        self._moment = _Moment(WorkerState.STARTING, "start", None, time.monotonic())
        self._stopped = False
        self._problem: str | None = None
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._beat_until_stopped, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Start beating."""
        self._thread.start()

    def stop(self) -> None:
        """Stop beating."""
        self._stopped = True
        self._wake.set()
        self._thread.join()

    def describe(self, **fields: str) -> None:
        """Set fields of the record for all further beats."""
        self._record = self._record.model_copy(update=fields)

    def enter(self, phase: str, state: WorkerState, job_id: str | None = None) -> None:
        """Set the worker's current activity. Setting the same again, as each step does, counts as progress."""
        if self._clock is not None:
            self._clock.enter(phase, self._budget(phase))
        changed = state is not self._moment.state
        self._moment = _Moment(state, phase, job_id, time.monotonic())
        if changed:
            self._wake.set()

    @property
    def is_idle(self) -> bool:
        """Whether the worker has no job."""
        return self._moment.state is not WorkerState.BUSY

    def fail(self, error: JobError) -> None:
        """Stop, and publish why the worker cannot work."""
        self.stop()
        self._try_to_publish(self._record.model_copy(update={"state": WorkerState.FAILED, "error": error}))

    def _beat_until_stopped(self) -> None:
        while not self._stopped:
            moment = self._moment
            budget_s = self._budget(moment.phase)
            if budget_s is None or time.monotonic() - moment.since <= budget_s:
                self._try_to_publish(self._at(moment))
            else:
                self._log_problem(f"no progress in phase {moment.phase} for {budget_s:g} s, so no heartbeats")
            self._wake.wait(self._interval_s)
            self._wake.clear()

    def _at(self, moment: _Moment) -> WorkerRecord:
        update = {"state": moment.state, "phase": moment.phase, "job_id": moment.job_id}
        return self._record.model_copy(update=update)

    def _try_to_publish(self, record: WorkerRecord) -> None:
        try:
            self._publish(record)
        except RedisError as error:
            self._log_problem(f"heartbeats do not reach Redis: {error}")
        else:
            self._log_problem(None)

    def _log_problem(self, problem: str | None) -> None:
        """Log a problem when it starts, not with every beat."""
        if problem is not None and problem != self._problem:
            log.warning("%s", problem)
        self._problem = problem
