"""Waiting for a job, and asking only for what is new; the test plays the worker."""

from __future__ import annotations

import secrets
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest
import uvicorn
from starlette.testclient import TestClient

from app.config import Settings
from app.jobs.read import LOOK_AGAIN_S
from app.main import create_app
from ms_jobs.records import JobState
from tests.support.job_helpers import wait_until
from tests.support.played_worker import PlayedWorker
from tests.support.sample_requests import good_request

# Far below what is waited for: an answer that comes earlier was not given by the clock.
LONG_WAIT = 30


def submit(client: TestClient, headers: dict[str, str] | None = None) -> Any:
    response = client.post("/generate", json=good_request(), headers=headers)
    assert response.status_code == 202, response.text
    return response


@contextmanager
def meanwhile(call: Any, *arguments: Any) -> Iterator[Any]:
    """A request that waits for an answer while the block runs."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(call, *arguments)
        time.sleep(0.3)
        assert not future.done()
        yield future


def waited(client: TestClient, job: dict[str, Any], seconds: int, etag: str | None = None) -> Any:
    headers = {} if etag is None else {"If-None-Match": etag}
    return client.get(f"{job['urls']['self']}?wait={seconds}", headers=headers)


def test_a_long_poll_answers_when_the_job_ends(client: TestClient, worker: PlayedWorker) -> None:
    job = submit(client).json()
    start = time.monotonic()
    with meanwhile(waited, client, job, LONG_WAIT) as answer:
        worker.succeed(job["id"])
        assert answer.result().json()["status"] == "succeeded"
    assert time.monotonic() - start < LONG_WAIT


def test_a_long_poll_does_not_answer_for_progress(client: TestClient, worker: PlayedWorker) -> None:
    job = submit(client).json()
    worker.begin(job["id"])
    with meanwhile(waited, client, job, LONG_WAIT) as answer:
        worker.progress(job["id"], phase="denoise", step=1, steps=4)
        time.sleep(0.3)
        assert not answer.done()
        worker.finish(job["id"], JobState.CANCELED)
        assert answer.result().json()["status"] == "canceled"


def test_a_long_poll_with_a_tag_answers_for_anything_new(client: TestClient, worker: PlayedWorker) -> None:
    job = submit(client).json()
    worker.begin(job["id"])
    etag = client.get(job["urls"]["self"]).headers["etag"]
    with meanwhile(waited, client, job, LONG_WAIT, etag) as answer:
        worker.progress(job["id"], phase="denoise", step=1, steps=4)
        assert answer.result().json()["progress"]["step"] == 1


def test_a_long_poll_with_a_tag_answers_for_another_place_in_the_queue(client: TestClient) -> None:
    first, second = submit(client).json(), submit(client).json()
    etag = client.get(second["urls"]["self"]).headers["etag"]
    start = time.monotonic()
    with meanwhile(waited, client, second, LONG_WAIT, etag) as answer:
        client.post(first["urls"]["cancel"])
        assert answer.result().json()["position"] == 0
    assert time.monotonic() - start < LOOK_AGAIN_S + LONG_WAIT / 2


def test_a_long_poll_of_a_job_that_goes_on_answers_in_time(client: TestClient) -> None:
    job = submit(client).json()
    start = time.monotonic()
    response = waited(client, job, 1)
    assert time.monotonic() - start >= 1
    assert (response.status_code, response.json()["status"]) == (200, "queued")
    assert "retry-after" in response.headers


def test_a_long_poll_in_which_nothing_happens_says_so(client: TestClient) -> None:
    job = submit(client)
    response = waited(client, job.json(), 1, job.headers["etag"])
    assert (response.status_code, response.content) == (304, b"")


def test_a_long_poll_of_a_job_that_is_deleted_answers_410(client: TestClient) -> None:
    job = submit(client).json()
    with meanwhile(waited, client, job, LONG_WAIT) as answer:
        client.delete(job["urls"]["self"])
        assert (answer.result().status_code, answer.result().json()["code"]) == (410, "job_gone")


def test_a_long_poll_of_a_job_that_has_ended_does_not_wait(client: TestClient, worker: PlayedWorker) -> None:
    job = submit(client).json()
    worker.succeed(job["id"])
    start = time.monotonic()
    response = waited(client, job, LONG_WAIT)
    again = waited(client, job, LONG_WAIT, response.headers["etag"])
    assert time.monotonic() - start < LONG_WAIT
    assert (response.json()["status"], again.status_code) == ("succeeded", 304)


@pytest.mark.parametrize("wait", ["-1", "soon", "1.5", "", "9" * 5000])
def test_a_wait_of_a_wrong_form_is_told(client: TestClient, wait: str) -> None:
    job = submit(client).json()
    response = client.get(f"{job['urls']['self']}?wait={wait}")
    assert (response.status_code, response.json()["code"]) == (400, "invalid_parameter")
    assert "wait: " in response.json()["detail"]


def test_many_long_polls_take_no_thread_from_others(client: TestClient, worker: PlayedWorker) -> None:
    job = submit(client).json()
    with ThreadPoolExecutor(100) as pool:
        polls = [pool.submit(waited, client, job, LONG_WAIT) for _ in range(100)]
        for _ in range(20):
            assert client.get("/jobs/unknown-but-well-formed").status_code == 404
        assert not any(poll.done() for poll in polls)
        worker.succeed(job["id"])
        assert {poll.result().json()["status"] for poll in polls} == {"succeeded"}


def test_when_too_many_wait_the_next_is_told_so_and_none_is_lost(settings: Settings, worker: PlayedWorker) -> None:
    with TestClient(create_app(settings.model_copy(update={"max_watchers": 1}))) as client:
        job = submit(client).json()
        with meanwhile(waited, client, job, LONG_WAIT) as answer:
            refused = waited(client, job, LONG_WAIT)
            accepted = submit(client, {"Prefer": f"wait={LONG_WAIT}"})
            worker.succeed(job["id"])
            assert answer.result().status_code == 200
    assert (refused.status_code, refused.json()["code"]) == (503, "too_many_watchers")
    assert accepted.json()["status"] == "queued"


@pytest.mark.parametrize("tag", [None, "*"])
def test_a_process_that_ends_lets_those_go_who_wait(client: TestClient, tag: str | None) -> None:
    job = submit(client).json()
    start = time.monotonic()
    with meanwhile(waited, client, job, LONG_WAIT, tag) as answer:
        app: Any = client.app
        app.state.event_log.is_stopping = True
        assert answer.result().status_code == (200 if tag is None else 304)
    assert time.monotonic() - start < LONG_WAIT


def test_who_goes_away_waits_no_longer(settings: Settings) -> None:
    """A client that hangs up and comes back, again and again, takes one place only. This one needs a real socket."""
    app = create_app(settings.model_copy(update={"max_watchers": 1}))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started, "the API")
        host, port = server.servers[0].sockets[0].getsockname()
        with httpx2.Client(base_url=f"http://{host}:{port}", timeout=30, trust_env=False) as client:
            job = client.post("/generate", json=good_request()).json()
            with socket.create_connection((host, port)) as connection:
                address = f"{job['urls']['self']}?wait={LONG_WAIT}"
                connection.sendall(f"GET {address} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                wait_until(lambda: app.state.event_log.watchers == 1, "the long poll")
            wait_until(lambda: app.state.event_log.watchers == 0, "its place", patience_s=LONG_WAIT / 2)
    finally:
        server.should_exit = True
        thread.join()


def test_with_prefer_wait_the_answer_is_the_end(client: TestClient, worker: PlayedWorker) -> None:
    job_id = secrets.token_hex(12)
    threading.Timer(0.3, worker.succeed, [job_id]).start()
    response = client.put(f"/jobs/{job_id}", json=good_request(), headers={"Prefer": f"wait={LONG_WAIT}"})
    assert (response.status_code, response.json()["status"]) == (200, "succeeded")
    assert response.headers["preference-applied"] == f"wait={LONG_WAIT}"
    assert response.headers["location"] == f"/jobs/{job_id}"


def test_with_prefer_wait_a_job_that_goes_on_is_answered_with_202(client: TestClient) -> None:
    response = submit(client, {"Prefer": "wait=1"})
    assert (response.json()["status"], response.headers["preference-applied"]) == ("queued", "wait=1")


def test_respond_async_is_what_happens_anyway(client: TestClient) -> None:
    assert submit(client, {"Prefer": "respond-async"}).headers["preference-applied"] == "respond-async"
    assert "preference-applied" not in submit(client, {"Prefer": "return=minimal"}).headers


def test_what_is_known_is_not_sent_again(client: TestClient, worker: PlayedWorker) -> None:
    job = submit(client).json()
    url = job["urls"]["self"]
    first = client.get(url)
    unchanged = client.get(url, headers={"If-None-Match": first.headers["etag"]})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert unchanged.headers["etag"] == first.headers["etag"]
    assert int(unchanged.headers["retry-after"]) >= 1
    worker.succeed(job["id"])
    changed = client.get(url, headers={"If-None-Match": first.headers["etag"]})
    assert (changed.status_code, changed.json()["status"]) == (200, "succeeded")
    ended = client.get(url, headers={"If-None-Match": changed.headers["etag"]})
    assert (ended.status_code, "retry-after" in ended.headers) == (304, False)


def test_the_tag_changes_with_the_place_in_the_queue(client: TestClient) -> None:
    first, second = submit(client).json(), submit(client).json()
    before = client.get(second["urls"]["self"]).headers["etag"]
    client.post(first["urls"]["cancel"])
    after = client.get(second["urls"]["self"])
    assert (after.headers["etag"] != before, after.json()["version"]) == (True, second["version"])


def test_the_answer_that_accepts_a_job_has_the_tag_of_its_job(client: TestClient) -> None:
    response = submit(client)
    assert client.get(response.json()["urls"]["self"]).headers["etag"] == response.headers["etag"]
