from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from redis import Redis

from ms_core.errors import UnreadableJobError
from ms_core.spec import GenerationWarning
from ms_jobs import keys
from ms_jobs.job_store import GONE_MARK_TTL_S, PROGRESS_ENTRIES, JobStore
from ms_jobs.keys import JobKey
from ms_jobs.outcomes import CancelOutcome, CreateOutcome, Gone, ProgressReply, Requeue
from ms_jobs.records import (
    ErasedJob,
    JobError,
    JobRecord,
    JobState,
    StoredImage,
    WorkerRecord,
    WorkerState,
    new_job_id,
)
from ms_jobs.registry import Registry
from tests.support.job_keys import DIED, LIFETIME_S, Ledger

QUEUED, RUNNING, SUCCEEDED, FAILED = JobState.QUEUED, JobState.RUNNING, JobState.SUCCEEDED, JobState.FAILED
CANCELED, EXPIRED = JobState.CANCELED, JobState.EXPIRED
CREATED, EXISTS, KEY_USED, GONE = (
    CreateOutcome.CREATED,
    CreateOutcome.EXISTS,
    CreateOutcome.KEY_USED,
    CreateOutcome.GONE,
)
CONTINUE, CANCEL, TAKEN = ProgressReply.CONTINUE, ProgressReply.CANCEL, ProgressReply.TAKEN
IMAGE = StoredImage(index=0, sha256="0" * 64, width=8, height=8, seed=7)


# Creating


def test_a_new_job_waits(ledger: Ledger) -> None:
    record = ledger.get(ledger.create())
    assert (record.state, record.version, record.attempt, record.owner) == (QUEUED, 1, 0, ledger.name)
    assert record.created_at == record.queued_at == ledger.clock.now


def test_times_come_from_redis_whatever_the_caller_says(ledger: Ledger) -> None:
    record = ledger.new(created_at=1.0, queued_at=1.0, version=9)
    JobStore(ledger.client, ledger.name).create(record)
    seconds, microseconds = ledger.client.time()
    stored = ledger.get(record.id)
    assert stored.created_at == stored.queued_at == pytest.approx(seconds + microseconds / 1e6, abs=60)
    assert stored.version == 1


def test_an_id_is_taken_once(ledger: Ledger) -> None:
    record = ledger.get(ledger.create())
    assert ledger.jobs.create(ledger.new(id=record.id, num_images=4)) == (EXISTS, record.id)
    assert ledger.get(record.id) == record


def test_ids_are_per_owner(ledger: Ledger) -> None:
    job_id = ledger.create()
    other = ledger.jobs.for_owner(f"{ledger.name}-other")
    assert other.create(ledger.new(id=job_id)) == (CREATED, job_id)
    assert other.get(job_id) != ledger.get(job_id)


def test_an_idempotency_key_stands_for_its_first_job(ledger: Ledger) -> None:
    first = ledger.create(idempotency_key="again")
    second = ledger.new()
    assert ledger.jobs.create(second, idempotency_key="again") == (KEY_USED, first)
    assert ledger.jobs.get(second.id) is None
    assert ledger.get(first).idempotency_key == "again"


def test_idempotency_keys_are_per_owner(ledger: Ledger) -> None:
    ledger.create(idempotency_key="again")
    record = ledger.new()
    other = ledger.jobs.for_owner(f"{ledger.name}-other")
    assert other.create(record, idempotency_key="again") == (CREATED, record.id)


def test_only_one_of_many_creates_the_job_of_a_key(ledger: Ledger) -> None:
    outcomes: list[tuple[CreateOutcome, str]] = []

    def create() -> None:
        outcomes.append(ledger.jobs.create(ledger.new(), idempotency_key="at-once"))

    in_parallel(create, 32)
    (winner,) = [job_id for outcome, job_id in outcomes if outcome is CREATED]
    assert sorted(outcomes) == sorted([(CREATED, winner), *[(KEY_USED, winner)] * 31])


@pytest.mark.parametrize("reason", list(Gone))
def test_the_id_of_a_job_that_is_gone_is_not_used_again(ledger: Ledger, reason: Gone) -> None:
    job_id = ledger.create()
    ledger.jobs.request_cancel(job_id)
    ledger.clock.forward(LIFETIME_S)
    ledger.jobs.erase(job_id, reason)
    assert ledger.jobs.create(ledger.new(id=job_id)) == (GONE, job_id)
    assert ledger.jobs.gone(job_id) is reason
    assert ledger.jobs.get(job_id) is None


def test_a_job_and_its_entry_appear_together(ledger: Ledger) -> None:
    line = keys.queue(ledger.name)
    record = ledger.new()
    ledger.jobs.create(record, entry=[("RPUSH", line, record.entry), ("EXPIRE", line, "60")])
    ledger.jobs.create(record, entry=[("RPUSH", line, "twice")])
    assert ledger.client.lrange(line, 0, -1) == [record.entry.encode()]
    assert 0 < ledger.client.ttl(line) <= 60


