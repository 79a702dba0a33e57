"""Each request makes one job, however often it is sent and by how many at once."""

from __future__ import annotations

import json
import secrets
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from PIL import Image
from starlette.testclient import TestClient

from app.config import Settings
from app.jobs.submit import Submissions, SubmitOptions, Submitted, request_hash
from app.main import create_app
from app.requests.decoding import PictureLimits
from app.requests.intake import SentRequest, parse_request
from ms_core.config import ModelCard
from ms_core.errors import RequestMismatchError
from ms_jobs.artifacts import ArtifactStore
from ms_jobs.job_store import JobStore
from ms_jobs.keys import queue_name
from ms_jobs.outcomes import CreateOutcome, Gone
from ms_jobs.registry import Registry
from tests.support.played_worker import PlayedWorker
from tests.support.sample_requests import good_request, good_subject, picture_uri

AT_ONCE = 64
SIZES = {"defaults": {"height": 128, "width": 256}, "sizes": [[128, 256]]}


def fresh_id() -> str:
    return secrets.token_hex(12)


def put(client: TestClient, job_id: str, headers: dict[str, str] | None = None, **changes: Any) -> Any:
    return client.put(f"/jobs/{job_id}", json=good_request(**changes), headers=headers)


def post(client: TestClient, key: str, **changes: Any) -> Any:
    return client.post("/generate", json=good_request(**changes), headers={"Idempotency-Key": key})


def job_folders(settings: Settings) -> list[Path]:
    return list((settings.data_dir / "local" / "jobs").iterdir())


def at_once(count: int, call: Any) -> list[Any]:
    with ThreadPoolExecutor(count) as pool:
        return [future.result() for future in [pool.submit(call) for _ in range(count)]]


def test_a_job_can_be_put_under_an_id_of_ones_own(client: TestClient) -> None:
    job_id = fresh_id()
    response = put(client, job_id)
    assert (response.status_code, response.json()["id"]) == (202, job_id)
    assert response.headers["location"] == f"/jobs/{job_id}"
    assert "idempotency-replayed" not in response.headers


