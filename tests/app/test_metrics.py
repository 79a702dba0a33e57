"""Metrics and access log of one API process, with workers as Redis knows them."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient
from structlog.contextvars import get_contextvars

from app.config import Settings
from app.main import create_app
from ms_jobs.job_store import JobStore
from ms_jobs.outcomes import Requeue
from ms_jobs.records import JobError, Usage, WorkerRecord, WorkerState
from ms_jobs.registry import Registry
from tests.support.played_worker import PlayedWorker
from tests.support.sample_requests import good_request

ERROR = JobError(code="worker_died", detail="It died.")
GPU = "GPU-5f0c2b1e-8a7d-4c0f-9e55-000000000001"


def value(client: TestClient, name: str, **labels: str) -> float:
    """The sum of all series of a name that have these labels."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    samples = [sample for family in families for sample in family.samples if sample.name == name]
    return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


def publish(registry: Registry, settings: Settings, name: str, started_at: float, **usage: object) -> None:
    registry.publish_worker(
        WorkerRecord(
            name=name,
            model=settings.model,
            state=WorkerState.BUSY,
            device=f"cuda {GPU}",
            host="h",
            pid=1,
            started_at=started_at,
            jobs_done=5,
            usage=Usage.model_validate(usage),
        ),
        60,
    )


@pytest.fixture
def job_id(client: TestClient) -> str:
    return client.post("/generate", json=good_request()).json()["id"]


def test_a_device_tells_its_memory_and_utilisation(client: TestClient, registry: Registry, settings: Settings) -> None:
    usage = {"memory_used_bytes": 3, "memory_total_bytes": 8, "utilisation": 0.4}
    publish(registry, settings, "w1", 1.0, device_uuid=GPU, **usage)
    assert value(client, "msd_device_memory_used_bytes", uuid=GPU) == 3
    assert value(client, "msd_device_memory_total_bytes", uuid=GPU) == 8
    assert value(client, "msd_device_utilization_ratio", uuid=GPU) == 0.4


def test_a_device_whose_worker_was_replaced_is_told_once(
    client: TestClient, registry: Registry, settings: Settings
) -> None:
    publish(registry, settings, "new", 2.0, device_uuid=GPU, memory_used_bytes=7)
    publish(registry, settings, "old", 1.0, device_uuid=GPU, memory_used_bytes=3)
    assert value(client, "msd_device_memory_used_bytes", uuid=GPU) == 7


def test_what_a_device_does_not_tell_is_left_out(client: TestClient, registry: Registry, settings: Settings) -> None:
    publish(registry, settings, "w1", 1.0, device_uuid=GPU, memory_used_bytes=3, memory_total_bytes=8)
    assert f'msd_device_utilization_ratio{{host="h",uuid="{GPU}"}}' not in client.get("/metrics").text


def test_a_worker_tells_its_age_jobs_and_memory(client: TestClient, registry: Registry, settings: Settings) -> None:
    publish(registry, settings, "w1", time.time() - 100, rss_bytes=1000)
    assert value(client, "msd_worker_uptime_seconds", worker="w1") == pytest.approx(100, abs=10)
    assert value(client, "msd_worker_jobs_total", worker="w1") == 5
    assert value(client, "msd_worker_resident_memory_bytes", worker="w1") == 1000


@pytest.mark.parametrize("reason", list(Requeue))
def test_lost_attempts_are_counted_by_the_reason(
    client: TestClient, store: JobStore, worker: PlayedWorker, job_id: str, reason: Requeue
) -> None:
    worker.begin(job_id)
    store.requeue(job_id, 1, reason, ERROR)
    assert value(client, "msd_job_attempts_lost_total") == 1
    assert value(client, "msd_job_attempts_lost_total", reason=reason) == 1


def test_the_oldest_job_is_not_always_the_first(
    client: TestClient, redis_client: redis.Redis, settings: Settings, job_id: str
) -> None:
    older = client.post("/generate", json=good_request()).json()["id"]
    redis_client.hset(f"msd:job:local:{older}", "queued_at", str(time.time() - 500))
    assert value(client, "msd_queue_oldest_age_seconds") == pytest.approx(500, abs=10)


def test_an_empty_queue_has_no_age(client: TestClient) -> None:
    assert value(client, "msd_queue_oldest_age_seconds") == 0


def test_methods_nobody_knows_share_one_series(client: TestClient) -> None:
    for method in ("BREW", "WHEN"):
        client.request(method, "/livez")
    assert value(client, "msd_http_requests_total", method="OTHER") == 2


def test_two_processes_tell_the_same_of_jobs(client: TestClient, settings: Settings, job_id: str) -> None:
    with TestClient(create_app(settings)) as other:
        assert value(other, "msd_job_events_total", event="queued") == 1


def test_each_process_counts_its_own_requests(client: TestClient, settings: Settings) -> None:
    client.get("/livez")
    with TestClient(create_app(settings)) as other:
        assert value(other, "msd_http_requests_total", route="/livez") == 0


@pytest.fixture
def mistaken(settings: Settings) -> Iterator[TestClient]:
    """An API with a mistake in one endpoint."""
    app = create_app(settings)

    @app.get("/mistake")
    def mistake() -> None:
        raise RuntimeError("broken")

    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def test_a_mistake_of_ours_counts_as_one(mistaken: TestClient) -> None:
    mistaken.get("/mistake")
    assert value(mistaken, "msd_http_requests_total", route="/mistake", status="500") == 1


def access_lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, str | None, int]]:
    return [
        (record.levelname, *(record.__dict__[name] for name in ("method", "route", "status")))
        for record in caplog.records
        if record.message == "request answered"
    ]


def test_a_request_that_changes_something_is_logged(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        client.post("/generate", json=good_request())
    assert access_lines(caplog) == [("INFO", "POST", "/generate", 202)]


def test_a_poll_is_logged_for_who_asks_only(client: TestClient, job_id: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="app.service.access"):
        client.get(f"/jobs/{job_id}")
    assert access_lines(caplog) == [("DEBUG", "GET", "/jobs/{job_id}", 200)]


def test_a_poll_that_fails_is_logged(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        client.get("/jobs/nothing-is-known-of-it")
    assert access_lines(caplog) == [("INFO", "GET", "/jobs/{job_id}", 404)]


def test_a_path_that_is_no_route_is_not_logged(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        client.get("/my-secret-path")
    assert access_lines(caplog) == [("INFO", "GET", None, 404)]


def test_endpoints_in_threads_log_under_the_request_id(settings: Settings) -> None:
    app = create_app(settings)
    seen: list[object] = []

    @app.get("/look")
    def look() -> None:
        seen.append(get_contextvars())

    with TestClient(app) as client:
        client.get("/look", headers={"X-Request-Id": "mine"})
    assert seen == [{"request_id": "mine"}]
