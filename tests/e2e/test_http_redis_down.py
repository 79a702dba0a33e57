"""Redis dies or hangs and comes back: 503 with Retry-After meanwhile, and the service recovers by itself."""

from __future__ import annotations

import time

import pytest
from http_service import QUICK, HttpService, wait_until
from sample_requests import good_request

pytestmark = pytest.mark.e2e


def test_the_service_survives_a_restart_of_redis(service: HttpService) -> None:
    service.wait_until_ready()
    done = service.make(good_request(**QUICK))
    service.kill_redis()
    try:
        start = time.monotonic()
        answers = [service.client.post("/generate", json=good_request(**QUICK)) for _ in range(3)]
        answers.append(service.client.get(done["urls"]["self"]))
        assert time.monotonic() - start < 20
        assert [answer.status_code for answer in answers] == [503] * 4
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers)
        assert all(answer.headers["content-type"] == "application/problem+json" for answer in answers)
        ready = service.client.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (503, "unavailable")
        assert service.client.get("/livez").status_code == 200
    finally:
        service.start_redis()
    wait_until(lambda: service.client.get(done["urls"]["self"]).status_code == 200, "the API to find Redis again")
    service.wait_until_ready()
    service.make(good_request(**QUICK))


def test_a_redis_that_hangs_does_not_hang_the_api(service: HttpService) -> None:
    service.wait_until_ready()
    with service.redis_stopped():
        start = time.monotonic()
        response = service.client.post("/generate", json=good_request(**QUICK))
        assert time.monotonic() - start < 10
    assert (response.status_code, response.json()["code"]) == (503, "queue_unavailable")
    service.wait_until_ready()
    service.make(good_request(**QUICK))
