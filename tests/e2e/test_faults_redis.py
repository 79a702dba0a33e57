"""Redis is cut off, swallowed, killed: no picture is lost, the same worker works on, and the API says 503 meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Literal

import pytest

from ms_jobs.connection import BLOCKING_TIMEOUT_S
from ms_jobs.records import JobState, new_job_id
from tests.e2e.fault_service import ANSWER_PATIENCE_S, SMALL, FaultService
from tests.support.job_helpers import wait_until
from tests.support.sample_requests import good_request

SUCCEEDED = JobState.SUCCEEDED


@pytest.fixture(scope="module")
def service() -> Iterator[FaultService]:
    with FaultService() as service:
        yield service.start()


@pytest.fixture(autouse=True)
def healed(service: FaultService) -> Iterator[None]:
    yield
    service.proxy.heal()


def assert_unavailable(service: FaultService, job_id: str) -> None:
    """The API says that it can queue and tell nothing now, and when to ask again."""
    begun = time.monotonic()
    for answer in (service.post(), service.http.get(f"/jobs/{job_id}")):
        assert (answer.status_code, answer.json()["code"]) == (503, "queue_unavailable")
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.headers["content-type"] == "application/problem+json"
    assert time.monotonic() - begun < 2 * ANSWER_PATIENCE_S
    ready = service.http.get("/readyz")
    assert (ready.status_code, ready.json()["checks"]["redis"]["ok"]) == (503, False)
    assert service.http.get("/livez").status_code == 200


def assert_recovered(service: FaultService, job_id: str, pid: int) -> None:
    """The job has its picture, made in one attempt, and the same worker does the next job."""
    record = service.wait_for_end(job_id)
    assert (record.state, record.attempt) == (SUCCEEDED, 1)
    image = f"/jobs/{job_id}/images/0"
    wait_until(lambda: service.http.get(image).status_code == 200, "an API that has found Redis again")
    assert service.http.get(image).content.startswith(b"\x89PNG")
    assert service.wait_for_end(service.submit(num_inference_steps=1)).state is SUCCEEDED
    assert service.idle_worker().pid == pid


@pytest.mark.parametrize("seconds", [10, pytest.param(60, marks=pytest.mark.faults)])
def test_redis_is_cut_off_in_mid_job(service: FaultService, seconds: int) -> None:
    pid = service.idle_worker().pid
    job_id = service.submit(num_inference_steps=40)
    record = service.wait_for_step(job_id)
    service.proxy.cut()
    ends_at = time.monotonic() + seconds
    assert_unavailable(service, job_id)
    wait_until(lambda: service.manifest_is_stored(record), "the pictures on disk, with Redis away")
    time.sleep(max(0.0, ends_at - time.monotonic()))
    assert_unavailable(service, job_id)
    service.proxy.heal()
    assert_recovered(service, job_id, pid)


@pytest.mark.parametrize("lost", ["request", "reply"])
def test_redis_is_cut_off_exactly_when_a_job_ends(service: FaultService, lost: Literal["request", "reply"]) -> None:
    pid = service.idle_worker().pid
    job_id = service.submit(num_inference_steps=4)
    service.proxy.cut_at(b"\r\nsucceeded\r\n", lose=lost)
    assert service.proxy.tripped.wait(30)
    assert service.record(job_id).state is (JobState.RUNNING if lost == "request" else SUCCEEDED)
    time.sleep(3)
    service.proxy.heal()
    assert_recovered(service, job_id, pid)


@pytest.mark.parametrize("seconds", [6, pytest.param(60, marks=pytest.mark.faults)])
def test_redis_falls_silent_in_mid_job(service: FaultService, seconds: int) -> None:
    pid = service.idle_worker().pid
    job_id = service.submit(num_inference_steps=20)
    record = service.wait_for_step(job_id)
    service.proxy.swallow()
    ends_at = time.monotonic() + seconds
    assert_unavailable(service, job_id)
    wait_until(lambda: service.manifest_is_stored(record), "the pictures on disk, with Redis away")
    time.sleep(max(0.0, ends_at - time.monotonic()))
    service.proxy.heal()
    assert_recovered(service, job_id, pid)


def test_redis_falls_silent_while_a_worker_waits_for_jobs(service: FaultService) -> None:
    pid = service.idle_worker().pid
    service.proxy.swallow()
    # Longer than a worker waits for any answer.
    time.sleep(BLOCKING_TIMEOUT_S + 1)
    service.proxy.heal()
    wait_until(lambda: service.post(num_inference_steps=1).is_success, "an API that has found Redis again")
    assert_recovered(service, service.submit(num_inference_steps=1), pid)


def test_a_job_whose_acceptance_got_lost_is_made_once(service: FaultService) -> None:
    """Redis is cut off when the job is queued and the API does not know it yet; the client asks again."""
    # So that Redis knows the script.
    service.submit(num_inference_steps=1)
    job_id = new_job_id()
    body = good_request(**SMALL, num_inference_steps=1)
    service.proxy.cut_at(f"\r\n{job_id}\r\n".encode(), lose="reply")
    answer = service.http.put(f"/jobs/{job_id}", json=body)
    assert (answer.status_code, service.proxy.tripped.is_set()) == (503, True)
    made = service.record(job_id)
    service.proxy.heal()
    again = service.http.put(f"/jobs/{job_id}", json=body)
    assert again.status_code in (200, 202)
    record = service.wait_for_end(job_id)
    assert (record.folder, record.attempt) == (made.folder, 1)


def test_queued_jobs_and_their_order_survive_a_killed_redis() -> None:
    with FaultService() as service:
        service.start_redis()
        service.start_api()
        jobs = [service.submit(num_inference_steps=1, seed=seed) for seed in range(6)]
        service.kill_redis()
        assert_unavailable(service, jobs[0])
        service.start_redis()
        wait_until(lambda: service.http.get("/readyz").json()["checks"]["redis"]["ok"], "an API that found Redis")
        late = service.submit(num_inference_steps=1)
        service.start_worker()
        records = [service.wait_for_end(job_id) for job_id in (*jobs, late)]
        assert [record.state for record in records] == [SUCCEEDED] * 7
        starts = [record.started_at for record in records]
        assert starts == sorted(starts)


def test_a_running_job_survives_a_killed_redis(service: FaultService) -> None:
    pid = service.idle_worker().pid
    job_id = service.submit(num_inference_steps=40)
    service.wait_for_step(job_id)
    service.kill_redis()
    time.sleep(3)
    service.start_redis()
    assert_recovered(service, job_id, pid)
