from __future__ import annotations

from pathlib import Path

import pytest

from ms_core.errors import AttemptOverError
from ms_jobs.artifacts import Manifest
from ms_jobs.keys import JobKey
from ms_jobs.records import JobState, StoredImage
from tests.support.job_helpers import Desk
from worker.recovery import Recovery

QUEUED, RUNNING = JobState.QUEUED, JobState.RUNNING
NOBODY: set[str] = set()


@pytest.fixture
def recovery(desk: Desk) -> Recovery:
    """Acts on what it sees at once."""
    return Recovery(desk.jobs, desk.queue, desk.artifacts, desk.model, grace_s=0)


def test_the_job_of_a_dead_worker_is_queued_again(desk: Desk, recovery: Recovery) -> None:
    job_id = desk.record()
    desk.begin(job_id)
    recovery.sweep(NOBODY)
    assert desk.get(job_id).state is QUEUED
    assert desk.queue.waiting() == {JobKey("local", job_id)}


def test_the_job_of_a_living_worker_is_left_alone(desk: Desk, recovery: Recovery) -> None:
    job_id = desk.record()
    desk.begin(job_id)
    recovery.sweep({"w1"})
    assert desk.get(job_id).state is RUNNING
    assert desk.queue.waiting() == set()


def test_the_second_death_fails_the_job(desk: Desk, recovery: Recovery) -> None:
    job_id = desk.record()
    desk.begin(job_id)
    recovery.sweep(NOBODY)
    desk.begin(job_id)
    recovery.sweep(NOBODY)
    record = desk.get(job_id)
    assert record.state is JobState.FAILED
    assert record.error is not None
    assert record.error.code == "worker_died"
    assert record.error.detail.endswith(".")


def test_a_job_that_is_in_no_queue_is_queued_again(desk: Desk, recovery: Recovery) -> None:
    job_id = desk.record()
    recovery.sweep(NOBODY)
    assert desk.queue.waiting() == {JobKey("local", job_id)}


def test_a_waiting_job_is_not_queued_twice(desk: Desk, recovery: Recovery) -> None:
    job_id = desk.submit()
    recovery.sweep(NOBODY)
    assert desk.client.lrange(f"rq:queue:generate-{desk.model}", 0, -1) == [desk.get(job_id).entry.encode()]


def test_a_job_whose_pictures_are_stored_has_succeeded(desk: Desk, recovery: Recovery) -> None:
    job_id = desk.record()
    desk.begin(job_id)
    image = StoredImage(index=0, sha256="0" * 64, width=8, height=8, seed=7)
    folder = desk.get(job_id).folder
    desk.artifacts.open_attempt(folder, 1)
    desk.artifacts.save_manifest(folder, Manifest(attempt=1, images=(image,)))
    recovery.sweep(NOBODY)
    record = desk.get(job_id)
    assert (record.state, record.images) == (JobState.SUCCEEDED, (image,))


def test_an_abandoned_job_whose_cancel_was_promised_is_canceled(desk: Desk, recovery: Recovery) -> None:
    job_id = desk.record()
    desk.begin(job_id)
    desk.jobs.request_cancel(job_id)
    recovery.sweep(NOBODY)
    assert desk.get(job_id).state is JobState.CANCELED


def test_a_job_whose_record_is_gone_is_forgotten(desk: Desk, recovery: Recovery) -> None:
    job_id = desk.record()
    desk.client.delete(f"msd:job:local:{job_id}")
    recovery.sweep(NOBODY)
    assert desk.jobs.active(desk.model) == set()


def test_one_look_is_not_enough(desk: Desk) -> None:
    recovery = Recovery(desk.jobs, desk.queue, desk.artifacts, desk.model, grace_s=3600)
    job_id = desk.record()
    desk.begin(job_id)
    recovery.sweep(NOBODY)
    recovery.sweep(NOBODY)
    assert desk.get(job_id).state is RUNNING


def test_looks_before_redis_was_away_do_not_count(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("worker.recovery.time.monotonic", lambda: clock[0])
    recovery = Recovery(desk.jobs, desk.queue, desk.artifacts, desk.model, grace_s=3)
    job_id = desk.record()
    desk.begin(job_id)
    recovery.sweep(NOBODY)
    recovery.start_over()
    clock[0] = 10.0
    recovery.sweep(NOBODY)
    assert desk.get(job_id).state is RUNNING
    clock[0] = 14.0
    recovery.sweep(NOBODY)
    assert desk.get(job_id).state is QUEUED


def test_the_jobs_of_a_worker_that_was_seen_to_die_are_queued_at_once(desk: Desk) -> None:
    recovery = Recovery(desk.jobs, desk.queue, desk.artifacts, desk.model, grace_s=3600)
    left, other = desk.record(), desk.record()
    desk.begin(left, "w1")
    desk.begin(other, "w2")
    recovery.abandon_jobs_of("w1")
    assert (desk.get(left).state, desk.get(other).state) == (QUEUED, RUNNING)
    assert desk.queue.waiting() == {JobKey("local", left)}


def test_a_job_that_its_living_worker_has_forgotten_is_queued_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("worker.recovery.time.monotonic", lambda: clock[0])
    recovery = Recovery(desk.jobs, desk.queue, desk.artifacts, desk.model, grace_s=3)
    job_id, other = desk.record(), desk.record()
    for moment, at_work, state in (
        (0, None, RUNNING),
        (12, job_id, RUNNING),
        (13, other, RUNNING),
        (27, other, QUEUED),
    ):
        if moment == 0:
            desk.begin(job_id)
        clock[0] = float(moment)
        recovery.sweep({"w1"}, {"w1": at_work}, beat_ttl_s=10)
        assert desk.get(job_id).state is state


def test_what_comes_after_the_last_attempt_was_given_up_is_not_taken(desk: Desk, recovery: Recovery) -> None:
    job_id = desk.record()
    for attempt in (1, 2):
        folder = desk.begin(job_id).folder
        desk.artifacts.open_attempt(folder, attempt)
        recovery.sweep(NOBODY)
    assert desk.get(job_id).state is JobState.FAILED
    with pytest.raises(AttemptOverError):
        desk.artifacts.save_manifest(folder, Manifest(attempt=2, images=()))


def test_storage_that_cannot_be_read_is_waited_for(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("worker.recovery.time.monotonic", lambda: clock[0])
    recovery = Recovery(desk.jobs, desk.queue, desk.artifacts, desk.model, grace_s=0)
    job_id = desk.record()
    folder = desk.begin(job_id).folder
    desk.artifacts.open_attempt(folder, 1)
    # A folder where a file is expected cannot be read, whoever reads it.
    (tmp_path / "data" / "local" / "jobs" / folder / "attempts" / "1" / "manifest.json").mkdir()
    for moment, state in ((0, RUNNING), (30, RUNNING), (61, QUEUED)):
        clock[0] = float(moment)
        recovery.sweep(NOBODY)
        assert desk.get(job_id).state is state
