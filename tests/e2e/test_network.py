"""A service that other machines can reach: real processes from the first key on, and no secret in any log or error."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from msd_client import AccessError, Client
from tests.support.job_helpers import wait_until
from tests.support.own_redis import running_redis
from tests.support.sample_requests import good_request
from tests.support.service_processes import environment, free_port, msd, run_msd
from worker.process import Command, end_process, start_process


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    """A Redis without any key."""
    with running_redis(tmp_path) as url:
        yield url


@contextmanager
def running_api(folder: Path, log: Path, **settings: str) -> Iterator[httpx2.Client]:
    port = free_port()
    argv = msd("api", "--host", "0.0.0.0", "--port", port, "--data", folder / "data", "--allow-remote")
    process = start_process(Command("api", argv, environment(**settings), log))
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as client:

        def answers() -> bool:
            assert process.poll() is None, log.read_text()
            try:
                return client.get("/livez").status_code == 200
            except httpx2.TransportError:
                return False

        try:
            wait_until(answers, "the API")
            yield client
        finally:
            end_process(process, 10)


def create(redis_url: str, name: str, *options: str) -> str:
    made = run_msd("keys", "create", name, *options, MSD_REDIS_URL=redis_url)
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


def test_without_a_key_it_does_not_start_and_says_how_to_make_one(redis_url: str, tmp_path: Path) -> None:
    arguments = ("api", "--host", "0.0.0.0", "--port", free_port(), "--data", tmp_path, "--allow-remote")
    refused = run_msd(*arguments, MSD_REDIS_URL=redis_url)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "Make the first one with: msd keys create" in refused.stderr


def test_if_the_operator_says_so_it_starts_without(redis_url: str, tmp_path: Path) -> None:
    with running_api(tmp_path, tmp_path / "api.log", MSD_REDIS_URL=redis_url, MSD_AUTH="off") as client:
        assert client.get("/jobs").status_code == 200


def test_no_secret_is_in_any_log_or_error(redis_url: str, tmp_path: Path) -> None:
    text, log = create(redis_url, "ann", "--owner", "ann"), tmp_path / "api.log"
    wrong = "msd_wrong-but-perhaps-nearly-right"
    key = {"Authorization": f"Bearer {text}"}
    settings = {"MSD_REDIS_URL": redis_url, "MSD_LOG_LEVEL": "debug", "MSD_LOG_FORMAT": "json"}
    errors: list[httpx2.Response] = []
    with running_api(tmp_path, log, **settings) as client:
        assert client.get("/jobs").status_code == 401
        job = client.post("/generate", json=good_request(), headers=key).json()
        signed = client.get(f"/jobs/{job['id']}?signed=true", headers=key).json()["urls"]["signed"]["events"]
        opened = client.post("/session", headers=key)
        token = opened.cookies["msd_session"]
        assert client.get("/jobs").json()["jobs"][0]["id"] == job["id"]
        with Client(str(client.base_url), api_key=text) as own:
            assert own.job(job["id"]).id == job["id"]
        with Client(str(client.base_url), api_key=wrong) as other, pytest.raises(AccessError) as caught:
            other.models()
        assert wrong not in str(caught.value)
        signature = signed.partition("signature=")[2]
        cases = [
            ("GET", f"/jobs?key={text}", {"X-API-Key": wrong}),
            ("GET", signed.replace("expires=", "expires=1"), {"Cookie": ""}),
            ("GET", f"/jobs/{job['id']}?last_event_id={text}&limit=x", key),
            ("GET", f"/jobs?limit={text}", key),
            ("POST", "/generate", key | {"Idempotency-Key": f"{text} {token}"}),
            ("DELETE", "/jobs", key),
            ("GET", f"/v1/{text}", key | {"Cookie": f"msd_session={token}"}),
        ]
        for method, path, headers in cases:
            errors.append(client.request(method, path, headers=headers))
        errors += [client.get("/jobs", headers={"X-API-Key": wrong}) for _ in range(25)]
        client.delete("/session")
    assert {401, 429} <= {error.status_code for error in errors}
    told = [f"{error.text} {error.headers}" for error in errors if error.status_code >= 400]
    logged = log.read_text()
    assert "request answered" in logged
    for secret in (text, text.removeprefix("msd_")[8:], wrong, token, signature):
        assert secret not in logged
        assert [answer for answer in told if secret in answer] == []
    assert re.search(r"msd_[A-Za-z0-9_-]{20,}", logged) is None
