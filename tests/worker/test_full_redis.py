"""A Redis that answers but cannot write: what leads jobs to their end goes on where it can, and waits where it cannot."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.exceptions import OutOfMemoryError, RedisError, ResponseError

from ms_jobs.connection import blocking_client, is_transient
from ms_jobs.job_store import JobStore
from ms_jobs.outcomes import CancelOutcome
from ms_jobs.records import JobState, WorkerRecord, WorkerState
from tests.support.job_helpers import Desk, wait_until
from tests.support.own_redis import running_redis
from worker.config import WorkerSettings
from worker.housekeeper import Housekeeper


@pytest.fixture(scope="module")
def own_redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis for these tests alone, for all that use it find it full."""
    with running_redis(tmp_path_factory.mktemp("full-redis")) as url:
        yield url


@pytest.fixture
def desk(own_redis_url: str, tmp_path: Path) -> Iterator[Desk]:
    desk = Desk.open(own_redis_url, tmp_path / "data", f"test-{secrets.token_hex(4)}")
    yield desk
    make_room(desk)
    desk.client.close()


def fill_up(desk: Desk) -> None:
    desk.client.config_set("maxmemory", "1")
    with pytest.raises(OutOfMemoryError):
        desk.client.set("msd:one-more", "1")


def make_room(desk: Desk) -> None:
    desk.client.config_set("maxmemory", "0")


def begun(desk: Desk) -> str:
    job_id = desk.record()
    assert desk.jobs.begin(job_id, "w1", "cpu") is not None
    return job_id


def test_a_full_redis_takes_no_new_job(desk: Desk) -> None:
    fill_up(desk)
    with pytest.raises(RedisError) as caught:
        desk.record()
    assert is_transient(caught.value)
    assert desk.jobs.active(desk.model) == set()


def test_a_job_ends_in_a_full_redis(desk: Desk) -> None:
    job_id = begun(desk)
    fill_up(desk)
    assert desk.jobs.finish(job_id, 1, JobState.SUCCEEDED, result_attempt=1) is JobState.SUCCEEDED


def test_a_cancel_is_promised_in_a_full_redis(desk: Desk) -> None:
    job_id = begun(desk)
    fill_up(desk)
    assert desk.jobs.request_cancel(job_id) is CancelOutcome.REQUESTED


def test_a_worker_is_seen_to_live_in_a_full_redis(desk: Desk) -> None:
    worker = WorkerRecord(
        name="w1", model=desk.model, state=WorkerState.IDLE, device="cpu", host="h", pid=1, started_at=0.0
    )
    fill_up(desk)
    desk.registry.publish_worker(worker, ttl_s=60)
    assert desk.registry.workers(desk.model) == [worker]


def test_the_housekeeper_makes_room_in_a_full_redis(desk: Desk) -> None:
    job_id = begun(desk)
    JobStore(desk.client, lifetime_s=0.5).finish(job_id, 1, JobState.SUCCEEDED, result_attempt=1)
    keeper = Housekeeper(desk.client, desk.artifacts, desk.model, WorkerSettings())
    fill_up(desk)
    wait_until(lambda: keeper.tick() and desk.jobs.get(job_id) is None, "the job to be removed", 10)


@pytest.mark.parametrize(
    "text",
    [
        "MISCONF Errors writing to the AOF file: No space left on device",
        "READONLY You can't write against a read only replica.",
        "Error running script (call to f_1): @user_script:4: @user_script: 4: -READONLY You can't write",
        "Error running script (call to f_1): @user_script:4: @user_script: 4: -OOM command not allowed",
        "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "NOREPLICAS Not enough good replicas to write.",
        "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
        "NOPERM this user has no permissions to run the 'set' command",
        "ERR ACL failure in script: User u has no permissions to run the 'xadd' command script: f_1",
        "The user executing the script can't run this command or subcommand script: f_1",
        "DB index is out of range",
    ],
)
def test_a_redis_that_cannot_write_is_waited_for(text: str) -> None:
    assert is_transient(ResponseError(text))


@pytest.mark.parametrize(
    "text",
    [
        "WRONGTYPE Operation against a key",
        "ERR unknown command 'ROOM '",
        "BUSYGROUP Consumer Group name already exists",
        "ERR Error running script: @user_script:3: attempt to perform arithmetic on a nil value",
    ],
)
def test_a_mistake_of_ours_is_not_waited_for(text: str) -> None:
    assert not is_transient(ResponseError(text))


def test_a_blocking_client_waits_for_a_redis_that_cannot_write(desk: Desk, own_redis_url: str) -> None:
    key = f"msd:test:{desk.model}"
    fill_up(desk)
    blocking = blocking_client(own_redis_url)

    def write() -> None:
        with blocking.pipeline() as pipeline:
            pipeline.set(key, "1", ex=60)
            pipeline.execute()

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    writer.join(0.5)
    assert writer.is_alive()
    make_room(desk)
    writer.join(10)
    assert desk.client.get(key) == b"1"
