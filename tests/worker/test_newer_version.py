"""A newer version of the service beside worker and housekeeper: what it stores is read, and one bad record costs no other."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError, ResponseError

from ms_core.spec import GenerationWarning
from ms_jobs import keys
from ms_jobs.artifacts import Manifest
from ms_jobs.job_store import JobStore
from ms_jobs.keys import JobKey
from ms_jobs.outcomes import Gone
from ms_jobs.records import JobError, JobState, StoredImage, WorkerRecord, WorkerState
from tests.support import newer_version
from tests.support.job_helpers import Desk
from tests.support.newer_version import NEW
from worker.config import WorkerSettings
from worker.housekeeper import Housekeeper
from worker.isolation import Isolation
from worker.job_run import JobRun, WorkerContext
from worker.recovery import Recovery
from worker.watch import WorkerExit, handle_exit

QUEUED, RUNNING, SUCCEEDED = JobState.QUEUED, JobState.RUNNING, JobState.SUCCEEDED


@pytest.fixture
def keeper(desk: Desk, tmp_path: Path) -> Housekeeper:
    settings = WorkerSettings(data_dir=tmp_path / "data", recovery_grace_s=0.001)
    return Housekeeper(desk.client, desk.artifacts, desk.model, settings)


def key_of(job_id: str) -> JobKey:
    return JobKey("local", job_id)


def folder(desk: Desk, job_id: str, tmp_path: Path) -> Path:
    return tmp_path / "data" / "local" / "jobs" / desk.get(job_id).folder


def tick_until_recovered(keeper: Housekeeper) -> None:
    """Twice: what is seen first is acted upon later."""
    for _ in range(2):
        keeper.tick()
        time.sleep(0.01)


def test_the_worker_runs_a_job_of_a_newer_version(desk: Desk, context: WorkerContext, tmp_path: Path) -> None:
    job_id = desk.record()
    newer_version.add_to_file(folder(desk, job_id, tmp_path) / "request.json")
    newer_version.add_to_record(desk.client, key_of(job_id))
    JobRun(context, key_of(job_id)).run()
    assert desk.get(job_id).state is SUCCEEDED
    assert desk.client.hget(keys.job(key_of(job_id)), NEW) == b'"blue"'


def test_the_worker_leaves_a_record_alone_that_it_cannot_read(desk: Desk, context: WorkerContext) -> None:
    job_id = desk.record()
    desk.client.hset(keys.job(key_of(job_id)), "attempt", "{")
    JobRun(context, key_of(job_id)).run()
    assert desk.client.hget(keys.job(key_of(job_id)), "state") == b'"queued"'


def test_the_result_of_a_newer_version_is_taken_over_as_it_is(desk: Desk, tmp_path: Path) -> None:
    job_id = desk.record()
    desk.begin(job_id)
    record = desk.get(job_id)
    desk.artifacts.open_attempt(record.folder, 1)
    image = StoredImage(index=0, sha256="0" * 64, width=8, height=8, seed=7)
    warning = GenerationWarning("w", "A warning.")
    desk.artifacts.save_manifest(record.folder, Manifest(attempt=1, images=(image,), warnings=(warning,)))
    newer_version.add_to_file(folder(desk, job_id, tmp_path) / "attempts" / "1" / "manifest.json")
    Recovery(desk.jobs, desk.queue, desk.artifacts, desk.model, grace_s=0).sweep(set())
    assert (desk.get(job_id).state, desk.get(job_id).warnings) == (SUCCEEDED, (warning,))
    (stored,) = json.loads(desk.client.hget(keys.job(key_of(job_id)), "images"))
    assert stored[NEW] == "blue"


def beat(desk: Desk, name: str, job_id: str | None = None) -> WorkerRecord:
    record = WorkerRecord(
        name=name, model=desk.model, state=WorkerState.BUSY, device="cpu", host="h", pid=1, started_at=0, job_id=job_id
    )
    desk.registry.publish_worker(record, ttl_s=60)
    return record


@pytest.mark.parametrize("state", ["busy", "resting"])
def test_the_job_of_a_newer_worker_is_left_alone(desk: Desk, keeper: Housekeeper, state: str) -> None:
    job_id = desk.record()
    desk.begin(job_id)
    beat(desk, "w1", job_id)
    newer_version.add_to_beat(desk.client, "w1")
    text = desk.client.get(keys.worker("w1"))
    desk.client.set(keys.worker("w1"), text.replace(b'"busy"', f'"{state}"'.encode()))
    tick_until_recovered(keeper)
    assert (desk.get(job_id).state, desk.get(job_id).attempt) == (RUNNING, 1)


def test_what_a_newer_worker_said_of_itself_survives_its_exit(desk: Desk) -> None:
    beat(desk, "w1")
    newer_version.add_to_beat(desk.client, "w1")
    (record,) = desk.registry.workers(desk.model)
    recovery = Recovery(desk.jobs, desk.queue, desk.artifacts, desk.model, grace_s=0)
    handle_exit(WorkerExit(record, "It ended."), desk.registry, recovery, 60)
    stored = json.loads(desk.client.get(keys.worker("w1")))
    assert (stored["state"], stored[NEW], stored["usage"][NEW]) == ("defunct", "blue", "blue")


DAMAGE = [{"state": '"paused"'}, {"folder": "7"}, {"attempt": "{"}, {"queued_at": "{"}, {"worker": "{"}]


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: next(iter(damage)))
def test_a_bad_record_costs_no_other_its_recovery(desk: Desk, keeper: Housekeeper, damage: dict[str, str]) -> None:
    jobs = [desk.record() for _ in range(4)]
    for job_id in jobs:
        desk.begin(job_id)
    for bad in (min(jobs), max(jobs)):
        desk.client.hset(keys.job(key_of(bad)), mapping=damage)
    tick_until_recovered(keeper)
    others = sorted(jobs)[1:-1]
    assert [(desk.get(job_id).state, desk.get(job_id).attempt) for job_id in others] == [(QUEUED, 1)] * 2


@pytest.mark.parametrize("rubbish", [b"rubbish", b"\xff", b"NO:x", b":"])
def test_rubbish_among_the_active_jobs_costs_no_other(desk: Desk, keeper: Housekeeper, rubbish: bytes) -> None:
    job_id = desk.record()
    desk.begin(job_id)
    desk.client.sadd(keys.active(desk.model), rubbish)
    desk.client.zadd(keys.due(desk.model), {rubbish: 0})
    desk.client.lpush(keys.queue(desk.model), rubbish)
    tick_until_recovered(keeper)
    assert desk.get(job_id).state is QUEUED


def test_a_death_is_settled_though_another_record_is_bad(desk: Desk) -> None:
    jobs = sorted(desk.record() for _ in range(2))
    for job_id in jobs:
        desk.begin(job_id)
    desk.client.hset(keys.job(key_of(jobs[0])), "state", '"paused"')
    Recovery(desk.jobs, desk.queue, desk.artifacts, desk.model, grace_s=0).abandon_jobs_of("w1")
    assert desk.get(jobs[1]).state is QUEUED


def test_bad_records_do_not_hide_those_that_are_due(
    desk: Desk, keeper: Housekeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A busy machine may take longer; this is about the pages.
    monkeypatch.setattr("worker.housekeeper.DEADLINES_BUDGET_S", 60.0)
    monkeypatch.setattr("worker.housekeeper.PAGE", 5)
    for number in range(12):
        bad = JobKey("local", f"bad-record-of-a-job-{number:03}")
        desk.client.hset(keys.job(bad), mapping={"state": '"queued"', "model": f'"{desk.model}"', "queued_at": "{"})
        desk.client.zadd(keys.due(desk.model), {str(bad): number})
    job_id = desk.record()
    JobStore(desk.client, lifetime_s=0.001).finish(job_id, desk.begin(job_id).attempt, SUCCEEDED)
    time.sleep(0.01)
    keeper.tick()
    assert desk.jobs.gone(job_id) is Gone.EXPIRED


def test_each_task_of_a_tick_runs_on_its_own(
    desk: Desk, keeper: Housekeeper, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")

    monkeypatch.setattr(keeper, "_sweep", fail)
    job_id = desk.record()
    JobStore(desk.client, lifetime_s=0.001).finish(job_id, desk.begin(job_id).attempt, SUCCEEDED)
    time.sleep(0.01)
    for _ in range(3):
        assert keeper.tick() is True
    assert desk.jobs.gone(job_id) is Gone.EXPIRED
    told = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert [message for message in told if "WRONGTYPE" in message] == [
        "recovery: WRONGTYPE Operation against a key holding the wrong kind of value"
    ]
    assert not any(message.startswith("Redis ") for message in told)


def test_a_failure_is_told_again_after_it_was_over(caplog: pytest.LogCaptureFixture) -> None:
    isolation = Isolation()
    for fails in (True, True, False, True):
        with isolation.guard("a task"):
            if fails:
                raise ValueError("broken")
    assert len(caplog.records) == 2


def test_a_redis_that_is_away_concerns_all(desk: Desk) -> None:
    nowhere = Redis(port=1, socket_connect_timeout=0.1)
    with pytest.raises(RedisError), Isolation().guard("a task"):
        nowhere.ping()


def test_error_of_a_failed_job_of_a_newer_version_is_read(desk: Desk) -> None:
    job_id = desk.record()
    desk.jobs.finish(job_id, desk.begin(job_id).attempt, JobState.FAILED, error=JobError(code="c", detail="d."))
    newer_version.add_to_record(desk.client, key_of(job_id))
    error = desk.get(job_id).error
    assert error is not None
    assert error.code == "c"
