from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from ms_jobs.records import JobError, WorkerRecord, WorkerState
from tests.support.job_helpers import wait_until
from worker.heartbeat import Heartbeat
from worker.phase_clock import PhaseClock

BUDGETS_S = {"denoise": 0.05}


class Wire:
    """Takes the beats, and can be cut."""

    def __init__(self) -> None:
        self.beats: list[WorkerRecord] = []
        self.is_cut = False

    def __call__(self, record: WorkerRecord) -> None:
        if self.is_cut:
            raise RedisConnectionError("cut")
        self.beats.append(record)


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def heartbeat(wire: Wire) -> Iterator[Heartbeat]:
    record = WorkerRecord(
        name="w", model="m", state=WorkerState.STARTING, device="cpu", host="h", pid=1, started_at=0.0
    )
    heartbeat = Heartbeat(record, wire, BUDGETS_S.get, interval_s=0.01)
    heartbeat.start()
    yield heartbeat
    heartbeat.stop()


def test_it_beats_from_the_start(heartbeat: Heartbeat, wire: Wire) -> None:
    wait_until(lambda: len(wire.beats) >= 3, "three beats")
    assert wire.beats[0].state is WorkerState.STARTING


def test_it_says_what_the_worker_does(heartbeat: Heartbeat, wire: Wire) -> None:
    heartbeat.enter("store", WorkerState.BUSY, "job")
    wait_until(lambda: wire.beats and wire.beats[-1].phase == "store", "a beat of the phase")
    assert (wire.beats[-1].state, wire.beats[-1].job_id) == (WorkerState.BUSY, "job")


def test_it_says_what_it_learns_of_the_worker(heartbeat: Heartbeat, wire: Wire) -> None:
    heartbeat.describe(memory_mode="12gb")
    heartbeat.enter("idle", WorkerState.IDLE)
    wait_until(lambda: wire.beats and wire.beats[-1].memory_mode == "12gb", "a beat with the memory mode")
    assert wire.beats[0].device == wire.beats[-1].device


def test_it_falls_silent_when_a_phase_outlasts_its_budget(heartbeat: Heartbeat, wire: Wire) -> None:
    def falls_silent() -> bool:
        count = len(wire.beats)
        # Ten intervals, twice the budget: only silence leaves the count as it was.
        heartbeat._thread.join(timeout=0.1)
        return len(wire.beats) == count

    heartbeat.enter("denoise", WorkerState.BUSY, "job")
    wait_until(falls_silent, "silence")


def test_progress_keeps_it_beating(heartbeat: Heartbeat, wire: Wire) -> None:
    def steps_on() -> bool:
        heartbeat.enter("denoise", WorkerState.BUSY, "job")
        return len(wire.beats) >= 20

    wait_until(steps_on, "beats for much longer than one budget")


def test_the_clock_of_phases_is_set_anew_with_each_sign_of_progress() -> None:
    record = WorkerRecord(
        name="w", model="m", state=WorkerState.STARTING, device="cpu", host="h", pid=1, started_at=0.0
    )
    clock = PhaseClock.create()
    heartbeat = Heartbeat(record, lambda beat: None, {"denoise": 5.0}.get, 1, clock)
    heartbeat.enter("denoise", WorkerState.BUSY, "job")
    first = clock.ends_at
    heartbeat.enter("denoise", WorkerState.BUSY, "job")
    assert first is not None
    assert clock.ends_at is not None
    assert clock.ends_at > first
    heartbeat.enter("idle", WorkerState.IDLE)
    assert (clock.phase, clock.ends_at) == ("idle", None)
    clock.close()


def test_it_goes_on_after_redis_was_away(heartbeat: Heartbeat, wire: Wire) -> None:
    wait_until(lambda: wire.beats, "a beat")
    wire.is_cut = True
    heartbeat._thread.join(timeout=0.05)
    wire.is_cut = False
    count = len(wire.beats)
    wait_until(lambda: len(wire.beats) > count, "a beat after the cut")


def test_a_failed_setup_leaves_word(heartbeat: Heartbeat, wire: Wire) -> None:
    error = JobError(code="checkpoint_mismatch", detail="It does not fit.")
    heartbeat.fail(error)
    assert (wire.beats[-1].state, wire.beats[-1].error) == (WorkerState.FAILED, error)
