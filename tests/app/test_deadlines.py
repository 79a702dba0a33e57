"""Deadlines end jobs, and a job read after its deadline is shown as ended though no worker and no housekeeper lives."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

import pytest
import redis
from starlette.testclient import TestClient

from app.config import Settings
from app.main import create_app
from ms_jobs.job_store import JobStore
from ms_jobs.keys import queue_name
from ms_jobs.records import JobState
from tests.support.played_worker import PlayedWorker
from tests.support.sample_requests import good_request


def submit(client: TestClient, **headers: str) -> dict[str, Any]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    response = client.post("/generate", json=good_request(), headers=named)
    assert response.status_code == 202, response.text
    return response.json()


def seconds_between(first: str, second: str) -> float:
    return (datetime.fromisoformat(second) - datetime.fromisoformat(first)).total_seconds()


@pytest.mark.parametrize("header", ["Cancel-After", "X-Start-Deadline"])
@pytest.mark.parametrize("value", ["0", "soon", "-5", "1.5h", ""])
def test_a_deadline_of_a_wrong_form_is_told(client: TestClient, header: str, value: str) -> None:
    response = client.post("/generate", json=good_request(), headers={header: value})
    assert (response.status_code, response.json()["code"]) == (400, "invalid_header")
    assert response.json()["detail"].startswith(header)


def test_deadlines_are_counted_from_acceptance_and_shown(client: TestClient) -> None:
    job = submit(client, Cancel_After="5m", X_Start_Deadline="30")
    assert seconds_between(job["created_at"], job["cancel_at"]) == pytest.approx(300, abs=0.01)
    assert seconds_between(job["created_at"], job["start_before"]) == pytest.approx(30, abs=0.01)


def test_without_deadlines_there_are_none(client: TestClient) -> None:
    job = submit(client)
    assert (job["cancel_at"], job["start_before"], job["expires_at"]) == (None, None, None)


def test_a_job_that_did_not_begin_in_time_is_expired_when_read(
    client: TestClient, settings: Settings, redis_client: redis.Redis
) -> None:
    job = submit(client, X_Start_Deadline="1")
    time.sleep(1.05)
    read = client.get(job["urls"]["self"]).json()
    assert (read["status"], read["error"]["code"]) == ("expired", "start_deadline_passed")
    assert read["error"]["type"] == "/problems/start_deadline_passed"
    assert client.get(read["error"]["type"]).status_code == 200
    assert redis_client.llen(f"rq:queue:{queue_name(settings.model)}") == 0


def test_a_job_that_did_not_end_in_time_is_canceled_when_read(client: TestClient) -> None:
    job = submit(client, Cancel_After="1")
    time.sleep(1.05)
    read = client.get(job["urls"]["self"]).json()
    assert (read["status"], read["cancel_requested"], read["error"]) == ("canceled", True, None)


def test_a_running_job_is_asked_to_end_when_its_time_is_over(client: TestClient, worker: PlayedWorker) -> None:
    job = submit(client, Cancel_After="1", X_Start_Deadline="1")
    worker.begin(job["id"])
    time.sleep(1.05)
    read = client.get(job["urls"]["self"]).json()
    assert (read["status"], read["cancel_requested"]) == ("running", True)


def test_a_job_that_began_in_time_may_go_on(client: TestClient, worker: PlayedWorker) -> None:
    job = submit(client, X_Start_Deadline="1")
    worker.begin(job["id"])
    time.sleep(1.05)
    assert client.get(job["urls"]["self"]).json()["status"] == "running"


def test_a_long_poll_ends_with_the_deadline(client: TestClient) -> None:
    job = submit(client, X_Start_Deadline="1")
    start = time.monotonic()
    response = client.get(f"{job['urls']['self']}?wait=30")
    assert response.json()["status"] == "expired"
    assert time.monotonic() - start < 30


def test_a_job_that_no_worker_took_is_expired_when_read(settings: Settings) -> None:
    with TestClient(create_app(settings.model_copy(update={"lifetime_s": 0.5}))) as client:
        job = submit(client)
        time.sleep(0.55)
        read = client.get(job["urls"]["self"]).json()
    assert (read["status"], read["error"]["code"]) == ("expired", "waited_too_long")


def test_a_job_past_its_lifetime_is_gone_when_read(settings: Settings, redis_client: redis.Redis) -> None:
    with TestClient(create_app(settings.model_copy(update={"lifetime_s": 0.5}))) as client:
        job = submit(client)
        client.post(job["urls"]["cancel"])
        time.sleep(0.55)
        gone = client.get(job["urls"]["self"])
        again = client.get(job["urls"]["self"])
    assert [(answer.status_code, answer.json()["code"]) for answer in (gone, again)] == [(410, "job_gone")] * 2
    assert "has expired" in gone.json()["detail"]
    assert list((settings.data_dir / "local" / "jobs").iterdir()) == []


def test_after_its_end_a_job_says_when_it_will_be_gone(client: TestClient, settings: Settings) -> None:
    job = client.post(submit(client)["urls"]["cancel"]).json()
    assert seconds_between(job["ended_at"], job["expires_at"]) == pytest.approx(settings.lifetime_s, abs=0.01)


def test_what_time_did_is_applied_once(client: TestClient, store: JobStore) -> None:
    job = submit(client, Cancel_After="1")
    time.sleep(1.05)
    versions = {client.get(job["urls"]["self"]).json()["version"] for _ in range(3)}
    assert versions == {2}
    record = store.get(job["id"])
    assert record is not None
    assert record.state is JobState.CANCELED
