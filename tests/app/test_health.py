"""Liveness and readiness, with workers that say so in Redis."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis
from starlette.testclient import TestClient

from app.config import Settings
from app.main import create_app
from ms_jobs.records import JobError, WorkerRecord, WorkerState
from ms_jobs.registry import Registry


def publish(registry: Registry, model: str, *states: WorkerState, phase: str | None = None) -> None:
    for index, state in enumerate(states):
        error = JobError(code="model_not_found", detail="No weights.") if state is WorkerState.FAILED else None
        record = WorkerRecord(
            name=f"{model}-{index}",
            model=model,
            state=state,
            phase=phase,
            device="cpu",
            host="here",
            pid=index + 1,
            started_at=time.time(),
            error=error,
        )
        registry.publish_worker(record, ttl_s=30)


def test_a_process_that_answers_is_alive(client: TestClient) -> None:
    response = client.get("/livez")
    assert (response.status_code, response.json()) == (200, {"status": "alive"})


def test_it_lives_without_redis(settings: Settings) -> None:
    nowhere = settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    with TestClient(create_app(nowhere)) as client:
        assert client.get("/livez").status_code == 200


STARTING, IDLE, BUSY, FAILED = WorkerState.STARTING, WorkerState.IDLE, WorkerState.BUSY, WorkerState.FAILED


@pytest.mark.parametrize(
    ("states", "code", "status"),
    [
        ([], 503, "starting"),
        ([STARTING], 503, "starting"),
        ([STARTING, FAILED], 503, "starting"),
        ([FAILED], 503, "unavailable"),
        ([IDLE], 200, "ready"),
        ([BUSY], 200, "ready"),
        ([IDLE, BUSY], 200, "ready"),
        ([IDLE, STARTING], 200, "degraded"),
        ([BUSY, FAILED], 200, "degraded"),
    ],
)
def test_readiness_follows_the_workers(
    client: TestClient, registry: Registry, settings: Settings, states: list[WorkerState], code: int, status: str
) -> None:
    publish(registry, settings.model, *states)
    response = client.get("/readyz")
    assert (response.status_code, response.json()["status"]) == (code, status)
    assert ("retry-after" in response.headers) == (code == 503)


def test_the_phase_of_the_start_is_told(client: TestClient, registry: Registry, settings: Settings) -> None:
    assert client.get("/readyz").json()["phase"] == "waiting for a worker"
    publish(registry, settings.model, STARTING, phase="load")
    assert client.get("/readyz").json()["phase"] == "load"


def test_a_worker_that_cannot_work_tells_why(client: TestClient, registry: Registry, settings: Settings) -> None:
    publish(registry, settings.model, FAILED)
    assert "No weights." in client.get("/readyz").json()["checks"]["workers"]["detail"]


def test_workers_of_another_model_do_not_count(client: TestClient, registry: Registry, settings: Settings) -> None:
    publish(registry, f"{settings.model}-other", IDLE)
    assert client.get("/readyz").json()["status"] == "starting"


def test_a_redis_that_may_lose_jobs_is_named_and_ready_stays_as_it_is(
    client: TestClient, registry: Registry, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(registry, settings.model, IDLE)
    assert client.get("/readyz").json()["warnings"] == []
    told = {"aof_enabled": 0, "maxmemory_policy": "allkeys-lru"}
    monkeypatch.setattr(redis.Redis, "info", lambda self: told)
    response = client.get("/readyz")
    evicts, forgets = response.json()["warnings"]
    assert (response.status_code, response.json()["status"]) == (200, "ready")
    assert "deletes keys (maxmemory-policy allkeys-lru)" in evicts
    assert "appendonly yes" in forgets


def test_without_redis_it_is_unavailable(settings: Settings) -> None:
    nowhere = settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    with TestClient(create_app(nowhere)) as client:
        response = client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["status"] == "unavailable"
    assert {name: check["ok"] for name, check in response.json()["checks"].items()} == {
        "redis": False,
        "storage": True,
        "workers": False,
    }


def test_without_storage_it_is_unavailable(registry: Registry, settings: Settings, tmp_path: Path) -> None:
    publish(registry, settings.model, IDLE)
    blocked = tmp_path / "file"
    blocked.write_text("")
    with TestClient(create_app(settings.model_copy(update={"data_dir": blocked}))) as client:
        response = client.get("/readyz")
    assert (response.status_code, response.json()["status"]) == (503, "unavailable")
    assert response.json()["checks"]["storage"]["ok"] is False


@pytest.fixture
def silent_redis_url() -> Iterator[str]:
    """Of a Redis that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"


def test_who_asks_nobody_does_not_wait_behind_those_who_wait_for_redis(
    settings: Settings, silent_redis_url: str
) -> None:
    waiting = settings.model_copy(update={"redis_url": silent_redis_url, "redis_timeout_s": 3.0})
    with TestClient(create_app(waiting)) as client, ThreadPoolExecutor(60) as pool:
        futures = [pool.submit(client.get, "/models") for _ in range(60)]
        time.sleep(0.5)
        for path in ("/livez", "/problems/invalid_box"):
            begun = time.monotonic()
            assert client.get(path).status_code == 200
            assert time.monotonic() - begun < 1
        assert not any(future.done() for future in futures)


def test_a_store_without_permission_to_write_is_not_ready(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests may run as root, who may write everywhere."""
    monkeypatch.setattr("ms_jobs.files.os.access", lambda path, mode: False)
    response = client.get("/readyz")
    assert (response.status_code, response.json()["checks"]["storage"]["ok"]) == (503, False)