def test_a_record_comes_back_as_it_was_given(ledger: Ledger) -> None:
    record = ledger.new(
        num_images=8,
        warnings=(GenerationWarning(code="c", detail="猫", pointer="/p"),),
        request_hash="ab",
        request_id="r",
    )
    ledger.jobs.create(record, idempotency_key="k", cancel_after_s=5, start_within_s=0.5)
    now = ledger.clock.now
    expected = record.model_copy(
        update={
            "owner": ledger.name,
            "idempotency_key": "k",
            "created_at": now,
            "queued_at": now,
            "cancel_at": now + 5,
            "start_before": now + 0.5,
        }
    )
    assert ledger.get(record.id) == expected


# Beginning


def test_beginning_a_job_counts_the_attempt(ledger: Ledger) -> None:
    job_id = ledger.create()
    ledger.clock.forward(3)
    record = ledger.jobs.begin(job_id, "w1", "cuda GPU-1")
    assert record == ledger.get(job_id)
    assert record is not None
    assert (record.state, record.attempt, record.worker, record.device) == (RUNNING, 1, "w1", "cuda GPU-1")
    assert record.started_at == record.queued_at + 3


def test_a_worker_that_asks_again_gets_the_same_attempt(ledger: Ledger) -> None:
    job_id = ledger.create()
    first = ledger.jobs.begin(job_id, "w1", "cpu")
    assert ledger.jobs.begin(job_id, "w1", "cpu") == first
    assert ledger.event_names(job_id) == ["queued", "running"]


def test_a_running_job_is_not_given_to_another_worker(ledger: Ledger) -> None:
    job_id = ledger.begun("w1")
    before = ledger.get(job_id)
    assert ledger.jobs.begin(job_id, "w2", "cpu") is None
    assert ledger.get(job_id) == before


def test_only_one_of_many_workers_begins_a_job(ledger: Ledger) -> None:
    job_id = ledger.create()
    begun: list[JobRecord] = []

    def begin(number: int) -> None:
        record = ledger.jobs.begin(job_id, f"w{number}", "cpu")
        if record is not None:
            begun.append(record)

    in_parallel(begin, 16)
    assert begun == [ledger.get(job_id)]


def test_an_ended_job_is_not_begun(ledger: Ledger) -> None:
    job_id = ledger.begun()
    ledger.jobs.finish(job_id, 1, SUCCEEDED)
    assert ledger.jobs.begin(job_id, "w1", "cpu") is None


def test_an_unknown_job_is_not_begun(ledger: Ledger) -> None:
    job_id = new_job_id()
    assert ledger.jobs.begin(job_id, "w1", "cpu") is None
    assert ledger.mentions(job_id) == []


@pytest.mark.parametrize(
    ("limits", "after_s", "state"),
    [
        ({"cancel_after_s": 10}, 10, CANCELED),
        ({"start_within_s": 10}, 10, EXPIRED),
        ({}, LIFETIME_S, EXPIRED),
    ],
)
def test_a_job_whose_time_is_over_is_not_begun(
    ledger: Ledger, limits: dict[str, float], after_s: float, state: JobState
) -> None:
    in_time, late = ledger.create(**limits), ledger.create(**limits)
    ledger.clock.forward(after_s - 0.001)
    assert ledger.jobs.begin(in_time, "w1", "cpu") is not None
    ledger.clock.forward(0.001)
    assert ledger.jobs.begin(late, "w1", "cpu") is None
    assert ledger.get(late).state is state


# Progress


def test_progress_is_kept(ledger: Ledger) -> None:
    job_id = ledger.begun()
    warnings = (GenerationWarning(code="prompt_cut", detail="Cut."),)
    reply = ledger.jobs.progress(job_id, 1, phase="denoise", step=2, steps=4, warnings=warnings)
    record = ledger.get(job_id)
    assert reply is CONTINUE
    assert (record.phase, record.step, record.steps, record.warnings, record.version) == ("denoise", 2, 4, warnings, 3)


def test_progress_is_streamed_under_its_version(ledger: Ledger) -> None:
    job_id = ledger.begun()
    ledger.jobs.progress(job_id, 1, phase="encode")
    ledger.jobs.progress(job_id, 1, phase="denoise", step=1, steps=4)
    first, second = ledger.progress(job_id)
    assert first == ("3-0", {"event": "progress", "phase": '"encode"', "step": "null", "steps": "null"})
    assert second == ("4-0", {"event": "progress", "phase": '"denoise"', "step": "1", "steps": "4"})
    assert ledger.event_names(job_id) == ["queued", "running"]


