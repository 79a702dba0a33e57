"""A request that is sent many times, at once or one after the other, makes one job."""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from tests.e2e.http_service import LONG, QUICK, HttpService
from tests.support.sample_requests import good_request

AT_ONCE = 64


@pytest.fixture
def live(service: HttpService) -> HttpService:
    service.wait_until_ready()
    return service


def send_at_once(live: HttpService, method: str, path: str, headers: dict[str, str]) -> list[httpx2.Response]:
    """The answers to one request sent over as many connections at once."""
    request = good_request(**QUICK, seed=None)

    def send(_: int) -> httpx2.Response:
        return client.request(method, path, json=request, headers=headers)

    limits = httpx2.Limits(max_connections=AT_ONCE)
    with (
        httpx2.Client(base_url=live.url, timeout=60, trust_env=False, limits=limits) as client,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        return list(pool.map(send, range(AT_ONCE)))


def listed(live: HttpService) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    address: str | None = "/jobs?limit=100"
    while address is not None:
        page = live.client.get(address).json()
        found += page["jobs"]
        address = page["next"]
    return found


def check_made_once(live: HttpService, answers: list[httpx2.Response], jobs_before: int) -> None:
    assert {answer.status_code for answer in answers} <= {200, 202}
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1
    (job_id,) = {answer.json()["id"] for answer in answers}
    assert len({answer.json()["seed"] for answer in answers}) == 1
    ended = live.wait_for_end(answers[0].json())
    assert (ended["status"], ended["attempt"]) == ("succeeded", 1)
    jobs = listed(live)
    assert len(jobs) == jobs_before + 1
    assert [job["id"] for job in jobs].count(job_id) == 1
    assert len(list((live.data_dir / "local" / "jobs").glob(f"{job_id}.*"))) == 1


def test_64_puts_of_one_job_at_once_are_one_run(live: HttpService) -> None:
    before = len(listed(live))
    check_made_once(live, send_at_once(live, "PUT", f"/jobs/{secrets.token_hex(16)}", {}), before)


def test_64_posts_with_one_key_at_once_are_one_run(live: HttpService) -> None:
    before = len(listed(live))
    headers = {"Idempotency-Key": f"order-{secrets.token_hex(8)}"}
    check_made_once(live, send_at_once(live, "POST", "/generate", headers), before)


def test_a_put_that_got_no_answer_is_repeated_until_it_gets_one(live: HttpService) -> None:
    """Redis takes the command and answers nothing: the API cannot know, and the client need not."""
    path, request = f"/jobs/{secrets.token_hex(16)}", good_request(**QUICK, seed=None)
    before = len(listed(live))
    with live.redis_stopped():
        lost = live.client.put(path, json=request)
    assert (lost.status_code, lost.json()["code"]) == (503, "queue_unavailable")
    assert int(lost.headers["retry-after"]) >= 1
    live.wait_until_ready()
    repeats = [live.client.put(path, json=request) for _ in range(2)]
    assert {repeat.status_code for repeat in repeats} <= {200, 202}
    assert repeats[1].headers["idempotency-replayed"] == "true"
    ended = live.wait_for_end(repeats[0].json())
    assert (ended["status"], ended["attempt"], len(listed(live))) == ("succeeded", 1, before + 1)


def test_a_put_that_waits_is_answered_with_the_picture_and_so_is_its_repeat(live: HttpService) -> None:
    path = f"/jobs/{secrets.token_hex(16)}"
    first = live.client.put(path, json=good_request(**QUICK), headers={"Prefer": "wait=50"})
    assert (first.status_code, first.json()["status"]) == (200, "succeeded")
    assert first.headers["preference-applied"] == "wait=50"
    repeat = live.client.put(path, json=good_request(**QUICK))
    assert (repeat.status_code, repeat.headers["idempotency-replayed"]) == (200, "true")
    assert repeat.json() == first.json()
    other = live.client.put(path, json=good_request(**QUICK, prompt="a cat"))
    assert (other.status_code, other.json()["code"]) == (422, "request_mismatch")


def test_a_post_that_waits_too_short_is_answered_with_202(live: HttpService) -> None:
    headers = {"Prefer": "wait=1", "Idempotency-Key": secrets.token_hex(8)}
    response = live.client.post("/generate", json=good_request(**LONG), headers=headers)
    assert (response.status_code, response.json()["status"]) == (202, "running")
    assert response.headers["preference-applied"] == "wait=1"
    other = live.client.post("/generate", json=good_request(**QUICK), headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "request_mismatch")
    live.client.post(response.json()["urls"]["cancel"])
    assert live.wait_for_end(response.json())["status"] == "canceled"


@pytest.mark.parametrize(
    ("headers", "path", "code"),
    [
        ({"Idempotency-Key": "two words"}, "/generate", "invalid_header"),
        ({"Cancel-After": "soon"}, "/generate", "invalid_header"),
        ({"X-Start-Deadline": "0"}, "/generate", "invalid_header"),
        ({}, "/jobs/short", "invalid_parameter"),
    ],
)
def test_what_cannot_be_understood_makes_no_job(
    live: HttpService, headers: dict[str, str], path: str, code: str
) -> None:
    before = len(listed(live))
    method = "POST" if path == "/generate" else "PUT"
    response = live.client.request(method, path, json=good_request(**QUICK), headers=headers)
    assert (response.status_code, response.json()["code"]) == (400, code)
    assert len(listed(live)) == before
