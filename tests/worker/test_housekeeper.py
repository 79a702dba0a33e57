from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis

from ms_jobs.asset_variants import NewVariant
from ms_jobs.connection import redis_client
from ms_jobs.job_store import JobStore
from ms_jobs.keys import JobKey
from ms_jobs.lease import Lease
from ms_jobs.outcomes import Gone
from ms_jobs.records import JobState
from tests.support.job_helpers import PICTURES, Desk, picture_png
from worker.config import WorkerSettings
from worker.housekeeper import FILES_AGE_S, Housekeeper

DAY_S = 24 * 3600.0


@pytest.fixture
def clients(redis_url: str) -> Iterator[Callable[[], Redis]]:
    """Clients of the shared Redis."""
    made: list[Redis] = []

    def make() -> Redis:
        made.append(redis_client(redis_url))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture
def keeper(desk: Desk, clients: Callable[[], Redis], tmp_path: Path) -> Housekeeper:
    settings = WorkerSettings(data_dir=tmp_path / "data", lifetime_s=DAY_S)
    return Housekeeper(clients(), desk.artifacts, desk.model, settings)


def with_lifetime(desk: Desk, lifetime_s: float = 0.001) -> Desk:
    """The same desk, whose jobs last for a moment only."""
    return dataclasses.replace(desk, jobs=JobStore(desk.client, lifetime_s=lifetime_s))


def folder_of(desk: Desk, job_id: str, tmp_path: Path) -> Path:
    return tmp_path / "data" / "local" / "jobs" / desk.get(job_id).folder


def make_old(path: Path, age_s: float = FILES_AGE_S + 1) -> None:
    then = time.time() - age_s
    os.utime(path, (then, then))


def files_cleared(keeper: Housekeeper, age_s: float) -> list[str]:
    """Names of the files that were removed; in the queue others that share this Redis may have left something."""
    return [name for name in keeper.clear_leftovers(age_s) if " " not in name]


def test_of_two_contenders_one_holds_the_lease(clients: Callable[[], Redis]) -> None:
    first, second = (Lease(clients(), "msd:housekeeper:lease-of-two", 60) for _ in range(2))
    assert (first.hold(), second.hold(), first.hold()) == (True, False, True)
    assert (first.held, second.held) == (True, False)
    first.release()
    assert (first.held, second.hold()) == (False, True)


def test_only_its_holder_can_release_a_lease(clients: Callable[[], Redis]) -> None:
    first, second = (Lease(clients(), "msd:housekeeper:lease-released", 60) for _ in range(2))
    first.hold()
    second.release()
    assert second.hold() is False


def test_a_lease_that_ran_out_is_no_longer_held_and_another_takes_it(clients: Callable[[], Redis]) -> None:
    first, second = (Lease(clients(), "msd:housekeeper:lease-run-out", 0.2) for _ in range(2))
    first.hold()
    time.sleep(0.3)
    assert (first.held, second.hold(), first.hold()) == (False, True, False)


def test_a_job_over_its_lifetime_is_erased_with_its_files(desk: Desk, keeper: Housekeeper, tmp_path: Path) -> None:
    job_id = desk.record()
    record = desk.begin(job_id)
    with_lifetime(desk).jobs.finish(job_id, record.attempt, JobState.SUCCEEDED)
    folder = folder_of(desk, job_id, tmp_path)
    time.sleep(0.01)
    assert keeper.tick() is True
    assert (desk.jobs.get(job_id), desk.jobs.gone(job_id)) == (None, Gone.EXPIRED)
    assert not folder.exists()
    assert not list((tmp_path / "data" / "local" / "pictures").iterdir())


def test_jobs_of_all_owners_are_kept_and_erased_alike(desk: Desk, keeper: Housekeeper, tmp_path: Path) -> None:
    theirs = dataclasses.replace(desk, jobs=desk.jobs.for_owner("alice"), artifacts=desk.artifacts.for_owner("alice"))
    kept, over = theirs.submit(), theirs.record()
    attempt = theirs.begin(over).attempt
    JobStore(desk.client, "alice", 0.001).finish(over, attempt, JobState.SUCCEEDED)
    time.sleep(0.01)
    keeper.tick()
    assert (theirs.jobs.get(over), theirs.jobs.gone(over)) == (None, Gone.EXPIRED)
    files = list((tmp_path / "data" / "alice" / "jobs").iterdir())
    assert [path.name for path in files] == [theirs.get(kept).folder]


def test_a_job_within_its_lifetime_stays(desk: Desk, keeper: Housekeeper, tmp_path: Path) -> None:
    job_id = desk.submit()
    folder = folder_of(desk, job_id, tmp_path)
    keeper.tick()
    assert (desk.get(job_id).state, folder.exists()) == (JobState.QUEUED, True)