def test_the_newest_preview_is_kept_and_told_of(ledger: Ledger) -> None:
    job_id = ledger.begun()
    for preview in (b"old \xff", b"new \x00"):
        ledger.jobs.progress(job_id, 1, preview, phase="denoise")
    ledger.jobs.progress(job_id, 1, phase="decode")
    assert ledger.client.get(f"msd:preview:{ledger.name}:{job_id}") == b"new \x00"
    assert [entry.fields["event"] for entry in ledger.progress(job_id)] == ["preview", "preview", "progress"]


def test_the_newest_progress_is_kept(ledger: Ledger) -> None:
    job_id = ledger.begun()
    for step in range(PROGRESS_ENTRIES + 6):
        ledger.jobs.progress(job_id, 1, step=step)
    steps = [int(entry.fields["step"]) for entry in ledger.progress(job_id)]
    assert steps == list(range(6, PROGRESS_ENTRIES + 6))


def test_a_misspelt_field_is_an_error(ledger: Ledger) -> None:
    job_id = ledger.begun()
    with pytest.raises(TypeError, match="stepp"):
        ledger.jobs.progress(job_id, 1, stepp=1)


def test_progress_tells_of_a_promised_cancel(ledger: Ledger) -> None:
    job_id = ledger.begun()
    assert ledger.jobs.request_cancel(job_id) is CancelOutcome.REQUESTED
    assert ledger.jobs.progress(job_id, 1, step=1) is CANCEL


def test_progress_finds_that_the_time_to_cancel_has_come(ledger: Ledger) -> None:
    job_id = ledger.begun(cancel_after_s=10)
    ledger.clock.forward(9.999)
    assert ledger.jobs.progress(job_id, 1, step=1) is CONTINUE
    ledger.clock.forward(0.001)
    assert ledger.jobs.progress(job_id, 1, step=2) is CANCEL
    assert ledger.get(job_id).cancel_requested_at == ledger.clock.now
    assert ledger.event_names(job_id)[-1] == "cancel_requested"


# What an attempt may still write


def handed_back(ledger: Ledger) -> str:
    job_id = ledger.begun()
    ledger.jobs.requeue(job_id, 1, Requeue.WORKER_STOPPING, DIED)
    return job_id


def begun_again(ledger: Ledger) -> str:
    job_id = handed_back(ledger)
    ledger.jobs.begin(job_id, "w1", "cpu")
    return job_id


def ended(ledger: Ledger) -> str:
    job_id = ledger.begun()
    ledger.jobs.finish(job_id, 1, FAILED, error=DIED)
    return job_id


def canceled(ledger: Ledger) -> str:
    job_id = ledger.create()
    ledger.jobs.request_cancel(job_id)
    return job_id


OVER = [handed_back, begun_again, ended, canceled]


@pytest.mark.parametrize("over", OVER)
def test_progress_of_an_attempt_that_is_over_is_not_written(ledger: Ledger, over: Any) -> None:
    job_id = over(ledger)
    before = snapshot(ledger, job_id)
    assert ledger.jobs.progress(job_id, 1, b"preview", phase="denoise") is TAKEN
    assert snapshot(ledger, job_id) == before


@pytest.mark.parametrize("over", OVER)
@pytest.mark.parametrize("state", [SUCCEEDED, FAILED, CANCELED])
def test_the_end_of_an_attempt_that_is_over_is_not_written(ledger: Ledger, over: Any, state: JobState) -> None:
    job_id = over(ledger)
    before = snapshot(ledger, job_id)
    assert ledger.jobs.finish(job_id, 1, state, images=(IMAGE,)) is None
    assert snapshot(ledger, job_id) == before


@pytest.mark.parametrize("over", [begun_again, ended, canceled])
@pytest.mark.parametrize("reason", list(Requeue))
def test_an_attempt_that_is_over_cannot_be_put_back(ledger: Ledger, over: Any, reason: Requeue) -> None:
    job_id = over(ledger)
    before = snapshot(ledger, job_id)
    assert ledger.jobs.requeue(job_id, 1, reason, DIED) is None
    assert snapshot(ledger, job_id) == before


def test_nothing_is_written_of_a_record_that_is_gone(ledger: Ledger) -> None:
    job_id = ledger.begun()
    ledger.jobs.erase(job_id, None)
    assert ledger.jobs.progress(job_id, 1, b"preview", phase="denoise") is TAKEN
    assert ledger.jobs.finish(job_id, 1, SUCCEEDED) is None
    assert ledger.jobs.requeue(job_id, 1, Requeue.ATTEMPT_FAILED, DIED) is None
    assert ledger.jobs.request_cancel(job_id) is CancelOutcome.UNKNOWN
    assert ledger.jobs.pass_time(job_id) is None
    assert ledger.mentions(job_id) == []


# Ending