def test_a_job_that_ends_at_once_is_accepted_all_the_same(
    client: TestClient, worker: PlayedWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Submissions.submit

    def submit(self: Submissions, *arguments: Any) -> Submitted:
        submitted = original(self, *arguments)
        worker.succeed(submitted.record.id)
        return Submitted(worker.record(submitted.record.id), replayed=False)

    monkeypatch.setattr(Submissions, "submit", submit)
    assert client.post("/generate", json=good_request()).status_code == 202
    assert client.post("/generate", json=good_request(), headers={"Prefer": "wait=5"}).status_code == 200


@pytest.mark.parametrize("job_id", ["x" * 15, "x" * 65, "a.b.c.d.e.f.g.h.i", "%20" * 20, "ä" * 20])
def test_an_id_of_a_wrong_form_is_told(client: TestClient, job_id: str) -> None:
    response = put(client, job_id)
    assert (response.status_code, response.json()["code"]) == (400, "invalid_parameter")
    assert "16 to 64 letters" in response.json()["detail"]


def test_a_put_that_is_repeated_gives_the_same_job(client: TestClient, settings: Settings) -> None:
    job_id = fresh_id()
    first, second = put(client, job_id), put(client, job_id)
    assert (second.status_code, second.headers["idempotency-replayed"]) == (202, "true")
    assert (second.json()["id"], second.json()["version"]) == (job_id, first.json()["version"])
    assert len(job_folders(settings)) == 1


def test_a_put_that_is_repeated_after_the_end_gives_the_result(client: TestClient, worker: PlayedWorker) -> None:
    job_id = fresh_id()
    put(client, job_id)
    worker.succeed(job_id)
    response = put(client, job_id)
    assert (response.status_code, response.json()["status"]) == (200, "succeeded")
    assert response.headers["idempotency-replayed"] == "true"


def test_another_request_under_the_same_id_is_refused(client: TestClient, settings: Settings) -> None:
    job_id = fresh_id()
    put(client, job_id)
    response = put(client, job_id, seed=8)
    assert (response.status_code, response.json()["code"]) == (422, "request_mismatch")
    assert client.get(f"/jobs/{job_id}").json()["seed"] == 7
    assert len(job_folders(settings)) == 1


def test_a_drawn_seed_is_drawn_once(client: TestClient) -> None:
    job_id = fresh_id()
    seeds = {put(client, job_id, seed=None).json()["seed"] for _ in range(3)}
    assert len(seeds) == 1


def test_the_id_of_a_deleted_job_is_not_used_again(client: TestClient, settings: Settings) -> None:
    job_id = fresh_id()
    put(client, job_id)
    client.delete(f"/jobs/{job_id}")
    response = put(client, job_id)
    assert (response.status_code, response.json()["code"]) == (410, "job_gone")
    assert job_folders(settings) == []


def test_the_id_of_an_expired_job_is_not_used_again(client: TestClient, worker: PlayedWorker, later: JobStore) -> None:
    job_id = fresh_id()
    put(client, job_id)
    worker.succeed(job_id)
    later.erase(job_id, Gone.EXPIRED)
    response = put(client, job_id)
    assert (response.status_code, response.json()["code"]) == (410, "job_gone")


def test_a_key_is_free_again_when_its_job_is_gone(client: TestClient) -> None:
    key = secrets.token_hex(8)
    first = post(client, key).json()["id"]
    client.delete(f"/jobs/{first}")
    response = post(client, key, seed=8)
    assert response.status_code == 202
    assert "idempotency-replayed" not in response.headers


def test_a_post_that_is_repeated_gives_the_same_job(client: TestClient) -> None:
    key = secrets.token_hex(8)
    first, second = post(client, key), post(client, key)
    assert (second.status_code, second.headers["idempotency-replayed"]) == (202, "true")
    assert second.json()["id"] == first.json()["id"]
    assert second.headers["location"] == first.headers["location"]


def test_a_key_stands_for_one_request(client: TestClient) -> None:
    key = secrets.token_hex(8)
    post(client, key)
    response = post(client, key, prompt="a cat and a teapot at home")
    assert (response.status_code, response.json()["code"]) == (422, "request_mismatch")


def test_without_a_key_every_request_makes_a_job(client: TestClient) -> None:
    ids = {client.post("/generate", json=good_request()).json()["id"] for _ in range(3)}
    assert len(ids) == 3


@pytest.mark.parametrize("key", ["", "two words", "x" * 256])
def test_a_key_of_a_wrong_form_is_told(client: TestClient, key: str) -> None:
    response = post(client, key)
    assert (response.status_code, response.json()["code"]) == (400, "invalid_header")


def test_a_repeat_is_known_whatever_a_worker_says_meanwhile(
    client: TestClient, registry: Registry, settings: Settings
) -> None:
    """The request is larger than the card allows, which was not known when it was accepted."""
    key = secrets.token_hex(8)
    first = post(client, key, width=1024)
    card = ModelCard.from_dict({"name": settings.model, "max_width": 512, "max_height": 512, **SIZES})
    registry.publish_card(settings.model, card)
    second = post(client, key, width=1024)
    assert (first.status_code, second.status_code) == (202, 202)
    assert post(client, secrets.token_hex(8), width=1024).status_code == 422


def test_the_record_names_the_http_request(client: TestClient, worker: PlayedWorker) -> None:
    response = client.post("/generate", json=good_request(), headers={"X-Request-Id": "trace-1"})
    assert worker.record(response.json()["id"]).request_id == "trace-1"


def test_many_puts_at_once_make_one_job(client: TestClient, settings: Settings, redis_client: redis.Redis) -> None:
    job_id = fresh_id()
    answers = at_once(AT_ONCE, lambda: put(client, job_id, seed=None))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["seed"] for answer in answers}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1
    assert redis_client.llen(f"rq:queue:{queue_name(settings.model)}") == 1
    assert len(job_folders(settings)) == 1


def test_many_posts_with_one_key_at_once_make_one_job(
    client: TestClient, settings: Settings, redis_client: redis.Redis
) -> None:
    key = f"key/{secrets.token_hex(8)}"
    answers = at_once(AT_ONCE, lambda: post(client, key, seed=None))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1
    assert redis_client.llen(f"rq:queue:{queue_name(settings.model)}") == 1
    assert len(job_folders(settings)) == 1


def test_of_many_other_requests_with_one_key_one_is_accepted(client: TestClient, settings: Settings) -> None:
    key, seeds = secrets.token_hex(8), iter(range(16))
    answers = at_once(16, lambda: post(client, key, seed=next(seeds)))
    assert sorted(answer.status_code for answer in answers) == [202] + [422] * 15
    assert len(job_folders(settings)) == 1