def test_a_job_that_waited_too_long_leaves_the_queue(desk: Desk, clients: Callable[[], Redis], tmp_path: Path) -> None:
    settings = WorkerSettings(data_dir=tmp_path / "data", lifetime_s=0.01)
    job_id = with_lifetime(desk, 0.01).submit()
    entry = desk.get(job_id).entry
    time.sleep(0.02)
    Housekeeper(clients(), desk.artifacts, desk.model, settings).tick()
    assert desk.client.llen(f"rq:queue:generate-{desk.model}") == 0
    assert desk.client.exists(f"rq:job:{entry}") == 0


def test_all_that_is_due_is_done_in_one_tick(desk: Desk, keeper: Housekeeper, monkeypatch: pytest.MonkeyPatch) -> None:
    # A busy machine may take longer; this is about the pages.
    monkeypatch.setattr("worker.housekeeper.DEADLINES_BUDGET_S", 60.0)
    jobs = [with_lifetime(desk).record() for _ in range(150)]
    for job_id in jobs:
        desk.jobs.request_cancel(job_id)
        desk.client.hset(f"msd:job:local:{job_id}", "expires_at", "1")
        desk.client.zadd(f"msd:due:{desk.model}", {f"local:{job_id}": 1})
    keeper.tick()
    assert {desk.jobs.gone(job_id) for job_id in jobs} == {Gone.EXPIRED}


def test_a_due_job_without_a_record_is_forgotten(desk: Desk, keeper: Housekeeper) -> None:
    job_id = desk.record()
    desk.client.zadd(f"msd:due:{desk.model}", {f"local:{job_id}": 1})
    desk.client.delete(f"msd:job:local:{job_id}")
    keeper.tick()
    assert desk.jobs.due(desk.model, time.time() + 2 * DAY_S) == []


def test_a_second_one_does_nothing(desk: Desk, keeper: Housekeeper, clients: Callable[[], Redis]) -> None:
    other = Housekeeper(clients(), desk.artifacts, desk.model, WorkerSettings())
    assert other.tick() is True
    desk.client.zadd(f"msd:due:{desk.model}", {"local:" + "x" * 22: 1})
    assert keeper.tick() is False
    assert desk.jobs.due(desk.model, time.time()) == [JobKey("local", "x" * 22)]
    other.stop()
    assert keeper.tick() is True
    assert desk.jobs.due(desk.model, time.time()) == []


