"""Random lives of one job by all scripts at once, against a model of a few lines that keeps the five invariants."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from redis import Redis

from ms_jobs.outcomes import CancelOutcome, CreateOutcome, Gone, ProgressReply, Requeue
from ms_jobs.records import MAX_ATTEMPTS, JobRecord, JobState, StoredImage, new_job_id
from tests.support.job_keys import DIED, LIFETIME_S, Ledger

QUEUED, RUNNING, SUCCEEDED = JobState.QUEUED, JobState.RUNNING, JobState.SUCCEEDED
CANCELED, EXPIRED, FAILED = JobState.CANCELED, JobState.EXPIRED, JobState.FAILED
IMAGE = StoredImage(index=0, sha256="0" * 64, width=8, height=8, seed=7)
WORKERS = st.sampled_from(["w1", "w2"])
# By how many attempts what a worker says is late.
LATE = st.sampled_from([0, 0, 0, 1, 2])


@dataclass
class Model:
    """What a job is, in as few words as will do; all times in seconds."""

    now: float
    cancel_at: float | None = None
    start_before: float | None = None
    state: JobState = QUEUED
    attempt: int = 0
    counted: int = 0
    worker: str | None = None
    cancel_requested: bool = False
    version: int = 1
    queued_at: float = field(init=False)
    expires_at: float | None = None
    images: int = 0
    log: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.queued_at = self.now
        self.log.append(("1-0", "queued"))

    def change(self, event: str) -> None:
        self.version += 1
        self.log.append((f"{self.version}-0", event))

    def end(self, state: JobState) -> JobState:
        self.state = state
        self.expires_at = self.now + LIFETIME_S
        self.change(state.value)
        return state

    def promise_cancel(self) -> None:
        self.cancel_requested = True
        self.change("cancel_requested")

    def pass_time(self) -> None:
        is_canceled = self.cancel_at is not None and self.now >= self.cancel_at and not self.cancel_requested
        if self.state is QUEUED and is_canceled:
            self.end(CANCELED)
        elif self.state is QUEUED and self.now >= min(self.waits_until()):
            self.end(EXPIRED)
        elif self.state is RUNNING and is_canceled:
            self.promise_cancel()

    def waits_until(self) -> Iterator[float]:
        yield self.queued_at + LIFETIME_S
        if self.start_before is not None and self.attempt == 0:
            yield self.start_before

    def due(self) -> float | None:
        cancel_at = () if self.cancel_at is None else (self.cancel_at,)
        if self.state is QUEUED:
            return min((*self.waits_until(), *cancel_at))
        if self.state is RUNNING:
            return None if self.cancel_requested else self.cancel_at
        return self.expires_at

    def is_run_by(self, attempt: int) -> bool:
        return self.state is RUNNING and self.attempt == attempt


class JobMachine(RuleBasedStateMachine):
    """Workers, clients and housekeepers, each as late and as confused as can be."""

    client: Redis

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger.open(self.client, f"test-{secrets.token_hex(4)}")
        self.jobs = self.ledger.jobs
        self.job_id = new_job_id()
        self.model: Model | None = None
        self.ended: JobState | None = None

    limits = st.none() | st.sampled_from([5.0, 20.0])

    @initialize(cancel_after_s=limits, start_within_s=limits)
    def create(self, cancel_after_s: float | None, start_within_s: float | None) -> None:
        now = self.ledger.clock.now
        record = self.ledger.new(id=self.job_id)
        limits = {"cancel_after_s": cancel_after_s, "start_within_s": start_within_s}
        assert self.jobs.create(record, "key", **limits) == (CreateOutcome.CREATED, self.job_id)
        self.model = Model(
            now,
            None if cancel_after_s is None else now + cancel_after_s,
            None if start_within_s is None else now + start_within_s,
        )

    # Whatever ends a life comes late: else most would be too short to tell anything.
    def has_lived(self) -> bool:
        return self.model is None or self.model.version > 7 or self.model.state.ended

    @precondition(has_lived)
    @rule()
    def wait_for_long(self) -> None:
        self.wait(LIFETIME_S)

    @rule(seconds=st.sampled_from([1.0, 4.0, 15.0]))
    def wait(self, seconds: float) -> None:
        self.ledger.clock.forward(seconds)
        if self.model is not None:
            self.model.now += seconds

    @rule()
    def create_again(self) -> None:
        if self.model is not None:
            assert self.jobs.create(self.ledger.new(id=self.job_id)) == (CreateOutcome.EXISTS, self.job_id)
            other = self.ledger.new()
            assert self.jobs.create(other, "key") == (CreateOutcome.KEY_USED, self.job_id)

    @rule(worker=WORKERS)
    def begin(self, worker: str) -> None:
        record = self.jobs.begin(self.job_id, worker, "cpu")
        model = self.model
        if model is None:
            assert record is None
            return
        if model.state is RUNNING and model.worker == worker:
            assert record is not None
            assert record.attempt == model.attempt
            return
        if model.state is QUEUED:
            model.pass_time()
        if model.state is not QUEUED:
            assert record is None
            return
        model.state, model.worker = RUNNING, worker
        model.attempt += 1
        model.counted += 1
        model.change("running")
        assert record is not None
        assert record.attempt == model.attempt

    @rule(late=LATE, preview=st.sampled_from([b"", b"preview"]))
    def progress(self, late: int, preview: bytes) -> None:
        attempt = self.attempt(late)
        reply = self.jobs.progress(self.job_id, attempt, preview, phase="denoise", references=(0,))
        model = self.model
        if model is None or not model.is_run_by(attempt):
            assert reply is ProgressReply.TAKEN
            return
        model.pass_time()
        model.version += 1
        assert reply is (ProgressReply.CANCEL if model.cancel_requested else ProgressReply.CONTINUE)

    @precondition(has_lived)
    @rule(late=LATE, state=st.sampled_from([SUCCEEDED, FAILED, CANCELED]))
    def finish(self, late: int, state: JobState) -> None:
        attempt = self.attempt(late)
        ended = self.jobs.finish(self.job_id, attempt, state, images=(IMAGE,) if state is SUCCEEDED else ())
        model = self.model
        if model is None or not model.is_run_by(attempt):
            assert ended is None
            return
        to = CANCELED if model.cancel_requested else state
        model.images = to is SUCCEEDED
        assert ended is model.end(to)

    @rule(late=LATE, reason=st.sampled_from([*Requeue, Requeue.WORKER_STOPPING]))
    def requeue(self, late: int, reason: Requeue) -> None:
        attempt = self.attempt(late)
        state = self.jobs.requeue(self.job_id, attempt, reason, DIED)
        model = self.model
        if model is not None and model.state is QUEUED and model.attempt == attempt:
            assert state is QUEUED
            return
        if model is None or not model.is_run_by(attempt):
            assert state is None
            return
        is_canceled = model.cancel_requested
        model.counted -= reason is Requeue.WORKER_STOPPING and not is_canceled
        if is_canceled:
            model.end(CANCELED)
        elif model.counted >= MAX_ATTEMPTS:
            model.end(FAILED)
        else:
            model.state, model.worker, model.queued_at = QUEUED, None, model.now
            model.change(reason.value)
        assert state is model.state

    @rule()
    def cancel(self) -> None:
        outcome = self.jobs.request_cancel(self.job_id)
        model = self.model
        if model is None:
            assert outcome is CancelOutcome.UNKNOWN
        elif model.state is RUNNING:
            assert outcome is CancelOutcome.REQUESTED
            if not model.cancel_requested:
                model.promise_cancel()
        elif model.state in (QUEUED, CANCELED):
            assert outcome is CancelOutcome.CANCELED
            if model.state is QUEUED:
                model.end(CANCELED)
        else:
            assert outcome is CancelOutcome.ENDED

    @rule()
    def pass_time(self) -> None:
        answer = self.jobs.pass_time(self.job_id)
        model = self.model
        if model is None:
            assert answer is None
            return
        model.pass_time()
        assert answer == (model.state, model.expires_at is not None and model.now >= model.expires_at)

    @precondition(has_lived)
    @rule()
    def expire(self) -> None:
        erased = self.jobs.erase(self.job_id, Gone.EXPIRED)
        model = self.model
        is_over = model is not None and model.expires_at is not None and model.now >= model.expires_at
        assert (erased is not None) is is_over
        if is_over:
            self.forget(Gone.EXPIRED)

    @precondition(lambda self: self.model is not None and self.model.version > 12)
    @rule()
    def delete(self) -> None:
        assert self.jobs.erase(self.job_id, Gone.DELETED) is not None
        self.forget(Gone.DELETED)

    def forget(self, reason: Gone) -> None:
        self.model = None
        assert self.jobs.gone(self.job_id) is reason
        assert self.jobs.create(self.ledger.new(id=self.job_id)) == (CreateOutcome.GONE, self.job_id)
        assert self.ledger.mentions(self.job_id) == [f"msd:gone:{self.ledger.name}:{self.job_id}"]

    def attempt(self, late: int) -> int:
        """The number that a worker carries: the latest attempt's, or an earlier one's."""
        return (1 if self.model is None else self.model.attempt) - late

    @invariant()
    def redis_says_what_the_model_says(self) -> None:
        model = self.model
        if model is None:
            assert self.jobs.get(self.job_id) is None
            return
        record = self.ledger.get(self.job_id)
        assert (record.state, record.attempt, record.attempt - record.handed_back, record.worker) == (
            model.state,
            model.attempt,
            model.counted,
            model.worker,
        )
        assert (record.cancel_requested or record.state is CANCELED) == (
            model.cancel_requested or model.state is CANCELED
        )
        assert (record.version, record.expires_at, len(record.images)) == (
            model.version,
            model.expires_at,
            model.images,
        )
        self.canceled_shows_no_picture(record)
        self.two_attempts_at_most_count(record)
        log = [(entry.id, entry.fields["event"]) for entry in self.ledger.events(self.job_id)]
        assert log == model.log

    @invariant()
    def the_indexes_say_what_the_record_says(self) -> None:
        model = self.model
        job, name = f"{self.ledger.name}:{self.job_id}", self.ledger.name
        is_there = model is not None
        due = None if model is None else model.due()
        assert self.client.zscore(f"msd:due:{name}", job) == due
        assert self.client.sismember(f"msd:active:{name}", job) == (is_there and not model.state.ended)
        assert self.client.sismember(f"msd:running:{name}", job) == (is_there and model.state is RUNNING)
        assert (self.client.zscore(f"msd:jobs:{name}", self.job_id) is not None) == is_there
        is_running_or_waiting = is_there and not model.state.ended
        assert is_running_or_waiting or not self.ledger.progress(self.job_id)

    @invariant()
    def it_ends_once(self) -> None:
        model = self.model
        if model is None:
            return
        endings = [event for _, event in model.log if event in {state.value for state in JobState if state.ended}]
        assert len(endings) == model.state.ended
        self.ended = self.ended or (model.state if model.state.ended else None)
        assert self.ended in (None, model.state)

    def canceled_shows_no_picture(self, record: JobRecord) -> None:
        assert record.state is SUCCEEDED or record.images == ()
        assert record.state is not CANCELED or record.references == ()

    def two_attempts_at_most_count(self, record: JobRecord) -> None:
        assert record.attempt - record.handed_back <= MAX_ATTEMPTS


def test_every_life_of_a_job_is_as_the_model_says(redis_url: str) -> None:
    with Redis.from_url(redis_url) as client:
        machine = type("Machine", (JobMachine,), {"client": client})
        run_state_machine_as_test(machine, settings=settings(max_examples=50, stateful_step_count=25))
