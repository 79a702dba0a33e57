"""Long polls and entity tags against the live service."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from tests.e2e.http_service import LONG, QUICK, HttpService
from tests.support.sample_requests import good_request

WATCHERS = 100


@pytest.fixture
def live(service: HttpService) -> HttpService:
    service.wait_until_ready()
    return service


def test_a_long_poll_is_answered_at_the_end(live: HttpService) -> None:
    job = live.submit(good_request(**QUICK))
    ended = live.client.get(f"{job['urls']['self']}?wait=50").json()
    assert ended["status"] == "succeeded"
    assert ended["expires_at"] > ended["ended_at"]


def test_a_hundred_long_polls_hinder_nobody_and_all_see_the_end(live: HttpService) -> None:
    job = live.submit(good_request(**LONG))
    live.wait_for_step(job)

    def watch() -> dict[str, Any]:
        return client.get(f"{job['urls']['self']}?wait=50").json()

    limits = httpx2.Limits(max_connections=WATCHERS)
    with (
        httpx2.Client(base_url=live.url, timeout=60, trust_env=False, limits=limits) as client,
        ThreadPoolExecutor(WATCHERS) as pool,
    ):
        watches = [pool.submit(watch) for _ in range(WATCHERS)]
        time.sleep(1)
        answers = [live.client.get(path).status_code for path in ("/livez", "/readyz", "/models", job["urls"]["self"])]
        queued = live.client.post("/generate", json=good_request(**QUICK))
        still_waiting = sum(not watch.done() for watch in watches)
        live.client.post(job["urls"]["cancel"])
        seen = [watch.result() for watch in watches]
    assert (answers, queued.status_code, still_waiting) == ([200] * 4, 202, WATCHERS)
    assert {(view["status"], view["version"]) for view in seen} == {("canceled", seen[0]["version"])}
    assert live.wait_for_end(queued.json())["status"] == "succeeded"


def test_a_long_poll_with_a_tag_follows_every_step(live: HttpService) -> None:
    job = live.submit(good_request(**LONG))
    live.wait_for_step(job)
    response = live.client.get(job["urls"]["self"])
    versions = [response.json()["version"]]
    for _ in range(3):
        headers = {"If-None-Match": response.headers["etag"]}
        response = live.client.get(f"{job['urls']['self']}?wait=30", headers=headers)
        versions.append(response.json()["version"])
    live.client.post(job["urls"]["cancel"])
    assert versions == sorted(set(versions))
    assert live.wait_for_end(job)["status"] == "canceled"


def test_what_a_client_knows_is_not_sent_again(live: HttpService) -> None:
    job = live.make(good_request(**QUICK))
    etag = live.client.get(job["urls"]["self"]).headers["etag"]
    response = live.client.get(job["urls"]["self"], headers={"If-None-Match": etag})
    assert (response.status_code, response.content, response.headers["etag"]) == (304, b"", etag)
    assert "retry-after" not in response.headers