def test_a_job_ends_with_what_it_made(ledger: Ledger) -> None:
    job_id = ledger.begun()
    ledger.clock.forward(2)
    assert ledger.jobs.finish(job_id, 1, SUCCEEDED, images=(IMAGE,), result_attempt=1) is SUCCEEDED
    record = ledger.get(job_id)
    assert (record.state, record.images, record.result_attempt) == (SUCCEEDED, (IMAGE,), 1)
    assert (record.ended_at, record.expires_at) == (ledger.clock.now, ledger.clock.now + LIFETIME_S)


@pytest.mark.parametrize("state", [SUCCEEDED, FAILED, CANCELED])
def test_a_promised_cancel_is_kept_whatever_the_end(ledger: Ledger, state: JobState) -> None:
    job_id = ledger.begun()
    ledger.jobs.progress(job_id, 1, references=(0,))
    ledger.jobs.request_cancel(job_id)
    assert ledger.jobs.finish(job_id, 1, state, images=(IMAGE,), error=DIED) is CANCELED
    record = ledger.get(job_id)
    assert (record.state, record.images, record.references, record.error) == (CANCELED, (), (), None)


def test_progress_and_preview_go_when_a_job_ends(ledger: Ledger) -> None:
    job_id = ledger.begun()
    ledger.jobs.progress(job_id, 1, b"preview", phase="denoise")
    ledger.jobs.finish(job_id, 1, SUCCEEDED)
    assert ledger.progress(job_id) == []
    assert ledger.client.exists(f"msd:preview:{ledger.name}:{job_id}") == 0


def test_jobs_are_active_until_they_end(ledger: Ledger) -> None:
    finished, dropped, waiting, running = ledger.begun(), ledger.create(), ledger.create(), ledger.begun()
    ledger.jobs.finish(finished, 1, FAILED, error=DIED)
    ledger.jobs.request_cancel(dropped)
    assert ledger.jobs.active(ledger.name) == {JobKey(ledger.name, waiting), JobKey(ledger.name, running)}
    assert ledger.client.smembers(f"msd:running:{ledger.name}") == {f"{ledger.name}:{running}".encode()}


# Going back to the queue


@pytest.mark.parametrize("reason", list(Requeue))
def test_a_job_that_goes_back_starts_anew(ledger: Ledger, reason: Requeue) -> None:
    job_id = ledger.begun()
    ledger.jobs.progress(job_id, 1, b"preview", phase="denoise", step=1, steps=4, references=(0,))
    ledger.clock.forward(5)
    assert ledger.jobs.requeue(job_id, 1, reason, DIED) is QUEUED
    record = ledger.get(job_id)
    assert (record.phase, record.step, record.steps, record.worker, record.started_at) == (None,) * 5
    assert (record.attempt, record.queued_at, record.references) == (1, ledger.clock.now, ())
    assert ledger.client.exists(f"msd:preview:{ledger.name}:{job_id}") == 0
    assert ledger.event_names(job_id)[-1] == reason.value


def test_a_worker_that_puts_back_twice_is_told_the_same(ledger: Ledger) -> None:
    job_id = handed_back(ledger)
    before = snapshot(ledger, job_id)
    assert ledger.jobs.requeue(job_id, 1, Requeue.WORKER_STOPPING, DIED) is QUEUED
    assert snapshot(ledger, job_id) == before


@pytest.mark.parametrize("reason", [Requeue.ATTEMPT_FAILED, Requeue.ABANDONED])
def test_the_second_counted_attempt_is_the_last(ledger: Ledger, reason: Requeue) -> None:
    job_id = ledger.begun()
    ledger.jobs.requeue(job_id, 1, reason, DIED)
    ledger.jobs.begin(job_id, "w2", "cpu")
    error = JobError(code="worker_died", detail="Twice.")
    assert ledger.jobs.requeue(job_id, 2, reason, error) is FAILED
    record = ledger.get(job_id)
    assert (record.state, record.error, record.ended_at) == (FAILED, error, ledger.clock.now)
    assert ledger.jobs.active(ledger.name) == set()


@pytest.mark.parametrize(
    ("state", "has_the_job", "outcome"),
    [("busy", True, None), ("idle", False, QUEUED), ("defunct", True, QUEUED), ("failed", True, QUEUED)],
)
def test_a_job_is_not_abandoned_while_its_worker_says_that_it_has_it(
    ledger: Ledger, state: str, has_the_job: bool, outcome: JobState | None
) -> None:
    job_id, worker = ledger.create(), f"{ledger.name}-w"
    ledger.jobs.begin(job_id, worker, "cpu")
    beat = WorkerRecord(
        name=worker,
        model=ledger.name,
        state=WorkerState(state),
        device="cpu",
        host="h",
        pid=1,
        job_id=job_id if has_the_job else None,
        started_at=0.0,
    )
    Registry(ledger.client).publish_worker(beat, 10)
    assert ledger.jobs.requeue(job_id, 1, Requeue.ABANDONED, DIED) is outcome


