"""The model of a job's life: the five invariants in every state of small worlds, and the model beside the real scripts."""

from __future__ import annotations

from typing import Any

import pytest
from redis import Redis

from ms_jobs.job_store import JobStore
from ms_jobs.outcomes import Gone, Requeue
from ms_jobs.records import MAX_ATTEMPTS as REAL_MAX_ATTEMPTS
from ms_jobs.records import JobError, JobRecord, JobState
from tests.faults.exploration import Exploration, Explorer
from tests.faults.job_machine import ENDED, MAX_ATTEMPTS, NOBODY, JobMachine, Record, Rules, Scripts

WORLDS: dict[str, dict[str, Any]] = {
    "one job, one worker, any faults": {"workers": 1},
    "one job, two workers, two faults": {"faults": 2, "drains": 0},
    "one job, one worker, two sweepers": {"workers": 1, "sweepers": 2, "faults": 1},
    "one job that is to be canceled in time": {"workers": 1, "faults": 1, "last_time": 3, "deadline": "cancel_after"},
    "one job that is to begin in time": {"workers": 1, "faults": 1, "last_time": 3, "deadline": "start_within"},
    "two jobs, one worker": {"jobs": 2, "workers": 1, "faults": 0},
    "two jobs, two workers": {"jobs": 2, "faults": 0},
}
LARGE_WORLDS: dict[str, dict[str, Any]] = {
    "one job, two workers, any faults": {},
    "one job that is to be canceled in time": {"workers": 1, "faults": 3, "last_time": 3, "deadline": "cancel_after"},
    "two jobs, one worker, one fault": {"jobs": 2, "workers": 1, "faults": 1, "drains": 0},
    "two jobs, two workers, one fault": {"jobs": 2, "faults": 1, "drains": 0},
}


def explore(**world: Any) -> Exploration:
    found = Explorer(JobMachine(**world)).explore()
    print(f"{found.states} states, {found.transitions} transitions")
    return found


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS.keys())
def test_the_invariants_hold_in_every_state(world: dict[str, Any]) -> None:
    found = explore(**world)
    assert found.violation is None, "\n".join((found.violation, *found.trace))
    assert found.states > 1_000


@pytest.mark.faults
@pytest.mark.parametrize("world", LARGE_WORLDS.values(), ids=LARGE_WORLDS.keys())
def test_the_invariants_hold_in_every_state_of_larger_worlds(world: dict[str, Any]) -> None:
    found = explore(**world)
    assert found.violation is None, "\n".join((found.violation, *found.trace))
    assert found.states > 50_000


@pytest.mark.parametrize(
    ("rule", "invariant"),
    [
        ("attempt_is_checked", "a finished picture is never lost"),
        ("promised_cancel_is_kept", "a promised cancel is kept"),
        ("opening_fences_older", "a finished picture is never lost"),
        ("older_cannot_open", "a finished picture is never lost"),
        ("sweeper_fences_first", "a finished picture is never lost"),
        ("letting_go_is_told", "a job always ends"),
        ("attempts_are_limited", "at most two attempts"),
        ("end_is_final", "it ends once"),
        ("lost_entries_are_put_back", "a job always ends"),
    ],
)
def test_every_guard_is_needed(rule: str, invariant: str) -> None:
    rules = Rules()._replace(**{rule: False})
    found = explore(faults=1, drains=0, rules=rules)
    assert found.violation is not None
    assert invariant in found.violation, "\n".join((found.violation, *found.trace))


def test_every_guard_is_tried() -> None:
    tried = {mark.args[1][i][0] for mark in test_every_guard_is_needed.pytestmark for i in range(len(mark.args[1]))}
    assert tried == set(Rules._fields)


LIFETIME = 2
LAST_TIME = 3
ID = "A" * 16
MODEL = "machine"
ERROR = JobError(code="worker_died", detail="It died.")


