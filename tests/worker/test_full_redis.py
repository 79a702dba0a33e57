"""A Redis that answers but cannot write: what leads jobs to their end goes on where it can, and waits where it cannot."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.exceptions import OutOfMemoryError, RedisError, ResponseError

from ms_core.errors import QueueUnavailableError
from ms_jobs import connection
from ms_jobs.connection import ReasonLog, blocking_client, check_redis, is_transient
from ms_jobs.job_store import JobStore
from ms_jobs.outcomes import CancelOutcome
from ms_jobs.records import JobState, WorkerRecord, WorkerState
from tests.support.job_helpers import Desk, wait_until
from tests.support.own_redis import running_redis
from worker.config import WorkerSettings
from worker.housekeeper import Housekeeper
from worker.recovery import Recovery
from worker.watch import WorkerExit, WorkerWatch


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


def worker_of(desk: Desk) -> WorkerRecord:
    return WorkerRecord(
        name="w1", model=desk.model, state=WorkerState.IDLE, device="cpu", host="h", pid=1, started_at=0.0
    )


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
    worker = worker_of(desk)
    fill_up(desk)
    desk.registry.publish_worker(worker, ttl_s=60)
    assert desk.registry.workers(desk.model) == [worker]


def test_the_housekeeper_makes_room_in_a_full_redis(desk: Desk) -> None:
    job_id = begun(desk)
    JobStore(desk.client, lifetime_s=0.5).finish(job_id, 1, JobState.SUCCEEDED, result_attempt=1)
    keeper = Housekeeper(desk.client, desk.artifacts, desk.model, WorkerSettings())
    fill_up(desk)
    wait_until(lambda: keeper.tick() and desk.jobs.get(job_id) is None, "the job to be removed", 10)


@pytest.fixture
def desk_without_replicas(desk: Desk) -> Iterator[Desk]:
    """It answers, and refuses to write."""
    desk.client.config_set("min-replicas-to-write", "1")
    yield desk
    desk.client.config_set("min-replicas-to-write", "0")


REFUSAL = "Redis refuses: NOREPLICAS Not enough good replicas to write."


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the log says of Redis, without the line of the script that met it."""
    messages = (record.message.partition(" script: ")[0] for record in caplog.records)
    return [message for message in messages if "Redis" in message]


def test_what_redis_refuses_the_housekeeper_and_the_watch_is_told_once(
    desk_without_replicas: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk, reasons = desk_without_replicas, ReasonLog()
    keeper = Housekeeper(desk.client, desk.artifacts, desk.model, WorkerSettings(), reasons)
    recovery = Recovery(desk.jobs, desk.queue, desk.artifacts, desk.model, 3)
    watch = WorkerWatch(desk.client, recovery, desk.model, ttl_s=10, grace_s=3, reasons=reasons)
    for _ in range(3):
        assert keeper.tick() is False
    assert told(caplog) == [REFUSAL]
    watch.record_exit(WorkerExit(worker_of(desk), "The worker died."))
    watch.start()
    time.sleep(0.5)
    assert len(watch.stop(timeout_s=5)) == 1
    assert told(caplog) == [REFUSAL]


def test_the_watch_tells_what_redis_refuses(desk_without_replicas: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk = desk_without_replicas
    recovery = Recovery(desk.jobs, desk.queue, desk.artifacts, desk.model, 3)
    watch = WorkerWatch(desk.client, recovery, desk.model, ttl_s=10, grace_s=3)
    watch.record_exit(WorkerExit(worker_of(desk), "The worker died."))
    watch.start()
    wait_until(lambda: told(caplog) == [REFUSAL], "the reason", 5)
    watch.stop(timeout_s=5)


def test_a_housekeeper_that_cannot_give_its_lease_back_says_why(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    keeper = Housekeeper(desk.client, desk.artifacts, desk.model, WorkerSettings())
    assert keeper.tick() is True
    desk.client.config_set("min-replicas-to-write", "1")
    with caplog.at_level(logging.INFO, "worker.housekeeper"):
        keeper.stop()
    desk.client.config_set("min-replicas-to-write", "0")
    assert told(caplog) == [f"the housekeeper's lease will expire by itself: {REFUSAL}"]


def test_a_start_beside_a_redis_that_refuses_says_what_it_said(own_redis_url: str, desk: Desk) -> None:
    desk.client.execute_command("ACL", "SETUSER", "nobody", "on", "nopass")
    url = own_redis_url.replace("://", "://nobody:any@")
    with pytest.raises(QueueUnavailableError, match="Redis refuses: .*NOPERM|no permissions.*MSD_REDIS_URL"):
        check_redis(url)


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


def test_a_blocking_client_waits_for_a_redis_that_cannot_write_and_says_why(
    desk: Desk, own_redis_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connection, "_waits", ReasonLog())
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
    assert len(told(caplog)) == 1
    assert "Redis refuses: " in told(caplog)[0]
    make_room(desk)
    writer.join(10)
    blocking.close()
    assert desk.client.get(key) == b"1"