def test_attempts_that_were_handed_back_do_not_count(ledger: Ledger) -> None:
    job_id = ledger.begun()
    for attempt in range(1, 6):
        assert ledger.jobs.requeue(job_id, attempt, Requeue.WORKER_STOPPING, DIED) is QUEUED
        ledger.jobs.begin(job_id, "w1", "cpu")
    assert ledger.jobs.requeue(job_id, 6, Requeue.ABANDONED, DIED) is QUEUED
    ledger.jobs.begin(job_id, "w1", "cpu")
    assert ledger.jobs.requeue(job_id, 7, Requeue.WORKER_STOPPING, DIED) is QUEUED
    ledger.jobs.begin(job_id, "w1", "cpu")
    assert ledger.jobs.requeue(job_id, 8, Requeue.ABANDONED, DIED) is FAILED
    assert (ledger.get(job_id).attempt, ledger.get(job_id).handed_back) == (8, 6)


@pytest.mark.parametrize("reason", list(Requeue))
def test_a_promised_cancel_is_kept_on_the_way_back(ledger: Ledger, reason: Requeue) -> None:
    job_id = ledger.begun()
    ledger.jobs.request_cancel(job_id)
    assert ledger.jobs.requeue(job_id, 1, reason, DIED) is CANCELED
    assert ledger.get(job_id).ended_at == ledger.clock.now


# Canceling


def test_a_queued_job_is_canceled_now(ledger: Ledger) -> None:
    job_id = ledger.create()
    assert ledger.jobs.request_cancel(job_id) is CancelOutcome.CANCELED
    record = ledger.get(job_id)
    assert (record.state, record.cancel_requested, record.ended_at) == (CANCELED, True, ledger.clock.now)


def test_to_cancel_twice_changes_nothing_more(ledger: Ledger) -> None:
    queued, running = ledger.create(), ledger.begun()
    for job_id, outcome in ((queued, CancelOutcome.CANCELED), (running, CancelOutcome.REQUESTED)):
        assert ledger.jobs.request_cancel(job_id) is outcome
        before = snapshot(ledger, job_id)
        ledger.clock.forward(1)
        assert ledger.jobs.request_cancel(job_id) is outcome
        assert snapshot(ledger, job_id) == before


@pytest.mark.parametrize("state", [SUCCEEDED, FAILED])
def test_an_ended_job_cannot_be_canceled(ledger: Ledger, state: JobState) -> None:
    job_id = ledger.begun()
    ledger.jobs.finish(job_id, 1, state)
    before = snapshot(ledger, job_id)
    assert ledger.jobs.request_cancel(job_id) is CancelOutcome.ENDED
    assert snapshot(ledger, job_id) == before


def test_an_unknown_job_cannot_be_canceled(ledger: Ledger) -> None:
    job_id = new_job_id()
    assert ledger.jobs.request_cancel(job_id) is CancelOutcome.UNKNOWN
    assert ledger.mentions(job_id) == []


# The passing of time


def test_time_does_nothing_before_it_is_due(ledger: Ledger) -> None:
    job_id = ledger.create(cancel_after_s=20, start_within_s=10)
    before = snapshot(ledger, job_id)
    ledger.clock.forward(9.999)
    assert ledger.jobs.pass_time(job_id) == (QUEUED, False)
    assert snapshot(ledger, job_id) == before


def test_a_job_that_does_not_start_in_time_expires(ledger: Ledger) -> None:
    job_id = ledger.create(start_within_s=10)
    ledger.clock.forward(10)
    assert ledger.jobs.pass_time(job_id) == (EXPIRED, False)
    assert ledger.event_names(job_id) == ["queued", "expired"]


def test_a_job_that_has_started_once_need_not_start_in_time_again(ledger: Ledger) -> None:
    job_id = ledger.create(start_within_s=10)
    ledger.jobs.begin(job_id, "w1", "cpu")
    ledger.jobs.requeue(job_id, 1, Requeue.WORKER_STOPPING, DIED)
    ledger.clock.forward(10)
    assert ledger.jobs.pass_time(job_id) == (QUEUED, False)


def test_a_job_that_waits_for_its_lifetime_expires(ledger: Ledger) -> None:
    job_id = ledger.create()
    ledger.clock.forward(LIFETIME_S)
    assert ledger.jobs.pass_time(job_id) == (EXPIRED, False)


def test_a_queued_job_whose_time_to_cancel_has_come_is_canceled(ledger: Ledger) -> None:
    job_id = ledger.create(cancel_after_s=10, start_within_s=10)
    ledger.clock.forward(10)
    assert ledger.jobs.pass_time(job_id) == (CANCELED, False)
    assert ledger.get(job_id).cancel_requested