def test_who_takes_the_lease_again_starts_over_and_who_keeps_it_does_not(
    desk: Desk, clients: Callable[[], Redis], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A busy machine may take longer between two ticks.
    monkeypatch.setattr("worker.housekeeper.LEASE_TTL_S", 600.0)
    keeper = Housekeeper(clients(), desk.artifacts, desk.model, WorkerSettings(data_dir=tmp_path / "data"))
    desk.record()
    keeper.tick()
    folder = folder_of(desk, lost := desk.record(), tmp_path)
    make_old(folder)
    desk.jobs.erase(lost, None)
    keeper.tick()
    assert folder.exists()
    keeper._lease.release()
    keeper.tick()
    assert not folder.exists()


def test_old_files_that_belong_to_no_job_are_removed(desk: Desk, keeper: Housekeeper, tmp_path: Path) -> None:
    kept, lost, young = desk.record(), desk.record(), desk.record()
    folders = [folder_of(desk, job_id, tmp_path) for job_id in (kept, lost, young)]
    for folder in folders[:2]:
        make_old(folder)
    for job_id in (lost, young):
        desk.jobs.erase(job_id, None)
    keeper.tick()
    assert [folder.exists() for folder in folders] == [True, False, True]


def test_a_second_folder_of_a_job_is_removed(desk: Desk, keeper: Housekeeper, tmp_path: Path) -> None:
    job_id = desk.record()
    with desk.artifacts.new_folder(job_id) as second:
        second.save_request(desk.request(), PICTURES)
    assert files_cleared(keeper, age_s=0) == [second.name]
    assert folder_of(desk, job_id, tmp_path).exists()


def test_files_of_others_are_left_alone(desk: Desk, keeper: Housekeeper, tmp_path: Path) -> None:
    desk.record()
    foreign = tmp_path / "data" / "local" / "jobs" / "notes-of-the-operator"
    foreign.mkdir()
    assert files_cleared(keeper, age_s=0) == []
    assert foreign.exists()


@pytest.mark.parametrize(("mark", "age_s", "stays"), [(False, 60, True), (True, 60, False), (False, 2 * DAY_S, False)])
def test_finished_pictures_whose_record_redis_lost_stay_for_their_lifetime(
    desk: Desk, keeper: Housekeeper, tmp_path: Path, mark: bool, age_s: float, stays: bool
) -> None:
    job_id = desk.record()
    folder = folder_of(desk, job_id, tmp_path)
    desk.artifacts.open_attempt(folder.name, 1)
    (folder / "attempts" / "1" / "manifest.json").write_text('{"attempt": 1, "images": []}')
    make_old(folder, age_s)
    desk.jobs.erase(job_id, Gone.DELETED if mark else None)
    keeper.clear_leftovers(age_s=0)
    assert folder.exists() is stays


def test_what_a_dead_worker_left_in_the_queue_is_removed(desk: Desk, keeper: Housekeeper) -> None:
    job_id = desk.submit()
    entry = desk.get(job_id).entry
    queue = f"rq:queue:generate-{desk.model}"
    desk.client.lmove(queue, f"{queue}:intermediate")
    desk.client.zadd(f"rq:wip:generate-{desk.model}", {f"{entry}:0123": time.time() + DAY_S})
    desk.client.sadd(f"rq:workers:generate-{desk.model}", "rq:worker:nobody")
    desk.jobs.request_cancel(job_id)
    keeper.clear_leftovers(age_s=0)
    assert desk.client.keys(f"{queue}*") == []
    assert desk.client.keys(f"rq:*generate-{desk.model}") == []
    assert desk.client.exists(f"rq:job:{entry}") == 0


def test_a_heartbeat_that_rq_noted_too_late_is_removed(desk: Desk, keeper: Housekeeper) -> None:
    job_id = desk.record()
    entry = desk.get(job_id).entry
    desk.jobs.request_cancel(job_id)
    desk.client.hset(f"rq:job:{entry}", "last_heartbeat", "2026-11-22T20:47:33.421033Z")
    keeper.clear_leftovers(age_s=60)
    assert desk.client.exists(f"rq:job:{entry}") == 1
    keeper.clear_leftovers(age_s=0)
    assert desk.client.exists(f"rq:job:{entry}") == 0


def test_jobs_of_others_that_use_rq_are_left_alone(desk: Desk, keeper: Housekeeper) -> None:
    foreign = "rq:job:0f8fad5b-d9cb-469f-a165-70867728950e"
    desk.client.hset(foreign, "status", "queued")
    keeper.clear_leftovers(age_s=0)
    assert desk.client.exists(foreign) == 1
    desk.client.delete(foreign)


def test_the_entry_of_a_waiting_job_stays_in_the_queue(desk: Desk, keeper: Housekeeper) -> None:
    job_id = desk.submit()
    keeper.clear_leftovers(age_s=0)
    entry = desk.get(job_id).entry
    assert desk.client.lrange(f"rq:queue:generate-{desk.model}", 0, -1) == [entry.encode()]
    assert desk.client.exists(f"rq:job:{entry}") == 1


def test_the_records_that_rq_keeps_of_a_running_job_stay(desk: Desk, keeper: Housekeeper) -> None:
    job_id = desk.submit()
    entry = desk.get(job_id).entry
    desk.begin(job_id)
    execution = {f"{entry}:0123": time.time() + DAY_S}
    desk.client.zadd(f"rq:wip:generate-{desk.model}", execution)
    keeper.clear_leftovers(age_s=0)
    assert desk.client.zcard(f"rq:wip:generate-{desk.model}") == 1
    assert desk.client.exists(f"rq:job:{entry}") == 1


def test_a_redis_that_is_away_ends_nothing(tmp_path: Path, desk: Desk) -> None:
    client = redis_client(f"unix://{tmp_path}/nothing.sock")
    keeper = Housekeeper(client, desk.artifacts, desk.model, WorkerSettings(data_dir=tmp_path))
    assert keeper.tick() is False
    keeper.stop()


def test_assets_go_when_they_were_not_used_for_their_lifetime(
    desk: Desk, clients: Callable[[], Redis], tmp_path: Path
) -> None:
    assets = desk.artifacts.for_owner("alice").assets(100)
    variant = NewVariant(picture_png((255, 0, 0)), 32, 32, {})
    with assets.adding() as new:
        new.add(False, {"shown": variant, "exact": variant, "mask": variant})
        (asset,) = assets.publish(new)
    settings = WorkerSettings(data_dir=tmp_path / "data", asset_lifetime_s=100)
    keeper = Housekeeper(clients(), desk.artifacts, desk.model, settings)
    keeper.tick()
    assert assets.find(asset.id) == asset
    make_old(tmp_path / "data" / "alice" / "assets" / asset.id / "used", 101)
    assert asset.id in keeper.clear_leftovers(FILES_AGE_S)


def test_a_tick_clears_assets(desk: Desk, keeper: Housekeeper, tmp_path: Path) -> None:
    left = tmp_path / "data" / "local" / "assets" / ".0123456789abcdef"
    left.mkdir(parents=True)
    make_old(left)
    assert keeper.tick()
    assert not left.exists()
