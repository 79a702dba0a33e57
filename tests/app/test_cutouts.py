"""Cut-outs of assets: asked of a worker, then kept."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from starlette.testclient import TestClient

from app.config import Settings
from ms_jobs import keys
from ms_jobs.artifacts import ArtifactStore
from ms_jobs.assets import AssetStore
from ms_jobs.keys import JobKey
from ms_jobs.queue import is_cutout_entry
from ms_jobs.records import CUTOUT_JOB, LOCAL_OWNER, JobError, WorkerRecord, WorkerState
from ms_jobs.registry import Registry
from tests.support.sample_requests import drawing, encoded, good_request, picture_uri

PNG = encoded(drawing("red"))


@pytest.fixture
def asset(client: TestClient) -> dict[str, Any]:
    return client.post("/assets", json={"image": picture_uri(drawing("orange"))}).json()["assets"][0]


@pytest.fixture
def url(asset: dict[str, Any]) -> str:
    return f"/assets/{asset['id']}/cutout"


@pytest.fixture
def assets(artifacts: ArtifactStore, settings: Settings) -> AssetStore:
    return artifacts.assets(settings.asset_lifetime_s)


def beat(registry: Registry, model: str, state: WorkerState = WorkerState.IDLE) -> None:
    worker = WorkerRecord(name=f"{model}-1", model=model, state=state, device="cpu", host="h", pid=1, started_at=0.0)
    registry.publish_worker(worker, 60)


def waiting(redis_client: redis.Redis, settings: Settings) -> list[str]:
    return [entry.decode() for entry in redis_client.lrange(keys.queue(settings.model), 0, -1)]


def test_a_cut_out_is_asked_for_once_then_kept(
    client: TestClient,
    redis_client: redis.Redis,
    registry: Registry,
    settings: Settings,
    assets: AssetStore,
    asset: dict[str, Any],
    url: str,
) -> None:
    beat(registry, settings.model)
    first = client.get(url)
    assert (first.status_code, first.headers["retry-after"], first.content) == (202, "1", b"")
    assert client.head(url).status_code == 202
    (entry,) = waiting(redis_client, settings)
    assert redis_client.hget(keys.rq_job(entry), "description") is not None
    assert CUTOUT_JOB.encode() in redis_client.hget(keys.rq_job(entry), "description")  # pyright: ignore
    assets.keep_cutout(asset["id"], settings.model, PNG)
    made = client.get(url)
    assert (made.status_code, made.headers["content-type"], made.content) == (200, "image/png", PNG)
    assert client.get(f"{url}?model={settings.model}").content == PNG


def test_it_goes_before_jobs_and_is_none_of_them(
    client: TestClient, redis_client: redis.Redis, registry: Registry, settings: Settings, url: str
) -> None:
    beat(registry, settings.model)
    job_id = client.post("/generate", json=good_request()).json()["id"]
    client.get(url)
    cutout, job = waiting(redis_client, settings)
    assert is_cutout_entry(cutout)
    assert JobKey.of_entry(job) == JobKey(LOCAL_OWNER, job_id)
    assert client.get(f"/jobs/{job_id}").json()["status"] == "queued"


def test_without_a_worker_it_cannot_be_made(
    client: TestClient, registry: Registry, settings: Settings, url: str
) -> None:
    for state in (None, WorkerState.STARTING, WorkerState.FAILED):
        if state is not None:
            beat(registry, settings.model, state)
        response = client.get(url)
        assert (response.status_code, response.json()["code"]) == (503, "no_worker")
        assert response.headers["retry-after"] == "5"


def test_one_that_was_made_needs_no_worker(
    client: TestClient, settings: Settings, assets: AssetStore, asset: dict[str, Any], url: str
) -> None:
    assets.keep_cutout(asset["id"], settings.model, PNG)
    assert client.get(url).content == PNG


def test_why_it_could_not_be_made_is_told_once(
    client: TestClient, registry: Registry, settings: Settings, assets: AssetStore, asset: dict[str, Any], url: str
) -> None:
    beat(registry, settings.model)
    assets.refuse_cutout(
        asset["id"], settings.model, JobError(code="device_out_of_memory", detail="Too little memory.")
    )
    response = client.get(url)
    assert (response.status_code, response.json()["code"]) == (503, "device_out_of_memory")
    assert client.get(url).status_code == 202


def test_another_model_is_told(client: TestClient, url: str) -> None:
    for model in ("other", "", "../x"):
        response = client.get(url, params={"model": model})
        assert (response.status_code, response.json()["code"]) == (400, "invalid_parameter")


@pytest.mark.parametrize("asset_id", ["0" * 32, "x", "a%00b"])
def test_an_asset_that_is_not_there_has_none(client: TestClient, asset_id: str) -> None:
    response = client.get(f"/assets/{asset_id}/cutout")
    assert (response.status_code, response.json()["code"]) == (404, "asset_not_found")


def test_it_goes_with_its_asset(
    client: TestClient, settings: Settings, assets: AssetStore, asset: dict[str, Any], url: str
) -> None:
    assets.keep_cutout(asset["id"], settings.model, PNG)
    client.delete(asset["urls"]["self"])
    assert client.get(url).status_code == 404
    assert [path for path in settings.data_dir.rglob("*") if path.is_file()] == []


def test_an_upload_of_the_same_picture_leaves_it(
    client: TestClient, settings: Settings, assets: AssetStore, asset: dict[str, Any], url: str
) -> None:
    assets.keep_cutout(asset["id"], settings.model, PNG)
    client.post("/assets", json={"image": picture_uri(drawing("orange"))})
    assert client.get(url).content == PNG