def test_a_running_job_whose_time_to_cancel_has_come_is_asked_to_stop_once(ledger: Ledger) -> None:
    job_id = ledger.begun(cancel_after_s=10)
    ledger.clock.forward(10)
    assert ledger.jobs.pass_time(job_id) == (RUNNING, False)
    before = snapshot(ledger, job_id)
    assert ledger.get(job_id).cancel_requested
    ledger.clock.forward(1)
    ledger.jobs.pass_time(job_id)
    assert snapshot(ledger, job_id) == before


def test_a_running_job_has_no_lifetime(ledger: Ledger) -> None:
    job_id = ledger.begun(start_within_s=10)
    ledger.clock.forward(10 * LIFETIME_S)
    assert ledger.jobs.pass_time(job_id) == (RUNNING, False)


def test_an_ended_job_outlives_its_lifetime_unchanged(ledger: Ledger) -> None:
    job_id = ledger.begun(cancel_after_s=10)
    ledger.jobs.finish(job_id, 1, SUCCEEDED)
    before = ledger.get(job_id)
    ledger.clock.forward(LIFETIME_S - 0.001)
    assert ledger.jobs.pass_time(job_id) == (SUCCEEDED, False)
    ledger.clock.forward(0.001)
    assert ledger.jobs.pass_time(job_id) == (SUCCEEDED, True)
    assert ledger.get(job_id) == before


def test_when_time_is_next_to_change_a_job(ledger: Ledger) -> None:
    job_id = ledger.create(cancel_after_s=20, start_within_s=10)
    assert ledger.due(job_id) == 10
    ledger.jobs.begin(job_id, "w1", "cpu")
    assert ledger.due(job_id) == 20
    ledger.clock.forward(5)
    ledger.jobs.requeue(job_id, 1, Requeue.WORKER_STOPPING, DIED)
    assert ledger.due(job_id) == 15
    ledger.jobs.begin(job_id, "w1", "cpu")
    ledger.jobs.request_cancel(job_id)
    assert ledger.due(job_id) is None
    ledger.jobs.finish(job_id, 2, CANCELED)
    assert ledger.due(job_id) == LIFETIME_S


def test_a_job_without_limits_is_due_when_its_lifetime_is_over(ledger: Ledger) -> None:
    job_id = ledger.create()
    assert ledger.due(job_id) == LIFETIME_S
    ledger.jobs.begin(job_id, "w1", "cpu")
    assert ledger.due(job_id) is None


def test_what_is_due_is_listed_earliest_first(ledger: Ledger) -> None:
    late, early, never = (ledger.create(start_within_s=limit) for limit in (20, 10, 999))
    ledger.clock.forward(20)
    keys = [JobKey(ledger.name, job_id) for job_id in (early, late)]
    assert ledger.jobs.due(ledger.name, ledger.clock.now) == keys
    assert ledger.jobs.due(ledger.name, ledger.clock.now, limit=1) == keys[:1]
    for key in keys:
        ledger.jobs.pass_time(key.id)
    assert ledger.jobs.due(ledger.name, ledger.clock.now) == []
    assert ledger.get(never).state is QUEUED


def test_a_job_that_another_lifetime_made_due_is_put_off(ledger: Ledger) -> None:
    shorter = JobStore(ledger.client, ledger.name, LIFETIME_S / 2, ledger.clock)
    record = ledger.new()
    shorter.create(record)
    ledger.clock.forward(LIFETIME_S / 2)
    assert ledger.jobs.pass_time(record.id) == (QUEUED, False)
    assert ledger.due(record.id) == LIFETIME_S / 2


# Erasing


def full_job(ledger: Ledger) -> str:
    """A running job with everything that Redis may hold of a job."""
    job_id = ledger.begun(idempotency_key="key", cancel_after_s=10, start_within_s=5)
    ledger.jobs.progress(job_id, 1, b"preview", phase="denoise", step=1, steps=4)
    return job_id


def test_nothing_is_left_of_a_job_that_is_erased_without_a_mark(ledger: Ledger) -> None:
    job_id = full_job(ledger)
    assert len(ledger.mentions(job_id)) == 9
    assert ledger.jobs.erase(job_id, None) is not None
    assert ledger.mentions(job_id) == []


def test_only_the_mark_is_left_of_a_job_that_is_deleted(ledger: Ledger) -> None:
    job_id = full_job(ledger)
    before = ledger.get(job_id)
    assert ledger.jobs.erase(job_id, Gone.DELETED) == ErasedJob(before.folder, before.model, before.entry)
    mark = f"msd:gone:{ledger.name}:{job_id}"
    assert ledger.mentions(job_id) == [mark]
    assert GONE_MARK_TTL_S - 60 < ledger.client.ttl(mark) <= GONE_MARK_TTL_S == 7 * 24 * 3600


