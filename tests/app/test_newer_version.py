"""A newer version of the service beside the API: what it stores is read, and what the API cannot read costs only itself."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from starlette.testclient import TestClient

from app.config import Settings
from ms_core.config import ModelCard
from ms_core.spec import GenerationWarning
from ms_jobs import keys
from ms_jobs.keys import JobKey
from ms_jobs.pace import Pace
from ms_jobs.records import JobState, WorkerRecord, WorkerState
from ms_jobs.registry import Registry
from tests.support import newer_version
from tests.support.event_source import read_events
from tests.support.newer_version import NEW
from tests.support.played_worker import PlayedWorker
from tests.support.sample_requests import good_request

SHAPE = "20-1-128-256-1-2-0"


@pytest.fixture
def alive(registry: Registry, settings: Settings) -> str:
    """The name of a worker that sends heartbeats."""
    record = WorkerRecord(
        name=f"{settings.model}-w1",
        model=settings.model,
        state=WorkerState.IDLE,
        device="cpu",
        host="h",
        pid=1,
        started_at=time.time(),
    )
    registry.publish_worker(record, ttl_s=60)
    return record.name


@pytest.fixture
def newer(redis_client: redis.Redis, settings: Settings, alive: str, card: ModelCard) -> Callable[[], None]:
    """Adds a field to everything in Redis that belongs to no job."""

    def add() -> None:
        pace = Pace(redis_client, settings.model)
        for _ in range(3):
            pace.learn(SHAPE, 2.0)
        newer_version.add_to_beat(redis_client, alive)
        newer_version.add_to_card(redis_client, settings.model)
        newer_version.add_to_pace(redis_client, settings.model)
        newer_version.add_to_measures(redis_client, settings.model)

    return add


def test_all_that_a_newer_version_stores_is_read(
    client: TestClient, settings: Settings, redis_client: redis.Redis, worker: PlayedWorker, newer: Callable[[], None]
) -> None:
    newer()
    submitted = client.post("/generate", json=good_request())
    assert submitted.status_code == 202
    job_id = submitted.json()["id"]
    assert submitted.json()["eta_seconds"] is not None
    key = JobKey("local", job_id)
    worker.begin(job_id)
    worker.progress(job_id, step=1, steps=20, warnings=(GenerationWarning("w", "A warning."),))
    newer_version.add_to_record(redis_client, key)
    newer_version.add_to_log(redis_client, key)
    job = client.get(f"/jobs/{job_id}")
    assert (job.status_code, job.json()["status"], job.json()["warnings"][0]["code"]) == (200, "running", "w")
    manifest = worker.store(job_id)
    worker.finish(job_id, JobState.SUCCEEDED, images=manifest.images, result_attempt=1)
    newer_version.add_to_record(redis_client, key)
    assert job_id in listed(client)
    assert client.get(f"/jobs/{job_id}/images/0").status_code == 200
    *_, last = read_events(client.get(f"/jobs/{job_id}/events").text.split("\n"))
    assert last.name == "succeeded"
    for path in ("/readyz", "/models", "/metrics"):
        assert client.get(path).status_code == 200
    assert client.get("/models").json()["models"][0]["abilities"]["max_width"] == 512
    assert client.delete(f"/jobs/{job_id}").status_code == 204


def test_what_a_newer_version_asked_for_is_kept_in_a_retry(
    client: TestClient, settings: Settings, worker: PlayedWorker, card: ModelCard
) -> None:
    job_id = client.post("/generate", json=good_request()).json()["id"]
    newer_version.add_to_file(folder(settings, worker, job_id) / "request.json")
    worker.succeed(job_id)
    retried = client.post(f"/jobs/{job_id}/retry")
    assert retried.status_code == 202
    kept = json.loads((folder(settings, worker, retried.json()["id"]) / "request.json").read_text())
    assert kept[NEW] == kept["subjects"][0][NEW] == "blue"


def test_a_worker_in_a_state_of_a_newer_version_is_there_and_does_not_serve(
    client: TestClient, redis_client: redis.Redis, settings: Settings, alive: str
) -> None:
    text = redis_client.get(keys.worker(alive))
    redis_client.set(keys.worker(alive), text.replace(b'"idle"', b'"resting"'))
    response = client.get("/readyz")
    assert response.status_code == 503
    assert "1 unknown" in response.json()["checks"]["workers"]["detail"]
    assert client.get("/metrics").status_code == 200
    assert client.post("/generate", json=good_request()).status_code == 202


DAMAGE: dict[str, Callable[[redis.Redis, str, str], Any]] = {
    "beat": lambda client, model, worker: client.set(keys.worker(worker), "{"),
    "beat of another type": lambda client, model, worker: (
        client.delete(keys.worker(worker)),
        client.lpush(keys.worker(worker), "x"),
    ),
    "workers not UTF-8": lambda client, model, worker: client.sadd(keys.workers(model), b"\xff"),
    "card no JSON": lambda client, model, worker: client.set(keys.card(model), "{"),
    "card no card": lambda client, model, worker: client.set(keys.card(model), '{"max_width":"wide"}'),
    "pace": lambda client, model, worker: client.lpush(keys.pace(model), "x y", "1-2 3", "9" * 400, f"{SHAPE} nan"),
    "pace of giants": lambda client, model, worker: client.lpush(keys.pace(model), f"{'9' * 400}-1-8-8-1-1-0 1"),
    "pace of another type": lambda client, model, worker: client.set(keys.pace(model), "x"),
    "running": lambda client, model, worker: client.sadd(keys.running(model), "rubbish", b"\xff"),
    "counts": lambda client, model, worker: client.hset(keys.counts(model), "failed", "many"),
    "histograms": lambda client, model, worker: client.hset(keys.histograms(model), "phase", "many"),
}


@pytest.mark.parametrize("damage", list(DAMAGE))
def test_damage_in_what_an_estimate_needs_costs_the_estimate_only(
    client: TestClient, redis_client: redis.Redis, settings: Settings, alive: str, card: ModelCard, damage: str
) -> None:
    DAMAGE[damage](redis_client, settings.model, alive)
    submitted = client.post("/generate", json=good_request())
    assert submitted.status_code == 202
    assert client.get(f"/jobs/{submitted.json()['id']}").status_code == 200
    assert client.get("/jobs").status_code == 200
    assert client.get("/models").status_code == 200
    assert client.get("/readyz").status_code in (200, 503)
    assert client.get("/metrics").status_code == 200


UNREADABLE = [
    {"state": '"paused"'},
    {"created_at": '"now"'},
    {"started_at": "1e300"},
    {"queued_at": "{"},
    {"warnings": '["w"]'},
    {"model": "{"},
]


@pytest.mark.parametrize("damage", UNREADABLE, ids=lambda damage: next(iter(damage)))
def test_a_record_that_cannot_be_read_costs_itself_only(
    client: TestClient, redis_client: redis.Redis, alive: str, card: ModelCard, damage: dict[str, str]
) -> None:
    good, bad, other = (client.post("/generate", json=good_request()).json()["id"] for _ in range(3))
    redis_client.hset(keys.job(JobKey("local", bad)), mapping=damage)
    answer = client.get(f"/jobs/{bad}")
    assert (answer.status_code, answer.json()["code"]) == (503, "unreadable_job")
    for path in ("events", "images/0"):
        assert client.get(f"/jobs/{bad}/{path}").status_code == 503
    assert client.post(f"/jobs/{bad}/cancel").status_code == 503
    for job_id in (good, other):
        assert client.get(f"/jobs/{job_id}").status_code == 200
    assert listed(client) & {good, bad, other} == {good, other}
    assert client.post("/generate", json=good_request()).status_code == 202
    assert client.get("/metrics").status_code == 200
    assert client.delete(f"/jobs/{bad}").status_code == 204
    assert client.get(f"/jobs/{bad}").status_code == 410


def test_a_record_that_cannot_be_read_is_removed_with_its_files(
    client: TestClient, redis_client: redis.Redis, settings: Settings, worker: PlayedWorker
) -> None:
    job_id = client.post("/generate", json=good_request()).json()["id"]
    path = folder(settings, worker, job_id)
    redis_client.hset(keys.job(JobKey("local", job_id)), "state", '"paused"')
    assert client.delete(f"/jobs/{job_id}").status_code == 204
    assert not path.exists()
    assert redis_client.llen(keys.queue(settings.model)) == 0


def listed(client: TestClient) -> set[str]:
    """The newest jobs, among them those of other tests."""
    response = client.get("/jobs", params={"limit": 100})
    assert response.status_code == 200
    return {job["id"] for job in response.json()["jobs"]}


def folder(settings: Settings, worker: PlayedWorker, job_id: str) -> Path:
    return settings.data_dir / "local" / "jobs" / worker.record(job_id).folder
