"""A submission beyond a limit is refused with 429 and leaves nothing."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import pytest
import redis
from PIL import Image
from starlette.testclient import TestClient

from app.config import Settings
from app.jobs.rate import SubmitRate
from app.main import create_app
from app.requests.sent import SentBytes
from app.service.errors import HTTPProblem
from ms_core.config import ModelCard
from tests.support.sample_requests import encoded, good_request


def limited(settings: Settings, **limits: int) -> TestClient:
    return TestClient(create_app(settings.model_copy(update=limits)))


def refusal(response: Any) -> tuple[int, str, str | None]:
    return response.status_code, response.json()["code"], response.headers.get("retry-after")


def test_a_flood_of_jobs_is_refused_from_the_limit_on_and_leaves_no_files(settings: Settings, card: ModelCard) -> None:
    with limited(settings, max_waiting=5) as client:
        statuses = [client.post("/generate", json=good_request()).status_code for _ in range(12)]
    assert statuses == [202] * 5 + [429] * 7
    assert len(list((settings.data_dir / "local" / "jobs").iterdir())) == 5


def test_three_hundred_jobs_of_eight_pictures_and_150_steps_are_more_than_the_defaults(settings: Settings) -> None:
    assert 0 < settings.max_waiting < 300
    assert 0 < settings.max_queue <= 1000
    assert 0 < Settings().max_submits_per_minute < 300
    assert settings.max_waiting * 8 * 150 < settings.max_steps_per_day < 1000 * 8 * 150


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        ({"max_waiting": 1}, "too_many_waiting"),
        ({"max_queue": 1}, "queue_full"),
        ({"max_steps_per_day": 30}, "steps_spent"),
    ],
)
def test_each_limit_has_a_code_of_its_own(
    settings: Settings, card: ModelCard, limits: dict[str, int], code: str
) -> None:
    with limited(settings, **limits) as client:
        assert client.post("/generate", json=good_request()).status_code == 202
        status, told, wait_s = refusal(client.post("/generate", json=good_request()))
        assert (status, told) == (429, code)
        assert wait_s is not None
        assert int(wait_s) > 0


def test_a_job_that_can_never_be_done_has_no_time_to_try_again(settings: Settings, card: ModelCard) -> None:
    with limited(settings, max_steps_per_day=19) as client:
        assert refusal(client.post("/generate", json=good_request())) == (429, "steps_spent", None)


def test_a_retry_is_charged_like_the_job(settings: Settings, card: ModelCard) -> None:
    with limited(settings, max_steps_per_day=50) as client:
        job_id = client.post("/generate", json=good_request()).json()["id"]
        client.post(f"/jobs/{job_id}/cancel")
        assert client.post(f"/jobs/{job_id}/retry").status_code == 202
        assert client.get("/usage").json()["picture_steps"] == {"used": 20, "limit": 50}


def test_usage_tells_what_is_used_and_what_may_be(settings: Settings, card: ModelCard) -> None:
    with limited(settings, max_waiting=3, max_queue=0, max_steps_per_day=100) as client:
        client.post("/generate", json=good_request())
        assert client.get("/usage").json() == {
            "waiting": {"used": 1, "limit": 3},
            "queue": {"used": 1, "limit": None},
            "asset_bytes": {"used": 0, "limit": 4096 * 2**20},
            "sent_bytes": {"used": kibibytes(json.dumps(good_request())), "limit": 16384 * 2**20},
            "picture_steps": {"used": 20, "limit": 100},
        }


def test_so_many_jobs_are_sent_within_a_minute_and_no_more(settings: Settings, card: ModelCard) -> None:
    with limited(settings, max_submits_per_minute=3) as client:
        answers = [client.post("/generate", json=good_request()) for _ in range(2)]
        answers.append(client.post("/v1/images/generations", json={}))
        refused = client.put(f"/jobs/{'a' * 22}", content=b"this is not read")
        as_openai = client.post("/v1/images/generations", json={})
        assert client.get("/jobs").status_code == 200
    assert [answer.headers["ratelimit"].partition(";t=")[0] for answer in answers] == [
        '"submits";r=2',
        '"submits";r=1',
        '"submits";r=0',
    ]
    assert {answer.headers["ratelimit-policy"] for answer in (*answers, refused)} == {'"submits";q=3;w=60'}
    status, code, wait_s = refusal(refused)
    assert (status, code) == (429, "too_many_submits")
    assert 1 <= int(wait_s or 0) <= 60
    assert as_openai.json()["error"]["type"] == "rate_limit_error"


def test_each_owner_has_a_rate_of_their_own(redis_client: redis.Redis, settings: Settings) -> None:
    rate = SubmitRate(redis_client, settings.model, 1)
    assert [rate.take(owner).is_free for owner in ("ann", "bob", "ann", "bob")] == [True, True, False, False]


def test_a_repeat_counts_as_sent_and_other_processes_count_too(settings: Settings, card: ModelCard) -> None:
    body, headers = good_request(), {"Idempotency-Key": "again"}
    with limited(settings, max_submits_per_minute=2) as one, limited(settings, max_submits_per_minute=2) as other:
        assert one.post("/generate", json=body, headers=headers).status_code == 202
        assert other.post("/generate", json=body, headers=headers).status_code == 202
        assert one.post("/generate", json=body, headers=headers).status_code == 429


def test_a_rate_of_zero_is_none(settings: Settings, card: ModelCard) -> None:
    with limited(settings, max_submits_per_minute=0) as client:
        assert "ratelimit" not in client.post("/generate", json=good_request()).headers


def kibibytes(text: str) -> int:
    return math.ceil(len(text) / 1024) * 1024


def test_so_much_is_sent_within_a_day_and_no_more(settings: Settings) -> None:
    picture = noise_png(0, 700)
    assert 1 < len(picture) / 2**20 < 2
    with limited(settings, max_sent_mb_per_day=3) as client:
        assert client.post("/assets", files=[("file", picture)]).status_code == 201
        status, code, wait_s = refusal(client.post("/assets", files=[("file", picture), ("file", picture)]))
        assert (status, code) == (429, "sent_too_much")
        assert 1 <= int(wait_s or 0) <= 24 * 3600
        # What is refused is not counted.
        assert client.post("/assets", files=[("file", picture)]).status_code == 201
        as_openai = client.post("/v1/images/edits", files=[("image", picture)], data={"prompt": "a cat"})
        assert client.post("/validate", json=good_request()).status_code == 200
    assert as_openai.json()["error"]["type"] == "rate_limit_error"


def test_each_owner_may_send_as_much(redis_client: redis.Redis) -> None:
    sent = SentBytes(redis_client, "mini", 1)
    for owner in ("ann", "bob"):
        sent.charge(owner, 2**20)
        assert sent.used(owner) == 2**20
        with pytest.raises(HTTPProblem):
            sent.charge(owner, 1)
    SentBytes(redis_client, "mini", 0).charge("ann", 2**20)


def test_without_redis_nothing_is_counted() -> None:
    SentBytes(redis.Redis(port=1), "mini", 1).charge("ann", 2**30)


def test_assets_take_so_much_and_no_more(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.assets.uploads.MEBIBYTE", 1000)
    first, second = (noise_png(seed) for seed in range(2))
    with limited(settings, max_asset_mb=len(first) * 3 // 2000) as client:
        stored = client.post("/assets", files=[("file", first)])
        assert stored.status_code == 201
        assert client.get("/usage").json()["asset_bytes"]["used"] >= len(first) // 2
        assert refusal(client.post("/assets", files=[("file", second)])) == (429, "assets_full", None)
        assert client.post("/assets", files=[("file", first)]).status_code == 201
        client.delete(f"/assets/{stored.json()['assets'][0]['id']}")
        assert client.post("/assets", files=[("file", second)]).status_code == 201
    assert not [path for path in (settings.data_dir / "local" / "assets").iterdir() if path.name.startswith(".")]


def noise_png(seed: int, side: int = 64) -> bytes:
    pixels = random.Random(seed).randbytes(side * side * 3)
    return encoded(Image.frombytes("RGB", (side, side), pixels))