class RealScripts:
    """The real scripts in a real Redis, with the model's clock, names and answers."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self.now = 0
        self._jobs = JobStore(client, lifetime_s=LIFETIME, clock=lambda: float(self.now))

    def snapshot(self) -> dict[bytes, bytes]:
        keys = self._client.keys("*")
        pipeline = self._client.pipeline(transaction=False)
        for key in keys:
            pipeline.dump(key)
        return dict(zip(keys, pipeline.execute(), strict=True))

    def restore(self, snapshot: dict[bytes, bytes]) -> None:
        pipeline = self._client.pipeline(transaction=False)
        pipeline.flushdb()
        for key, value in snapshot.items():
            pipeline.restore(key, 0, value)
        pipeline.execute()

    def record(self) -> Record | None:
        """The job's record as the model has it; how often it ended, the event log tells."""
        record = self._jobs.get(ID)
        if record is None:
            return None
        events = [fields[b"event"].decode() for _, fields in self._client.xrange(f"msd:events:local:{ID}")]
        return Record(
            queued_at=int(record.queued_at),
            cancel_at=None if record.cancel_at is None else int(record.cancel_at),
            start_before=None if record.start_before is None else int(record.start_before),
            state=record.state.value,
            version=record.version,
            attempt=record.attempt,
            handed_back=record.handed_back,
            worker=NOBODY if record.worker is None else int(record.worker),
            cancel_requested=record.cancel_requested,
            result_attempt=record.result_attempt,
            expires_at=None if record.expires_at is None else int(record.expires_at),
            ends=sum(event in ENDED for event in events),
        )

    def due(self) -> int | None:
        score = self._client.zscore(f"msd:due:{MODEL}", f"local:{ID}")
        return None if score is None else int(score)

    def create(self, cancel_after: int | None, start_within: int | None) -> None:
        record = JobRecord(id=ID, model=MODEL, folder=f"{ID}.00000000", seed=1)
        self._jobs.create(record, cancel_after_s=cancel_after, start_within_s=start_within)

    def call(self, script: str, arguments: tuple[Any, ...]) -> Any:
        """Run a script; returns its answer in the model's terms."""
        return getattr(self, f"_{script}")(*arguments)

    def _begin(self, worker: int) -> int | None:
        record = self._jobs.begin(ID, str(worker), "cpu")
        return None if record is None else record.attempt

    def _progress(self, attempt: int) -> str:
        return self._jobs.progress(ID, attempt, phase="denoise").value

    def _finish(self, attempt: int, state: str, result_attempt: int | None) -> str | None:
        fields = {} if result_attempt is None else {"result_attempt": result_attempt}
        return _value(self._jobs.finish(ID, attempt, JobState(state), **fields))

    def _requeue(self, attempt: int, reason: str) -> str | None:
        return _value(self._jobs.requeue(ID, attempt, Requeue(reason), ERROR))

    def _cancel(self) -> str:
        return self._jobs.request_cancel(ID).value

    def _pass_time(self) -> tuple[str, bool] | None:
        answer = self._jobs.pass_time(ID)
        return None if answer is None else (answer[0].value, answer[1])

    def _erase(self, reason: str | None) -> bool:
        return self._jobs.erase(ID, None if reason is None else Gone(reason)) is not None


def _value(state: JobState | None) -> str | None:
    return None if state is None else state.value


def _calls(record: Record) -> list[tuple[str, tuple[Any, ...]]]:
    """Every call that makes a difference: of the attempt that runs, of the one before, of the one to come."""
    calls: list[tuple[str, tuple[Any, ...]]] = [("begin", (worker,)) for worker in (0, 1)]
    for attempt in range(max(record.attempt - 1, 0), record.attempt + 2):
        calls += [("progress", (attempt,))]
        calls += [("finish", (attempt, "succeeded", attempt)), ("finish", (attempt, "failed", None))]
        calls += [("finish", (attempt, "canceled", None))]
        calls += [("requeue", (attempt, reason.value)) for reason in Requeue]
    reasons = ("expired", "deleted", None)
    return [*calls, ("cancel", ()), ("pass_time", ()), *(("erase", (reason,)) for reason in reasons)]


@pytest.fixture
def own_redis(redis_url: str):
    """A database of the session's Redis that no other test uses."""
    client = Redis.from_url(redis_url, db=7)
    client.flushdb()
    yield client
    client.flushdb()
    client.close()


Limits = tuple[int | None, int | None]
LIMITS: list[Limits] = [(None, None), (1, None), (None, 1), (2, 1)]


@pytest.mark.parametrize("limits", LIMITS)
def test_the_scripts_do_what_the_model_says(own_redis: Redis, limits: Limits) -> None:
    assert compare(own_redis, limits, last_version=3) > 1_000


@pytest.mark.faults
@pytest.mark.parametrize("limits", LIMITS)
def test_the_scripts_do_what_the_model_says_for_long(own_redis: Redis, limits: Limits) -> None:
    assert compare(own_redis, limits, last_version=6) > 10_000


def compare(client: Redis, limits: Limits, last_version: int) -> int:
    """From every reachable record of up to so many versions, in every unit of time, make every call; returns how many."""
    real, model = RealScripts(client), Scripts(lifetime=LIFETIME)
    real.create(*limits)
    first = model.create(0, *limits)
    assert real.record() == first
    seen = {(0, first)}
    todo = [(0, first, real.snapshot())]
    transitions = 0
    for now, record, snapshot in todo:
        if now < LAST_TIME and (now + 1, record) not in seen:
            seen.add((now + 1, record))
            todo.append((now + 1, record, snapshot))
        real.now = now
        real.restore(snapshot)
        for script, arguments in _calls(record):
            after, answer = getattr(model, script)(record, now, *arguments)
            trace = f"{script}{arguments} at {now} on {record}"
            assert real.call(script, arguments) == answer, trace
            assert real.record() == after, trace
            assert real.due() == model.due(after), trace
            transitions += 1
            if after is not None and after.version <= last_version and (now, after) not in seen:
                seen.add((now, after))
                todo.append((now, after, real.snapshot()))
            if after != record:
                real.restore(snapshot)
    print(f"{len(seen)} records, {transitions} transitions")
    return transitions


def test_the_model_counts_attempts_as_the_service_does() -> None:
    assert MAX_ATTEMPTS == REAL_MAX_ATTEMPTS
