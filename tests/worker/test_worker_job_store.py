from __future__ import annotations

import threading

import pytest
from job_helpers import Desk

from ms_core.config import ModelCard, Preset
from worker.contract import (
    CancelOutcome,
    JobError,
    JobState,
    JobWarning,
    ProgressReply,
    WorkerRecord,
    WorkerState,
    new_job_id,
)

QUEUED, RUNNING, SUCCEEDED, FAILED = JobState.QUEUED, JobState.RUNNING, JobState.SUCCEEDED, JobState.FAILED


def worker_record(desk: Desk, name: str = "w1") -> WorkerRecord:
    return WorkerRecord(
        name=f"{desk.model}-{name}",
        model=desk.model,
        state=WorkerState.IDLE,
        device="cpu",
        host="here",
        pid=1,
        started_at=0.0,
    )


def test_an_id_is_taken_once(desk: Desk) -> None:
    record = desk.get(desk.record())
    assert not desk.jobs.create(record.model_copy(update={"seed": 99}))
    assert desk.get(record.id).seed == record.seed


def test_records_live_for_a_day(desk: Desk) -> None:
    job_id = desk.record()
    desk.jobs.transition(job_id, {QUEUED}, RUNNING)
    assert 86_000 < desk.client.ttl(f"msd:job:{job_id}") <= 86_400


def test_an_unknown_job_is_none(desk: Desk) -> None:
    assert desk.jobs.get(new_job_id()) is None


def test_beginning_a_job_counts_the_attempt(desk: Desk) -> None:
    job_id = desk.record()
    assert desk.jobs.transition(job_id, {QUEUED}, RUNNING, worker="w1")
    record = desk.get(job_id)
    assert (record.state, record.attempt, record.worker, record.version) == (RUNNING, 1, "w1", 2)
    assert record.started_at is not None
    assert record.started_at >= record.created_at


def test_a_state_that_is_not_allowed_changes_nothing(desk: Desk) -> None:
    job_id = desk.record()
    before = desk.get(job_id)
    assert not desk.jobs.transition(job_id, {RUNNING}, SUCCEEDED)
    assert desk.get(job_id) == before


def test_a_record_that_is_gone_is_not_made_anew(desk: Desk) -> None:
    job_id = desk.record()
    desk.client.delete(f"msd:job:{job_id}")
    assert not desk.jobs.transition(job_id, {QUEUED}, RUNNING)
    assert desk.jobs.progress(job_id, phase="denoise") is ProgressReply.NOT_RUNNING
    assert desk.jobs.get(job_id) is None


