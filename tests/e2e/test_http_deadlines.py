"""Deadlines of jobs in the live service."""

from __future__ import annotations

import pytest

from tests.e2e.http_service import LONG, QUICK, HttpService
from tests.support.job_helpers import wait_until
from tests.support.sample_requests import good_request


@pytest.fixture
def live(service: HttpService) -> HttpService:
    service.wait_until_ready()
    return service


def test_a_running_job_is_canceled_when_its_time_is_over(live: HttpService) -> None:
    job = live.client.post("/generate", json=good_request(**LONG), headers={"Cancel-After": "2s"}).json()
    ended = live.wait_for_end(job)
    assert (ended["status"], ended["attempt"], ended["images"]) == ("canceled", 1, [])
    assert ended["ended_at"] >= ended["cancel_at"]
    live.make(good_request(**QUICK))


def test_a_job_that_cannot_begin_in_time_expires(live: HttpService) -> None:
    running = live.submit(good_request(**LONG))
    live.wait_for_step(running)
    late = live.client.post("/generate", json=good_request(**QUICK), headers={"X-Start-Deadline": "1"}).json()
    ended = live.wait_for_end(late)
    live.client.post(running["urls"]["cancel"])
    assert (ended["status"], ended["attempt"], ended["error"]["code"]) == ("expired", 0, "start_deadline_passed")
    entry = f"local_{late['id']}_0"
    wait_until(lambda: live.redis.lpos(f"rq:queue:generate-{late['model']}", entry) is None, "the line to forget it")
    assert live.wait_for_end(running)["status"] == "canceled"


def test_a_deadline_that_is_kept_changes_nothing(live: HttpService) -> None:
    headers = {"Cancel-After": "1h", "X-Start-Deadline": "10m", "Prefer": "wait=50"}
    job = live.client.post("/generate", json=good_request(**QUICK), headers=headers).json()
    assert (job["status"], job["cancel_requested"]) == ("succeeded", False)
