"""A Redis that answers and refuses: a 503 with its reason in the log once, and a readiness that tells it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from starlette.testclient import TestClient

from app.config import Settings
from app.main import create_app
from ms_jobs import keys
from ms_jobs.records import WorkerRecord, WorkerState
from ms_jobs.registry import Registry
from tests.support.job_helpers import wait_until
from tests.support.own_redis import running_redis
from tests.support.sample_requests import good_request


@pytest.fixture(scope="module")
def own_redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis for these tests alone, for all that use it find it refusing."""
    with running_redis(tmp_path_factory.mktemp("refusing-redis")) as url:
        yield url


@pytest.fixture
def admin(own_redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(own_redis_url, username="admin", password="admin") as unauthenticated:  # noqa: S106
        with redis.Redis.from_url(own_redis_url) as default:
            default.execute_command("ACL", "SETUSER", "admin", "on", ">admin", "~*", "&*", "+@all")
        yield unauthenticated
        for _, undo in CASES.values():
            undo(unauthenticated)


@pytest.fixture
def client(own_redis_url: str, settings: Settings, admin: redis.Redis) -> Iterator[TestClient]:
    settings = settings.model_copy(update={"redis_url": own_redis_url})
    record = WorkerRecord(
        name=settings.model,
        model=settings.model,
        state=WorkerState.IDLE,
        device="cpu",
        host="h",
        pid=1,
        started_at=time.time(),
    )
    Registry(admin).publish_worker(record, ttl_s=600)
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        yield client


Change = Callable[[redis.Redis], Any]
CASES: dict[str, tuple[Change, Change]] = {
    "replica": (
        lambda admin: admin.replicaof("127.0.0.1", "1"),
        lambda admin: admin.replicaof("NO", "ONE"),
    ),
    "replica without its master": (
        lambda admin: (admin.config_set("replica-serve-stale-data", "no"), admin.replicaof("127.0.0.1", "1")),
        lambda admin: (admin.replicaof("NO", "ONE"), admin.config_set("replica-serve-stale-data", "yes")),
    ),
    "full": (
        lambda admin: admin.config_set("maxmemory", "1"),
        lambda admin: admin.config_set("maxmemory", "0"),
    ),
    "too few replicas": (
        lambda admin: admin.config_set("min-replicas-to-write", "1"),
        lambda admin: admin.config_set("min-replicas-to-write", "0"),
    ),
    "no permission": (
        lambda admin: admin.execute_command("ACL", "SETUSER", "default", "-xadd"),
        lambda admin: admin.execute_command("ACL", "SETUSER", "default", "+@all"),
    ),
    "no permission for RQ's keys": (
        lambda admin: admin.execute_command("ACL", "SETUSER", "default", "resetkeys", "~msd:*"),
        lambda admin: admin.execute_command("ACL", "SETUSER", "default", "allkeys"),
    ),
    "wrong password": (
        lambda admin: (
            admin.execute_command("ACL", "SETUSER", "default", "resetpass", ">secret"),
            admin.client_kill_filter(_type="normal", skipme=True),
        ),
        lambda admin: admin.execute_command("ACL", "SETUSER", "default", "nopass"),
    ),
}


def reasons(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.name == "ms_jobs.connection"]


@pytest.mark.parametrize("case", list(CASES))
def test_what_redis_refuses_is_unavailable_and_told_once(
    client: TestClient, admin: redis.Redis, caplog: pytest.LogCaptureFixture, case: str
) -> None:
    caplog.set_level(logging.WARNING)
    refuse, undo = CASES[case]
    assert client.post("/generate", json=good_request()).status_code == 202
    refuse(admin)
    for _ in range(3):
        response = client.post("/generate", json=good_request())
        assert (response.status_code, response.json()["code"]) == (503, "queue_unavailable")
        assert "retry-after" in response.headers
    assert len(reasons(caplog)) == 1
    assert "refuses" in reasons(caplog)[0]
    undo(admin)
    assert client.post("/generate", json=good_request()).status_code == 202


@pytest.mark.parametrize("case", list(CASES))
def test_readiness_turns_false_and_true_again(client: TestClient, admin: redis.Redis, case: str) -> None:
    refuse, undo = CASES[case]
    assert client.get("/readyz").status_code == 200
    refuse(admin)
    wait_until(lambda: client.get("/readyz").status_code == 503, "a readiness that is false", 5)
    check = client.get("/readyz").json()["checks"]["redis"]
    assert (check["ok"], check["detail"].startswith("Redis refuses: ")) == (False, True)
    undo(admin)
    wait_until(lambda: client.get("/readyz").status_code == 200, "a readiness that is true", 5)


def test_suspended_workers_are_told(client: TestClient, admin: redis.Redis) -> None:
    assert client.get("/readyz").status_code == 200
    admin.set("rq:suspended", 1)
    wait_until(lambda: client.get("/readyz").status_code == 503, "a readiness that is false", 5)
    assert "rq resume" in client.get("/readyz").json()["checks"]["workers"]["detail"]
    admin.delete("rq:suspended")
    wait_until(lambda: client.get("/readyz").status_code == 200, "a readiness that is true", 5)


def test_asking_whether_redis_writes_leaves_nothing(client: TestClient, admin: redis.Redis) -> None:
    before = admin.dbsize()
    client.get("/readyz")
    assert admin.dbsize() == before
    assert admin.exists(keys.NOTHING, keys.RQ_NOTHING) == 0


@pytest.mark.parametrize("name", ["jobs", "pictures"])
def test_a_store_without_a_folder_for_jobs_is_not_ready(client: TestClient, settings: Settings, name: str) -> None:
    folder = settings.data_dir / "local" / name
    folder.parent.mkdir(parents=True)
    folder.write_text("")
    response = client.get("/readyz")
    assert (response.status_code, response.json()["checks"]["storage"]["ok"]) == (503, False)
    folder.unlink()
    assert client.get("/readyz").status_code == 200


@pytest.mark.parametrize("part", [".", "local", "local/jobs", "local/pictures"])
def test_a_folder_that_cannot_be_entered_is_told(
    client: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    closed = settings.data_dir / part
    closed.mkdir(parents=True)
    close(closed, monkeypatch)
    response = client.get("/readyz")
    assert (response.status_code, response.json()["checks"]["storage"]["ok"]) == (503, False)
    assert client.post("/generate", json=good_request()).status_code == 503


def close(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a folder is to a process that may not enter it; permissions do not stop root."""
    ask, stat, mkdir, open_file, link = os.access, Path.stat, Path.mkdir, os.open, os.link

    def is_below(path: Path) -> bool:
        return folder in Path(path).absolute().parents

    def refuse(path: Path) -> None:
        if is_below(path):
            raise PermissionError(13, "Permission denied", str(path))

    def stat_unless_closed(path: Path, **options: Any) -> Any:
        refuse(path)
        return stat(path, **options)

    def mkdir_unless_closed(path: Path, *arguments: Any, **options: Any) -> None:
        refuse(path)
        mkdir(path, *arguments, **options)

    def open_unless_closed(path: Any, *arguments: Any, **options: Any) -> int:
        refuse(path)
        return open_file(path, *arguments, **options)

    def link_unless_closed(source: Path, target: Path) -> None:
        refuse(source)
        link(source, target)

    monkeypatch.setattr(os, "open", open_unless_closed)
    monkeypatch.setattr(os, "link", link_unless_closed)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != folder and ask(path, mode))
    monkeypatch.setattr(Path, "stat", stat_unless_closed)
    monkeypatch.setattr(Path, "mkdir", mkdir_unless_closed)
