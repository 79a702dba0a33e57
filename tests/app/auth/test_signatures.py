"""Signed addresses: one place of one job, for some minutes, for reading alone."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
from starlette.testclient import TestClient

from app.auth import signatures
from app.config import Settings
from app.main import create_app
from ms_jobs import keys
from ms_jobs.artifacts import ArtifactStore
from ms_jobs.job_store import JobStore
from tests.support.played_worker import PlayedWorker
from tests.support.sample_requests import good_request

Headers = dict[str, str]


@pytest.fixture
def ann(key_of: Callable[..., Headers], owner: str) -> Headers:
    return key_of(owner)


@pytest.fixture
def job(client: TestClient, redis_client: redis.Redis, settings: Settings, ann: Headers, owner: str) -> dict[str, Any]:
    """A finished job with its signed addresses."""
    job_id = client.post("/generate", json=good_request(), headers=ann).json()["id"]
    PlayedWorker(redis_client, JobStore(redis_client, owner), ArtifactStore(settings.data_dir, owner)).succeed(job_id)
    return client.get(f"/jobs/{job_id}?signed=true", headers=ann).json()


@contextmanager
def canceled_later(client: TestClient, job_id: str, headers: Headers) -> Iterator[None]:
    """Ends a stream that nothing else ends."""
    timer = threading.Timer(8, client.post, [f"/jobs/{job_id}/cancel"], {"headers": headers})
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def test_who_has_a_signed_address_needs_no_key(client: TestClient, job: dict[str, Any]) -> None:
    signed = job["urls"]["signed"]
    assert client.get(signed["images"][0]).headers["content-type"] == "image/png"
    assert client.head(signed["images"][0]).status_code == 200
    assert "event: succeeded" in client.get(signed["events"]).text
    assert "event: succeeded" in client.get(f"{signed['events']}&preview=true").text
    assert client.get(job["images"][0]["url"]).status_code == 401


def test_they_are_there_on_request_alone(client: TestClient, ann: Headers, job: dict[str, Any]) -> None:
    plain = client.get(f"/jobs/{job['id']}", headers=ann)
    assert plain.json()["urls"]["signed"] is None
    again = client.get(f"/jobs/{job['id']}?signed=true", headers={**ann, "If-None-Match": plain.headers["etag"]})
    assert again.json()["urls"]["signed"]["images"]


def test_a_signature_is_for_its_place_alone(client: TestClient, job: dict[str, Any]) -> None:
    query = job["urls"]["signed"]["images"][0].partition("?")[2]
    path = f"/jobs/{job['id']}"
    for other in (path, f"{path}/events", f"{path}/images/1", f"{path}/request", "/jobs", "/metrics", "/session"):
        assert client.get(f"{other}?{query}").status_code == 401
    for method in ("POST", "PUT", "DELETE"):
        assert client.request(method, f"{path}/images/0?{query}").status_code == 401


@pytest.mark.parametrize(
    ("pattern", "replacement"),
    [
        (r"expires=\d+", "expires=99999999999"),
        (r"expires=\d+", "expires=x"),
        (r"expires=\d+&", ""),
        (r"owner=[^&]+", "owner=local"),
        (r"signature=.", "signature=_"),
        (r"signature=.+", "signature="),
        (r"signature=.+", "signature=%C3%A4"),
    ],
)
def test_a_forged_address_opens_nothing(
    client: TestClient, job: dict[str, Any], pattern: str, replacement: str
) -> None:
    address = re.sub(pattern, replacement, job["urls"]["signed"]["images"][0])
    answer = client.get(address)
    assert address != job["urls"]["signed"]["images"][0]
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")


def test_an_address_ends(client: TestClient, job: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    address, now = job["urls"]["signed"]["images"][0], time.time()
    monkeypatch.setattr(signatures.time, "time", lambda: now + 590)
    assert client.get(address).status_code == 200
    monkeypatch.setattr(signatures.time, "time", lambda: now + 601)
    assert client.get(address).status_code == 401


def test_without_its_secret_no_address_is_valid(
    client: TestClient, redis_client: redis.Redis, job: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signatures, "SECRET_AGE_S", 0.0)
    redis_client.delete(keys.signing_secret())
    assert client.get(job["urls"]["signed"]["images"][0]).status_code == 401


def test_processes_share_the_secret(settings: Settings, client: TestClient, job: dict[str, Any]) -> None:
    with TestClient(create_app(settings.model_copy(update={"auth": "on"}))) as other:
        assert other.get(job["urls"]["signed"]["images"][0]).status_code == 200


def test_below_a_prefix_and_with_a_public_address_they_work_too(
    settings: Settings, ann: Headers, job: dict[str, Any]
) -> None:
    own = settings.model_copy(update={"auth": "on", "public_url": "https://pictures.example/msd"})
    with TestClient(create_app(own), root_path="/msd") as client:
        urls = client.get(f"/msd/jobs/{job['id']}?signed=true", headers=ann).json()["urls"]
        assert urls["self"] == f"https://pictures.example/msd/jobs/{job['id']}"
        address = urls["signed"]["images"][0]
        assert address.startswith(f"{urls['self']}/images/0?expires=")
        assert client.get(address.removeprefix("https://pictures.example")).status_code == 200
        assert client.get(f"/msd/jobs/{job['id']}", headers=ann | {"Host": "pictures.example"}).status_code == 200


def test_a_stream_ends_with_its_signature(settings: Settings, ann: Headers) -> None:
    brief = settings.model_copy(update={"auth": "on", "signed_url_lifetime_s": 2.0})
    with TestClient(create_app(brief)) as client:
        job_id = client.post("/generate", json=good_request(), headers=ann).json()["id"]
        address = client.get(f"/jobs/{job_id}?signed=true", headers=ann).json()["urls"]["signed"]["events"]
        with canceled_later(client, job_id, ann):
            text = client.get(address).text
    assert "event: status" in text
    assert "event: canceled" not in text


def test_a_stream_ends_with_its_key(
    client: TestClient, api_keys: Any, key_of: Callable[..., Headers], owner: str
) -> None:
    headers = key_of(owner, name=owner)
    job_id = client.post("/generate", json=good_request(), headers=headers).json()["id"]
    revoking = threading.Timer(0.5, api_keys.revoke, [owner])
    revoking.start()
    with canceled_later(client, job_id, key_of(owner)):
        text = client.get(f"/jobs/{job_id}/events", headers=headers).text
    revoking.join()
    assert "event: status" in text
    assert "event: canceled" not in text
