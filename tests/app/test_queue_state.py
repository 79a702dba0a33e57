"""``GET /queue``: how many jobs wait, for how long, and who works."""

from __future__ import annotations

import time

import pytest
import redis
from starlette.testclient import TestClient

from app.config import Settings
from app.main import create_app
from ms_jobs.keys import queue_name
from ms_jobs.pace import Pace, Shape
from ms_jobs.records import JobError, WorkerRecord, WorkerState
from ms_jobs.registry import Registry
from tests.support.sample_requests import good_request


def publish(registry: Registry, model: str, state: WorkerState = WorkerState.IDLE, name: str = "cpu-1a2b") -> None:
    host = "render-7.internal"
    error = JobError(code="no_weights", detail="No weights in /srv/models.") if state is WorkerState.FAILED else None
    record = WorkerRecord(
        name=f"{host}-{name}", model=model, state=state, device="cpu", host=host, pid=1, started_at=1.0, error=error
    )
    registry.publish_worker(record, ttl_s=30)


def test_an_idle_service_lets_nobody_wait(client: TestClient, settings: Settings, registry: Registry) -> None:
    publish(registry, settings.model)
    response = client.get("/queue")
    assert (response.status_code, response.headers["cache-control"]) == (200, "no-store")
    worker = {"name": "cpu-1a2b", "device": "cpu", "state": "idle", "model": settings.model}
    assert response.json() == {"depth": 0, "oldest_age_s": None, "expected_wait_s": 0.0, "workers": [worker]}


def test_without_a_worker_nobody_knows_how_long_one_waits(client: TestClient) -> None:
    assert client.post("/generate", json=good_request()).status_code == 202
    state = client.get("/queue").json()
    assert (state["depth"], state["expected_wait_s"], state["workers"]) == (1, None, [])
    assert 0 <= state["oldest_age_s"] < 60


@pytest.mark.usefixtures("card")
def test_the_wait_is_what_the_jobs_ahead_take(
    client: TestClient, settings: Settings, registry: Registry, redis_client: redis.Redis
) -> None:
    for _ in range(3):
        client.post("/generate", json=good_request())
    publish(registry, settings.model)
    # Nothing has been made so far.
    assert client.get("/queue").json()["expected_wait_s"] is None
    pace = Pace(redis_client, settings.model)
    for _ in range(2):
        pace.learn(str(Shape(20, 1, 128, 256, True, 2, 0)), 4.0)
    time.sleep(0.6)
    state = client.get("/queue").json()
    assert (state["depth"], state["expected_wait_s"]) == (3, pytest.approx(12, abs=1))
    publish(registry, settings.model, name="cpu-2")
    time.sleep(0.6)
    assert client.get("/queue").json()["expected_wait_s"] == pytest.approx(4, abs=1)


def test_the_oldest_of_several_counts(client: TestClient, settings: Settings, redis_client: redis.Redis) -> None:
    first, second = (client.post("/generate", json=good_request()).json()["id"] for _ in range(2))
    redis_client.hset(f"msd:job:local:{first}", "queued_at", str(time.time() - 50))
    redis_client.hset(f"msd:job:local:{second}", "queued_at", str(time.time() - 100))
    assert client.get("/queue").json()["oldest_age_s"] == pytest.approx(100, abs=10)
    redis_client.hset(f"msd:job:local:{second}", "queued_at", "nonsense")
    assert client.get("/queue").json()["oldest_age_s"] == pytest.approx(50, abs=10)
    redis_client.delete(f"rq:queue:{queue_name(settings.model)}")
    assert client.get("/queue").json()["oldest_age_s"] is None


@pytest.mark.parametrize("state", list(WorkerState))
def test_workers_in_every_state_are_told_without_their_hosts(
    client: TestClient, settings: Settings, registry: Registry, state: WorkerState
) -> None:
    publish(registry, settings.model, state)
    response = client.get("/queue")
    assert [worker["state"] for worker in response.json()["workers"]] == [state.value]
    assert "internal" not in response.text
    assert "srv" not in response.text


def test_one_that_is_busy_with_nothing_queued_is_waited_for(
    client: TestClient, settings: Settings, registry: Registry
) -> None:
    """How long is not known before the first job."""
    publish(registry, settings.model, WorkerState.BUSY)
    assert client.get("/queue").json()["expected_wait_s"] is None


def test_without_redis_it_is_unavailable(settings: Settings) -> None:
    nowhere = settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    with TestClient(create_app(nowhere)) as client:
        response = client.get("/queue")
    assert (response.status_code, response.json()["code"]) == (503, "queue_unavailable")
