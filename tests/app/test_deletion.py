"""Deleting jobs, running them once more, and what is served of jobs that ended badly or are gone."""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from PIL import Image
from starlette.testclient import TestClient

from app.config import Settings
from ms_core.errors import AttemptOverError, StorageError
from ms_jobs.job_store import JobStore
from ms_jobs.keys import queue_name
from ms_jobs.outcomes import Gone, ProgressReply
from ms_jobs.records import JobState
from tests.support.job_helpers import wait_until
from tests.support.played_worker import PNG, PlayedWorker
from tests.support.sample_requests import good_request, good_subject, picture_uri


def submit(client: TestClient, **changes: Any) -> dict[str, Any]:
    response = client.post("/generate", json=good_request(**changes))
    assert response.status_code == 202, response.text
    return response.json()


def retry(client: TestClient, job: dict[str, Any], **headers: str) -> Any:
    return client.post(job["urls"]["retry"], headers={name.replace("_", "-"): value for name, value in headers.items()})


def files(settings: Settings) -> list[Path]:
    return [path for path in settings.data_dir.rglob("*") if path.is_file()]


def keys(redis_client: redis.Redis, job: dict[str, Any]) -> set[str]:
    return {key.decode() for key in redis_client.scan_iter(f"*{job['id']}*")}


def test_a_deleted_job_leaves_nothing_but_a_mark(
    client: TestClient, worker: PlayedWorker, settings: Settings, redis_client: redis.Redis
) -> None:
    job = submit(client)
    worker.succeed(job["id"])
    assert len(files(settings)) > 3
    response = client.delete(job["urls"]["self"])
    assert (response.status_code, response.content) == (204, b"")
    assert files(settings) == []
    assert keys(redis_client, job) - {f"rq:job:local_{job['id']}_0"} == {f"msd:gone:local:{job['id']}"}
    assert redis_client.zscore("msd:jobs:local", job["id"]) is None


def test_a_queued_job_that_is_deleted_leaves_the_queue(
    client: TestClient, settings: Settings, redis_client: redis.Redis
) -> None:
    job = submit(client)
    client.delete(job["urls"]["self"])
    assert redis_client.llen(f"rq:queue:{queue_name(settings.model)}") == 0
    assert keys(redis_client, job) == {f"msd:gone:local:{job['id']}"}


def test_the_worker_of_a_deleted_job_lets_go_and_can_write_nothing(
    client: TestClient, worker: PlayedWorker, settings: Settings
) -> None:
    job = submit(client)
    record = worker.begin(job["id"])
    client.delete(job["urls"]["self"])
    assert worker.jobs.progress(job["id"], record.attempt, phase="denoise") is ProgressReply.TAKEN
    with pytest.raises(AttemptOverError):
        worker.artifacts.save_image(record.folder, record.attempt, 0, PNG)
    assert worker.jobs.finish(job["id"], record.attempt, JobState.SUCCEEDED) is None
    assert files(settings) == []


def test_pictures_that_another_job_needs_stay(client: TestClient, worker: PlayedWorker) -> None:
    first, second = submit(client), submit(client, seed=8)
    client.delete(first["urls"]["self"])
    names = worker.picture_names(second["id"])
    assert all(worker.picture(second["id"], sha256).size == (8, 8) for sha256 in names)


PATHS = ["", "/images/0", "/references/0", "/request", f"/pictures/{'0' * 64}", "/events", "?wait=5"]


@pytest.mark.parametrize(
    ("method", "below"), [*(("GET", below) for below in PATHS), ("POST", "/cancel"), ("POST", "/retry")]
)
def test_a_deleted_job_is_gone(client: TestClient, worker: PlayedWorker, method: str, below: str) -> None:
    job = submit(client)
    worker.succeed(job["id"])
    client.delete(job["urls"]["self"])
    response = client.request(method, f"{job['urls']['self']}{below}")
    assert (response.status_code, response.json()["code"]) == (410, "job_gone")
    assert "was deleted" in response.json()["detail"]


def test_an_expired_job_is_gone_and_says_so(client: TestClient, worker: PlayedWorker, later: JobStore) -> None:
    job = submit(client)
    worker.succeed(job["id"])
    later.erase(job["id"], Gone.EXPIRED)
    response = client.get(job["urls"]["self"])
    assert (response.status_code, response.json()["code"]) == (410, "job_gone")
    assert "has expired" in response.json()["detail"]


def test_deleting_twice_is_no_error(client: TestClient) -> None:
    job = submit(client)
    assert [client.delete(job["urls"]["self"]).status_code for _ in range(2)] == [204, 204]


@pytest.mark.parametrize("job_id", ["unknown-but-well-formed", "short", "..%2f..%2fetc", "%00"])
def test_what_never_was_cannot_be_deleted(client: TestClient, job_id: str) -> None:
    response = client.delete(f"/jobs/{job_id}")
    assert (response.status_code, response.headers["content-type"]) == (404, "application/problem+json")


def test_a_retry_is_a_new_job_with_the_same_request_and_seed(client: TestClient, worker: PlayedWorker) -> None:
    old = submit(client, seed=None)
    worker.fail(old["id"])
    response = retry(client, old)
    new = response.json()
    assert (response.status_code, response.headers["location"]) == (202, f"/jobs/{new['id']}")
    assert (new["retried_from"], new["seed"], new["status"]) == (old["id"], old["seed"], "queued")
    assert new["id"] != old["id"]
    assert worker.request(new["id"]) == worker.request(old["id"])
    assert client.get(old["urls"]["self"]).json()["status"] == "failed"