def test_only_one_of_many_workers_begins_a_job(desk: Desk) -> None:
    job_id = desk.record()
    won: list[int] = []

    def begin(number: int) -> None:
        if desk.jobs.transition(job_id, {QUEUED}, RUNNING, worker=f"w{number}"):
            won.append(number)

    threads = [threading.Thread(target=begin, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert desk.get(job_id).worker == f"w{won[0]}"


def test_progress_is_written_and_grows_the_version(desk: Desk) -> None:
    job_id = desk.record()
    desk.jobs.transition(job_id, {QUEUED}, RUNNING)
    warnings = (JobWarning(code="prompt_cut", detail="Cut."),)
    reply = desk.jobs.progress(job_id, phase="denoise", step=2, steps=4, warnings=warnings)
    record = desk.get(job_id)
    assert reply is ProgressReply.CONTINUE
    assert (record.phase, record.step, record.steps, record.warnings, record.version) == ("denoise", 2, 4, warnings, 3)


def test_progress_of_an_ended_job_is_not_written(desk: Desk) -> None:
    job_id = desk.record()
    desk.jobs.transition(job_id, {QUEUED}, FAILED, error=JobError(code="c", detail="d"))
    before = desk.get(job_id)
    assert desk.jobs.progress(job_id, phase="denoise") is ProgressReply.NOT_RUNNING
    assert desk.get(job_id) == before


def test_a_misspelt_field_is_an_error(desk: Desk) -> None:
    job_id = desk.record()
    with pytest.raises(TypeError, match="stepp"):
        desk.jobs.progress(job_id, stepp=1)


def test_a_queued_job_is_canceled_now(desk: Desk) -> None:
    job_id = desk.record()
    assert desk.jobs.request_cancel(job_id) is CancelOutcome.CANCELED
    record = desk.get(job_id)
    assert record.state is JobState.CANCELED
    assert record.ended_at is not None
    assert desk.jobs.active_ids(desk.model) == set()
    assert desk.jobs.request_cancel(job_id) is CancelOutcome.CANCELED


def test_a_running_job_is_told_to_stop(desk: Desk) -> None:
    job_id = desk.record()
    desk.jobs.transition(job_id, {QUEUED}, RUNNING)
    assert desk.jobs.request_cancel(job_id) is CancelOutcome.REQUESTED
    assert desk.get(job_id).cancel_requested
    assert desk.jobs.progress(job_id, phase="denoise") is ProgressReply.CANCEL


@pytest.mark.parametrize("to", [SUCCEEDED, FAILED, QUEUED])
def test_a_promised_cancel_is_kept(desk: Desk, to: JobState) -> None:
    job_id = desk.record()
    desk.jobs.transition(job_id, {QUEUED}, RUNNING)
    desk.jobs.request_cancel(job_id)
    assert desk.jobs.transition(job_id, {RUNNING}, to)
    assert desk.get(job_id).state is JobState.CANCELED
    assert desk.get(job_id).ended_at is not None
    assert desk.jobs.active_ids(desk.model) == set()


def test_an_ended_job_cannot_be_canceled(desk: Desk) -> None:
    job_id = desk.record()
    desk.jobs.transition(job_id, {QUEUED}, RUNNING)
    desk.jobs.transition(job_id, {RUNNING}, SUCCEEDED)
    assert desk.jobs.request_cancel(job_id) is CancelOutcome.ENDED
    assert desk.get(job_id).state is SUCCEEDED


def test_an_unknown_job_cannot_be_canceled(desk: Desk) -> None:
    assert desk.jobs.request_cancel(new_job_id()) is CancelOutcome.UNKNOWN


def test_ended_jobs_are_no_longer_active(desk: Desk) -> None:
    ended, waiting = desk.record(), desk.record()
    desk.jobs.transition(ended, {QUEUED}, RUNNING)
    desk.jobs.transition(ended, {RUNNING}, SUCCEEDED)
    assert desk.jobs.active_ids(desk.model) == {waiting}


def test_requeueing_clears_the_progress(desk: Desk) -> None:
    job_id = desk.record()
    desk.jobs.transition(job_id, {QUEUED}, RUNNING, worker="w1")
    desk.jobs.progress(job_id, phase="denoise", step=1, steps=4)
    desk.jobs.transition(job_id, {RUNNING}, QUEUED)
    record = desk.get(job_id)
    assert (record.phase, record.step, record.steps, record.worker, record.started_at) == (None,) * 5
    assert record.attempt == 1


def test_workers_are_seen_until_they_retire(desk: Desk) -> None:
    first, second = worker_record(desk, "w1"), worker_record(desk, "w2")
    desk.jobs.publish_worker(first, ttl_s=60)
    desk.jobs.publish_worker(second, ttl_s=60)
    desk.jobs.retire_worker(first.name, desk.model)
    assert desk.jobs.workers(desk.model) == [second]


def test_a_worker_that_beats_no_more_is_gone(desk: Desk) -> None:
    record = worker_record(desk)
    desk.jobs.publish_worker(record, ttl_s=60)
    assert 0 < desk.client.ttl(f"msd:worker:{record.name}") <= 60
    desk.client.delete(f"msd:worker:{record.name}")
    assert desk.jobs.workers(desk.model) == []


def test_a_card_comes_back_as_it_was(desk: Desk) -> None:
    card = ModelCard(name="golden", max_subjects=3, presets={"fast": Preset(num_inference_steps=4)})
    assert desk.jobs.card(desk.model) is None
    desk.jobs.publish_card(desk.model, card)
    assert desk.jobs.card(desk.model) == card
