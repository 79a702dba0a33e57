from __future__ import annotations

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from ms_jobs.outcomes import Requeue
from ms_jobs.probe import WriteProbe
from ms_jobs.records import JobState, WorkerRecord, WorkerState
from tests.support.job_helpers import Desk
from worker.recovery import Recovery
from worker.watch import WorkerExit, WorkerWatch

TTL_S = 10
GRACE_S = 3.0


class Clock:
    """The monotonic clock of the watch, and that of its Redis."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.redis_ahead = 0.0

    def pass_s(self, seconds: float) -> None:
        """One second for each look, as the watch has it."""
        self.now += seconds


@pytest.fixture
def clock(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("worker.watch.time.monotonic", lambda: clock.now)
    monkeypatch.setattr(desk.client, "time", lambda: (int(clock.now + clock.redis_ahead), 0))
    return clock


@pytest.fixture
def watch(desk: Desk, clock: Clock) -> WorkerWatch:
    recovery = Recovery(desk.jobs, desk.queue, desk.artifacts, desk.model, GRACE_S)
    watch = WorkerWatch(desk.client, recovery, desk.model, TTL_S, GRACE_S)
    watch.watch(frozenset({"w1"}))
    return watch


def worker(
    desk: Desk, name: str = "w1", state: WorkerState = WorkerState.IDLE, job_id: str | None = None
) -> WorkerRecord:
    return WorkerRecord(
        name=name, model=desk.model, state=state, device="cpu", host="h", pid=1, job_id=job_id, started_at=0.0
    )


def look_for(watch: WorkerWatch, clock: Clock, seconds: int) -> None:
    for _ in range(seconds):
        clock.pass_s(1)
        watch.look()


def heard_and_gone(desk: Desk, watch: WorkerWatch, state: WorkerState = WorkerState.IDLE) -> None:
    """The worker beats once, and then Redis has forgotten it."""
    desk.registry.publish_worker(worker(desk, state=state), TTL_S)
    watch.look()
    desk.registry.retire_worker("w1", desk.model)


def test_a_worker_that_beats_is_not_silent(desk: Desk, watch: WorkerWatch, clock: Clock) -> None:
    desk.registry.publish_worker(worker(desk), TTL_S)
    look_for(watch, clock, 30)
    assert watch.silent == frozenset()


def test_a_worker_is_silent_some_time_after_redis_has_forgotten_it(
    desk: Desk, watch: WorkerWatch, clock: Clock
) -> None:
    heard_and_gone(desk, watch)
    look_for(watch, clock, 3)
    assert watch.silent == frozenset()
    look_for(watch, clock, 1)
    assert watch.silent == {"w1"}


def test_a_worker_that_was_never_heard_is_not_silent(watch: WorkerWatch, clock: Clock) -> None:
    look_for(watch, clock, 30)
    assert watch.silent == frozenset()


def test_a_worker_that_loads_may_keep_silent(desk: Desk, watch: WorkerWatch, clock: Clock) -> None:
    heard_and_gone(desk, watch, WorkerState.STARTING)
    look_for(watch, clock, 30)
    assert watch.silent == frozenset()


@pytest.mark.parametrize("stood_still", ["this process", "this host"])
def test_after_a_pause_of_its_own_the_workers_get_time_to_be_heard(
    desk: Desk, watch: WorkerWatch, clock: Clock, stood_still: str
) -> None:
    heard_and_gone(desk, watch)
    if stood_still == "this process":
        clock.pass_s(30)
    else:
        # The clock of a host that is paused stands still as well.
        clock.redis_ahead = 30
    look_for(watch, clock, TTL_S + int(GRACE_S))
    assert watch.silent == frozenset()
    look_for(watch, clock, 2)
    assert watch.silent == {"w1"}


def test_a_look_that_took_too_long_is_not_trusted(
    desk: Desk, watch: WorkerWatch, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard_and_gone(desk, watch)
    look_for(watch, clock, 3)
    workers = watch._registry.workers

    def slowly(model: str) -> list[WorkerRecord]:
        clock.pass_s(30)
        return workers(model)

    monkeypatch.setattr(watch._registry, "workers", slowly)
    watch.look()
    assert watch.silent == frozenset()


def test_the_job_of_a_dead_worker_is_taken_up_at_once_though_it_seems_to_beat(desk: Desk, watch: WorkerWatch) -> None:
    job_id = desk.submit()
    desk.begin(job_id, "w1")
    busy = worker(desk, state=WorkerState.BUSY, job_id=job_id)
    desk.registry.publish_worker(busy, TTL_S)
    watch.record_exit(WorkerExit(busy, "The worker died."))
    watch.look()
    record = desk.get(job_id)
    assert (record.state, record.attempt, record.handed_back) == (JobState.QUEUED, 1, 0)
    assert [key.id for key in desk.queue.waiting()] == [job_id]


def test_a_job_that_a_drain_left_costs_no_attempt(desk: Desk, watch: WorkerWatch) -> None:
    job_id = desk.submit()
    desk.begin(job_id, "w1")
    watch.record_exit(WorkerExit(worker(desk), None, Requeue.WORKER_STOPPING))
    watch.look()
    record = desk.get(job_id)
    assert (record.state, record.handed_back) == (JobState.QUEUED, 1)
    assert desk.registry.workers(desk.model) == []


def test_a_dead_worker_is_defunct_until_its_successor_serves(desk: Desk, watch: WorkerWatch) -> None:
    desk.registry.publish_worker(worker(desk), TTL_S)
    watch.record_exit(WorkerExit(worker(desk), "The worker died."))
    watch.watch(frozenset({"w2"}))
    desk.registry.publish_worker(worker(desk, "w2", WorkerState.STARTING), TTL_S)
    watch.look()
    states = {record.name: record.state for record in desk.registry.workers(desk.model)}
    assert states == {"w1": WorkerState.DEFUNCT, "w2": WorkerState.STARTING}
    desk.registry.publish_worker(worker(desk, "w2"), TTL_S)
    watch.look()
    assert [record.name for record in desk.registry.workers(desk.model)] == ["w2"]


def test_a_death_that_redis_did_not_hear_of_is_settled_later(
    desk: Desk, watch: WorkerWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = desk.submit()
    desk.begin(job_id, "w1")
    watch.record_exit(WorkerExit(worker(desk), "The worker died."))
    with monkeypatch.context() as away:
        away.setattr("ms_jobs.registry.Registry.publish_worker", _raise_connection_error)
        with pytest.raises(RedisConnectionError):
            watch.look()
    assert desk.get(job_id).state is JobState.RUNNING
    watch.look()
    assert desk.get(job_id).state is JobState.QUEUED


def _raise_connection_error(*_: object) -> None:
    raise RedisConnectionError("away")


def test_a_worker_is_not_silent_while_redis_refuses_what_it_writes(
    desk: Desk, watch: WorkerWatch, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(probe: WriteProbe) -> bool:
        raise ResponseError("NOREPLICAS Not enough good replicas to write.")

    heard_and_gone(desk, watch)
    with monkeypatch.context() as refusing:
        refusing.setattr(WriteProbe, "is_suspended", refuse)
        with pytest.raises(ResponseError):
            look_for(watch, clock, 60)
    assert watch.silent == frozenset()
    look_for(watch, clock, 60)
    assert watch.silent == {"w1"}