@pytest.mark.parametrize("end", ["succeed", "fail", "cancel"])
def test_a_job_can_be_retried_however_it_ended(client: TestClient, worker: PlayedWorker, end: str) -> None:
    job = submit(client)
    client.post(job["urls"]["cancel"]) if end == "cancel" else getattr(worker, end)(job["id"])
    new = retry(client, job).json()
    assert (new["status"], new["position"], new["attempt"], new["error"]) == ("queued", 0, 0, None)


@pytest.mark.parametrize("is_running", [False, True])
def test_a_job_that_has_not_ended_cannot_be_retried(
    client: TestClient, worker: PlayedWorker, settings: Settings, is_running: bool
) -> None:
    job = submit(client)
    if is_running:
        worker.begin(job["id"])
    response = retry(client, job)
    assert (response.status_code, response.json()["code"]) == (409, "job_conflict")
    assert len(list((settings.data_dir / "local" / "jobs").iterdir())) == 1


def test_a_retry_needs_nothing_of_the_old_job(client: TestClient, worker: PlayedWorker) -> None:
    noise = Image.effect_noise((32, 32), 90).convert("RGB")
    old = submit(client, subjects=[good_subject(image=picture_uri(noise))])
    worker.succeed(old["id"])
    new = retry(client, old).json()
    client.delete(old["urls"]["self"])
    (sha256,) = worker.picture_names(new["id"])
    assert worker.picture(new["id"], sha256).tobytes() == noise.tobytes()
    worker.succeed(new["id"])


def test_a_retry_with_a_key_is_made_once(client: TestClient, worker: PlayedWorker, settings: Settings) -> None:
    old = submit(client)
    worker.succeed(old["id"])
    key = secrets.token_hex(8)
    first, second = retry(client, old, Idempotency_Key=key), retry(client, old, Idempotency_Key=key)
    assert (second.json()["id"], second.headers["idempotency-replayed"]) == (first.json()["id"], "true")
    other = client.post("/generate", json=good_request(), headers={"Idempotency-Key": key})
    assert (other.status_code, other.json()["code"]) == (422, "request_mismatch")
    assert len(list((settings.data_dir / "local" / "jobs").iterdir())) == 2


def test_a_retry_takes_deadlines_of_its_own(client: TestClient, worker: PlayedWorker) -> None:
    old = client.post("/generate", json=good_request(), headers={"Cancel-After": "1h"}).json()
    worker.succeed(old["id"])
    assert retry(client, old).json()["cancel_at"] is None
    assert retry(client, old, Cancel_After="5m").json()["cancel_at"] is not None


@pytest.mark.parametrize("state", [JobState.CANCELED, JobState.FAILED])
def test_no_picture_is_served_of_a_job_that_ended_badly(
    client: TestClient, worker: PlayedWorker, state: JobState
) -> None:
    """Its attempt had stored everything, and its end came otherwise."""
    job = submit(client)
    worker.begin(job["id"])
    worker.save_reference(job["id"], 0)
    worker.progress(job["id"], references=(0,))
    manifest = worker.store(job["id"])
    if state is JobState.CANCELED:
        client.post(job["urls"]["cancel"])
        worker.finish(job["id"], JobState.SUCCEEDED, images=manifest.images, result_attempt=1)
    else:
        worker.finish(job["id"], state, images=manifest.images, result_attempt=1)
    ended = client.get(job["urls"]["self"]).json()
    assert (ended["status"], ended["images"], ended["references"]) == (state, [], [])
    answers = [client.get(f"{job['urls']['self']}/{kind}/0") for kind in ("images", "references")]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert answers[0].json()["code"] == "image_not_found"


def test_a_picture_that_is_damaged_is_not_served(client: TestClient, worker: PlayedWorker, settings: Settings) -> None:
    job = submit(client)
    worker.succeed(job["id"])
    (path,) = (settings.data_dir / "local" / "jobs").rglob("image-0.png")
    path.write_bytes(path.read_bytes()[:5])
    response = client.get(f"{job['urls']['self']}/images/0")
    assert (response.status_code, response.json()["code"]) == (503, "storage_unavailable")


def test_a_deletion_that_found_the_store_closed_is_repeated(
    client: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submit(client)

    def fail(source: Path, target: Path) -> None:
        raise StorageError("The storage cannot be written: Read-only file system.")

    with monkeypatch.context() as closed:
        closed.setattr("ms_jobs.artifacts.move", fail)
        assert [client.delete(job["urls"]["self"]).status_code for _ in range(2)] == [503, 503]
    assert client.delete(job["urls"]["self"]).status_code == 204
    assert list((settings.data_dir / "local" / "jobs").iterdir()) == []


def test_a_job_that_is_deleted_while_its_sender_waits_is_the_answer(
    client: TestClient, redis_client: redis.Redis, settings: Settings
) -> None:
    job_id = secrets.token_hex(12)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.put, f"/jobs/{job_id}", json=good_request(), headers={"Prefer": "wait=20"})
        wait_until(lambda: redis_client.exists(f"msd:job:local:{job_id}"), "the job", 10)
        assert client.delete(f"/jobs/{job_id}").status_code == 204
        response = waiting.result()
    assert (response.status_code, response.json()["id"]) == (202, job_id)