def test_only_what_has_outlived_its_lifetime_expires(ledger: Ledger) -> None:
    job_id = ledger.begun()
    assert ledger.jobs.erase(job_id, Gone.EXPIRED) is None
    ledger.jobs.finish(job_id, 1, SUCCEEDED)
    ledger.clock.forward(LIFETIME_S - 0.001)
    assert ledger.jobs.erase(job_id, Gone.EXPIRED) is None
    ledger.clock.forward(0.001)
    assert ledger.jobs.erase(job_id, Gone.EXPIRED) is not None
    assert ledger.mentions(job_id) == [f"msd:gone:{ledger.name}:{job_id}"]


@pytest.mark.parametrize(
    "damage",
    [
        {"state": '"paused"'},
        {"state": "{"},
        {"model": "{"},
        {"expires_at": '"never"'},
        {"idempotency_key": "{"},
        {"folder": "7"},
        {"version": '"x"'},
    ],
)
def test_a_record_that_cannot_be_read_can_be_erased(ledger: Ledger, damage: dict[str, str]) -> None:
    job_id = ledger.create()
    ledger.client.hset(f"msd:job:{ledger.name}:{job_id}", mapping=damage)
    assert ledger.jobs.erase(job_id, Gone.EXPIRED) is None
    assert ledger.jobs.erase(job_id, Gone.DELETED) is not None
    assert (ledger.jobs.get(job_id), ledger.jobs.gone(job_id)) == (None, Gone.DELETED)


@pytest.mark.parametrize("field", ["queued_at", "cancel_at"])
def test_a_field_that_a_script_cannot_use_concerns_this_job_alone(ledger: Ledger, field: str) -> None:
    job_id = ledger.create()
    ledger.client.hset(f"msd:job:{ledger.name}:{job_id}", field, "{")
    with pytest.raises(UnreadableJobError):
        ledger.jobs.pass_time(job_id)


def test_one_record_of_another_type_costs_no_other(ledger: Ledger) -> None:
    first, second = ledger.create(), ledger.create()
    ledger.client.delete(f"msd:job:{ledger.name}:{first}")
    ledger.client.set(f"msd:job:{ledger.name}:{first}", "rubbish")
    broken, whole = ledger.jobs.get_many([first, second])
    assert isinstance(broken, UnreadableJobError)
    assert whole == ledger.get(second)


def test_a_reason_that_only_a_newer_version_knows_means_deleted(ledger: Ledger) -> None:
    job_id = ledger.create()
    ledger.jobs.erase(job_id, Gone.DELETED)
    ledger.client.set(f"msd:gone:{ledger.name}:{job_id}", "9")
    assert ledger.jobs.gone(job_id) is Gone.DELETED


def test_what_is_gone_is_not_erased_again(ledger: Ledger) -> None:
    job_id = ledger.create()
    ledger.jobs.erase(job_id, Gone.DELETED)
    assert ledger.jobs.erase(job_id, None) is None
    assert ledger.jobs.gone(job_id) is Gone.DELETED


def test_a_job_that_never_was_is_not_gone(ledger: Ledger) -> None:
    assert ledger.jobs.gone(new_job_id()) is None


def test_an_idempotency_key_is_free_after_its_job(ledger: Ledger) -> None:
    job_id = full_job(ledger)
    ledger.jobs.erase(job_id, Gone.DELETED)
    record = ledger.new()
    assert ledger.jobs.create(record, idempotency_key="key") == (CREATED, record.id)


def test_what_has_lost_its_record_is_forgotten(ledger: Ledger) -> None:
    job_id = ledger.begun(cancel_after_s=10)
    ledger.client.delete(f"msd:job:{ledger.name}:{job_id}")
    ledger.jobs.forget(JobKey(ledger.name, job_id), ledger.name)
    assert ledger.jobs.active(ledger.name) == set()
    assert ledger.jobs.due(ledger.name, ledger.clock.now + LIFETIME_S) == []


# The event log and the counters


def test_each_transition_is_one_entry_under_its_version(ledger: Ledger) -> None:
    job_id = ledger.create()
    versions = [1]

    def note() -> None:
        versions.append(ledger.get(job_id).version)

    ledger.jobs.begin(job_id, "w1", "cpu")
    note()
    ledger.jobs.progress(job_id, 1, phase="denoise")
    ledger.clock.forward(1.5)
    ledger.jobs.requeue(job_id, 1, Requeue.ABANDONED, DIED)
    note()
    ledger.jobs.begin(job_id, "w2", "cpu")
    note()
    ledger.jobs.request_cancel(job_id)
    note()
    ledger.jobs.finish(job_id, 2, SUCCEEDED)
    note()
    events = ledger.events(job_id)
    assert [entry.id for entry in events] == [f"{version}-0" for version in versions]
    assert [tuple(entry.fields[name] for name in ("event", "state", "attempt")) for entry in events] == [
        ("queued", "queued", "0"),
        ("running", "running", "1"),
        ("abandoned", "queued", "1"),
        ("running", "running", "2"),
        ("cancel_requested", "running", "2"),
        ("canceled", "canceled", "2"),
    ]
    start = ledger.clock.now - 1.5
    assert [float(entry.fields["at"]) - start for entry in events] == [0, 0, 1.5, 1.5, 1.5, 1.5]