def test_the_loser_of_a_race_removes_what_it_had_stored(
    settings: Settings, artifacts: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both looked before either wrote, so neither sees the other until its record is there."""
    monkeypatch.setattr(Submissions, "_known", lambda *_: None)
    submissions: Submissions = create_app(settings).state.owners.of_owner("local").submissions
    job_id = fresh_id()
    first, second = (submissions.submit(parsed(), SubmitOptions(job_id=job_id)) for _ in range(2))
    assert (first.replayed, second.replayed) == (False, True)
    assert first.record == second.record
    assert [folder.name for folder in job_folders(settings)] == [first.record.folder]
    with pytest.raises(RequestMismatchError):
        submissions.submit(parsed(seed=8), SubmitOptions(job_id=job_id))
    assert [folder.name for folder in job_folders(settings)] == [first.record.folder]
    kept = {path.stem for path in (settings.data_dir / "local" / "pictures").iterdir()}
    pictures = artifacts.pictures_of(first.record.folder)
    artifacts.load_request(first.record.folder, pictures)
    assert kept == pictures.names


def test_a_command_that_is_sent_again_because_its_answer_was_lost_is_no_repeat(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = JobStore.create

    def create_twice(*arguments: Any, **options: Any) -> Any:
        create(*arguments, **options)
        return create(*arguments, **options)

    monkeypatch.setattr(JobStore, "create", create_twice)
    submissions: Submissions = create_app(settings).state.owners.of_owner("local").submissions
    submitted = submissions.submit(parsed(), SubmitOptions(idempotency_key=secrets.token_hex(32)))
    assert submitted.replayed is False
    assert [folder.name for folder in job_folders(settings)] == [submitted.record.folder]


def test_a_key_that_outlived_its_record_is_free(client: TestClient, redis_client: redis.Redis) -> None:
    key = secrets.token_hex(8)
    first = post(client, key).json()["id"]
    redis_client.delete(f"msd:job:local:{first}")
    second = post(client, key)
    assert (second.status_code, "idempotency-replayed" in second.headers) == (202, False)
    assert post(client, key).json()["id"] == second.json()["id"] != first


def test_a_job_that_is_deleted_again_and_again_is_not_waited_for(
    settings: Settings, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def always_used(store: JobStore, *arguments: Any, **options: Any) -> tuple[CreateOutcome, str]:
        calls.append("create")
        return CreateOutcome.KEY_USED, fresh_id()

    monkeypatch.setattr(JobStore, "create", always_used)
    response = post(client, secrets.token_hex(8))
    assert (response.status_code, response.json()["code"], len(calls)) == (503, "queue_unavailable", 3)
    assert job_folders(settings) == []


def test_a_full_storage_leaves_nothing_behind(settings: Settings, redis_client: redis.Redis) -> None:
    """More must be free than any disk has."""
    greedy = settings.model_copy(update={"min_free_disk_mb": 2**40})
    with TestClient(create_app(greedy)) as client:
        response = client.post("/generate", json=good_request())
    assert (response.status_code, response.json()["code"]) == (503, "storage_full")
    assert int(response.headers["retry-after"]) >= 1
    assert not redis_client.exists(f"msd:active:{settings.model}")
    assert not settings.data_dir.exists()


def test_room_is_asked_for_what_will_be_written_too(
    client: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_for = settings.min_free_disk_mb * 2**20
    monkeypatch.setattr(ArtifactStore, "free_bytes", lambda store: asked_for + 100)
    response = client.post("/generate", json=good_request())
    assert (response.status_code, response.json()["code"]) == (503, "storage_full")
    assert not settings.data_dir.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"layout": "boxes"},
        {"num_images": 1},
        {"output_format": "png", "quality": 90},
        {"subjects": [good_subject(start=0, end=1)]},
        {"subjects": [good_subject(box={"xywh": [0.05, 0.3, 0.4, 0.5]})]},
    ],
)
def test_what_asks_for_the_same_is_the_same(changes: dict[str, Any]) -> None:
    plain = {"subjects": [good_subject()]} if "subjects" in changes else {}
    assert hash_of(**changes) == hash_of(**plain)


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 8},
        {"seed": None},
        {"num_images": 2},
        {"subjects": [good_subject(), good_subject()]},
        {"subjects": [good_subject(box=[0.05, 0.3, 0.45, 0.81])]},
        {"subjects": [good_subject(image=picture_uri(Image.new("RGB", (8, 8), "blue")))]},
        {"layout": {"mode": "auto"}},
        {"output_format": "webp"},
        {"subjects": [good_subject(start=0.5)]},
        {"subjects": [good_subject(end=0.5)]},
    ],
)
def test_what_asks_for_something_else_is_another(changes: dict[str, Any]) -> None:
    one_subject = {"subjects": [good_subject()]}
    assert hash_of(**one_subject | changes) != hash_of(**one_subject)


def hash_of(**changes: Any) -> str:
    sent = parsed(**changes)
    return request_hash(sent.request, sent.pictures)


def parsed(**changes: Any) -> SentRequest:
    return parse_request(json.dumps(good_request(**changes)).encode(), PictureLimits())