def test_events_and_progress_share_one_count(ledger: Ledger) -> None:
    job_id = ledger.begun()
    ledger.jobs.progress(job_id, 1, phase="encode")
    ledger.jobs.request_cancel(job_id)
    ledger.jobs.progress(job_id, 1, phase="denoise")
    ids = sorted(entry.id for entry in (*ledger.events(job_id), *ledger.progress(job_id)))
    assert ids == [f"{version}-0" for version in range(1, 6)]


def test_what_happened_is_counted(ledger: Ledger) -> None:
    job_id = ledger.begun()
    ledger.jobs.requeue(job_id, 1, Requeue.ABANDONED, DIED)
    ledger.jobs.begin(job_id, "w1", "cpu")
    ledger.jobs.requeue(job_id, 2, Requeue.ABANDONED, DIED)
    ledger.jobs.request_cancel(ledger.create())
    ledger.jobs.erase(job_id, Gone.DELETED)
    assert ledger.counts() == {
        "queued": 2,
        "running": 2,
        "abandoned": 2,
        "failed": 1,
        "canceled": 1,
        "erased_deleted": 1,
    }


def test_an_owners_jobs_are_listed_newest_first(ledger: Ledger) -> None:
    ids = []
    for _ in range(3):
        ids.append(ledger.create())
        ledger.clock.forward(1)
    first, second, third = ids
    assert [job_id for job_id, _ in ledger.jobs.ids()] == [third, second, first]
    assert [job_id for job_id, _ in ledger.jobs.ids(limit=1)] == [third]
    at = ledger.get(second).created_at
    assert [job_id for job_id, _ in ledger.jobs.ids(before=f"({at}")] == [first]


def test_a_store_with_decoded_responses_says_the_same(ledger: Ledger, redis_url: str) -> None:
    with Redis.from_url(redis_url, decode_responses=True) as client:
        jobs = JobStore(client, ledger.name, LIFETIME_S, ledger.clock)
        job_id = ledger.create()
        assert jobs.begin(job_id, "w1", "cpu") == jobs.get(job_id) == ledger.get(job_id)
        assert jobs.progress(job_id, 1) is CONTINUE
        assert jobs.active(ledger.name) == ledger.jobs.active(ledger.name)
        assert jobs.ids() == ledger.jobs.ids()
        assert jobs.finish(job_id, 1, SUCCEEDED) is SUCCEEDED


def test_scripts_outlive_a_restart_of_redis(ledger: Ledger) -> None:
    job_id = ledger.create()
    ledger.client.script_flush()
    assert ledger.jobs.begin(job_id, "w1", "cpu") is not None


def test_keys_are_read_as_they_are_written() -> None:
    record = JobRecord(id="a_-" * 8, owner="b-1", model="mini", folder="f", seed=0, attempt=12)
    key = JobKey("b-1", "a_-" * 8)
    assert JobKey.parse(str(key)) == JobKey.of_entry(record.entry) == key


def snapshot(ledger: Ledger, job_id: str) -> str:
    """Everything that Redis says of a job."""
    client, job = ledger.client, f"{ledger.name}:{job_id}"
    return json.dumps(
        [
            ledger.get(job_id).model_dump(mode="json"),
            ledger.events(job_id),
            ledger.progress(job_id),
            repr(client.get(f"msd:preview:{job}")),
            client.sismember(f"msd:active:{ledger.name}", job),
            client.sismember(f"msd:running:{ledger.name}", job),
            client.zscore(f"msd:due:{ledger.name}", job),
            ledger.counts(),
        ]
    )


def in_parallel(call: Any, times: int) -> None:
    """Call it in so many threads at once; with the thread's number, if it takes one."""
    takes_number = call.__code__.co_argcount == 1
    threads = [threading.Thread(target=call, args=(number,) * takes_number) for number in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_key_that_outlived_its_record_is_free(ledger: Ledger) -> None:
    job_id = ledger.create(idempotency_key="k")
    ledger.client.delete(f"msd:job:{ledger.name}:{job_id}")
    other = ledger.new()
    assert ledger.jobs.create(other, idempotency_key="k") == (CREATED, other.id)
    assert ledger.jobs.by_key("k") == other.id
