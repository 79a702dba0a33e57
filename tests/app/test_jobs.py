"""Jobs over HTTP against a real Redis; the test plays the worker through the public contract."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
import redis
from PIL import Image
from rq import Queue
from starlette.testclient import TestClient

from app.config import Settings
from app.main import create_app
from ms_core.config import ModelCard
from ms_core.spec.score import UNKNOWN_SCORE, Redraw
from ms_jobs.keys import queue_name
from ms_jobs.records import GENERATE_JOB, JobError, JobState, PictureScore, SubjectScore
from ms_jobs.result_files import OutputFormat
from tests.support.played_worker import PlayedWorker
from tests.support.sample_requests import encoded, good_request, good_subject, picture_uri


def submit(client: TestClient, **changes: Any) -> dict[str, Any]:
    response = client.post("/generate", json=good_request(**changes))
    assert response.status_code == 202, response.text
    return response.json()


def test_submitting_answers_with_the_job_and_where_it_is(client: TestClient) -> None:
    response = client.post("/generate", json=good_request())
    job = response.json()
    assert response.status_code == 202
    assert response.headers["location"] == job["urls"]["self"] == f"/jobs/{job['id']}"
    assert job["urls"]["cancel"] == f"/jobs/{job['id']}/cancel"
    assert (job["status"], job["position"], job["seed"], job["version"]) == ("queued", 0, 7, 1)
    assert (job["progress"], job["images"], job["error"], job["cancel_requested"]) == (None, [], None, False)


def test_an_absent_seed_is_drawn_and_reported(client: TestClient, worker: PlayedWorker) -> None:
    jobs = [submit(client, seed=None) for _ in range(3)]
    assert len({job["seed"] for job in jobs}) == 3
    assert all(0 <= job["seed"] < 2**53 for job in jobs)
    assert worker.request(jobs[0]["id"]).seed == jobs[0]["seed"]


def test_seed_zero_is_a_seed(client: TestClient) -> None:
    assert submit(client, seed=0)["seed"] == 0


def test_the_largest_seed_is_kept_exactly(client: TestClient) -> None:
    job = submit(client, seed=2**53 - 1)
    assert client.get(job["urls"]["self"]).json()["seed"] == 2**53 - 1


def test_the_queue_holds_the_name_the_id_and_a_finite_timeout(
    client: TestClient, redis_client: redis.Redis, settings: Settings
) -> None:
    job = submit(client)
    queue = Queue(queue_name(settings.model), connection=redis_client, serializer="json")
    entry = queue.fetch_job(f"local_{job['id']}_0")
    assert entry is not None
    assert (entry.func_name, entry.args, entry.kwargs) == (GENERATE_JOB, ["local", job["id"]], {})
    assert (entry.timeout, entry.result_ttl) == (settings.job_timeout_s, 0)


def test_pictures_go_to_the_store_and_not_to_redis(
    client: TestClient, redis_client: redis.Redis, worker: PlayedWorker
) -> None:
    noise = Image.effect_noise((256, 256), 90).convert("RGB")
    job = submit(client, subjects=[good_subject(image=picture_uri(noise))])
    held = sum(redis_client.memory_usage(key) or 0 for key in redis_client.scan_iter(f"*{job['id']}*"))
    assert 0 < held < 8000
    (stored,) = worker.request(job["id"]).subjects[0].images
    assert stored.tobytes() == noise.tobytes()


def test_every_picture_of_a_request_goes_to_the_store(client: TestClient, worker: PlayedWorker) -> None:
    colours = ["red", "green", "blue", "white"]
    first, second, start, mask = (picture_uri(Image.new("RGB", (8, 8), colour)) for colour in colours)
    subject = {"phrase": "cat", "images": [first, second], "mask": mask}
    edges = Image.effect_noise((64, 64), 90)
    job = submit(
        client,
        subjects=[subject],
        controls=[{"name": "canny", "image": picture_uri(edges)}],
        start={"image": start},
        width=64,
        height=64,
    )
    stored = worker.request(job["id"])
    (cat,) = stored.subjects
    assert cat.mask is not None
    assert stored.start is not None
    kept = [picture.getpixel((0, 0)) for picture in (*cat.images, stored.start.image, cat.mask)]
    assert kept == [(255, 0, 0), (0, 128, 0), (0, 0, 255), (255, 255, 255)]
    assert stored.controls[0].image.convert("L").tobytes() == edges.tobytes()


def test_names_that_the_model_lacks_are_told_with_those_it_has(client: TestClient, card: ModelCard) -> None:
    response = client.post("/generate", json=good_request(preset="slow", loras=[{"name": "lost"}]))
    problem = response.json()
    assert (response.status_code, problem["code"]) == (422, "unknown_name")
    assert [error["pointer"] for error in problem["errors"]] == ["/preset", "/loras/0/name"]
    assert "it has broken, quick" in problem["errors"][0]["detail"]
    assert "it has lightning, paper" in problem["errors"][1]["detail"]


def test_positions_count_the_jobs_ahead(client: TestClient) -> None:
    first, second, third = (submit(client) for _ in range(3))
    assert [job["position"] for job in (first, second, third)] == [0, 1, 2]
    client.post(first["urls"]["cancel"])
    assert client.get(third["urls"]["self"]).json()["position"] == 1


def test_the_card_of_a_worker_sets_the_limits(client: TestClient, card: ModelCard) -> None:
    response = client.post("/generate", json=good_request(width=520))
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == "/width"


def test_without_a_card_any_size_is_taken(client: TestClient) -> None:
    assert submit(client, width=4096)["status"] == "queued"


def test_a_running_job_shows_its_progress(client: TestClient, worker: PlayedWorker) -> None:
    job = submit(client)
    worker.begin(job["id"])
    worker.progress(job["id"], phase="denoise", step=5, steps=20)
    response = client.get(job["urls"]["self"])
    running = response.json()
    assert running["status"] == "running"
    assert running["progress"] == {"phase": "denoise", "step": 5, "steps": 20, "fraction": 0.25}
    assert (running["position"], running["attempt"], running["device"]) == (None, 1, "cpu")
    assert running["version"] > job["version"]
    assert int(response.headers["retry-after"]) >= 1


def test_a_finished_job_shows_its_pictures(client: TestClient, worker: PlayedWorker) -> None:
    job = submit(client)
    png = worker.succeed(job["id"])
    response = client.get(job["urls"]["self"])
    done = response.json()
    assert (response.status_code, done["status"], done["progress"]["fraction"]) == (200, "succeeded", 1.0)
    assert "retry-after" not in response.headers
    assert done["timings"]["queued_s"] >= 0
    assert done["timings"]["running_s"] >= 0
    image = client.get(done["images"][0]["url"])
    assert image.content == png
    assert image.headers["content-type"] == "image/png"
    assert image.headers["x-content-type-options"] == "nosniff"
    assert "immutable" in image.headers["cache-control"]
    assert image.headers["content-disposition"] == f'inline; filename="{job["id"]}-0.png"'


@pytest.mark.parametrize(
    ("output_format", "media_type", "suffix"), [("webp", "image/webp", "webp"), ("jpeg", "image/jpeg", "jpg")]
)
def test_a_picture_is_served_in_its_format(
    client: TestClient, worker: PlayedWorker, output_format: OutputFormat, media_type: str, suffix: str
) -> None:
    job = submit(client, output_format=output_format, quality=50)
    assert worker.request(job["id"]).output_format == output_format
    encoded = worker.succeed(job["id"], output_format)
    (image,) = client.get(job["urls"]["self"]).json()["images"]
    assert image["content_type"] == media_type
    response = client.get(image["url"])
    assert (response.headers["content-type"], response.content) == (media_type, encoded)
    assert response.headers["content-disposition"] == f'inline; filename="{job["id"]}-0.{suffix}"'


def test_a_worker_that_knows_no_formats_makes_a_png_that_is_served(client: TestClient, worker: PlayedWorker) -> None:
    job = submit(client, output_format="webp")
    png = worker.succeed(job["id"])
    response = client.get(f"{job['urls']['self']}/images/0")
    assert (response.headers["content-type"], response.content) == ("image/png", png)


def test_a_picture_in_a_format_of_a_newer_version_is_told(client: TestClient, worker: PlayedWorker) -> None:
    job = submit(client)
    worker.begin(job["id"])
    manifest = worker.store(job["id"])
    images = tuple(image.model_copy(update={"content_type": "image/avif"}) for image in manifest.images)
    worker.finish(job["id"], JobState.SUCCEEDED, images=images, result_attempt=manifest.attempt)
    response = client.get(f"{job['urls']['self']}/images/0")
    assert (response.status_code, response.json()["code"]) == (503, "storage_unavailable")
    assert "image/avif" in response.json()["detail"]


def test_a_picture_tells_how_it_turned_out_if_that_was_asked_for(client: TestClient, worker: PlayedWorker) -> None:
    job = submit(client)
    worker.begin(job["id"])
    manifest = worker.store(job["id"])
    (plain,) = manifest.images
    subjects = (None, SubjectScore(0.99, 0.8, 0.75), UNKNOWN_SCORE)
    score = PictureScore(3, subjects, (Redraw(1, True), Redraw(None, False)))
    images = (plain, plain.model_copy(update={"index": 1, "score": score}))
    worker.finish(job["id"], JobState.SUCCEEDED, images=images, result_attempt=manifest.attempt)
    unasked, asked = client.get(job["urls"]["self"]).json()["images"]
    assert unasked["score"] is None
    assert asked["score"] == {
        "draws": 3,
        "subjects": [
            {"subject": 1, "present": 0.99, "identity": 0.8, "box_iou": 0.75},
            {"subject": 2, "present": None, "identity": None, "box_iou": None},
        ],
        "redraws": [{"subject": 1, "kept": True}, {"subject": None, "kept": False}],
    }


def test_a_failed_job_says_why(client: TestClient, worker: PlayedWorker) -> None:
    job = submit(client)
    worker.fail(job["id"], JobError(code="device_out_of_memory", detail="Ask for a smaller picture."))
    response = client.get(job["urls"]["self"])
    assert response.status_code == 200
    assert response.json()["error"] == {
        "type": "/problems/device_out_of_memory",
        "title": "Device out of memory",
        "status": 503,
        "code": "device_out_of_memory",
        "detail": "Ask for a smaller picture.",
    }


@pytest.mark.parametrize("index", ["1", "8", "99", "-1", "x", "9" * 6000, "%2e%2e"])
def test_image_index_out_of_range(client: TestClient, worker: PlayedWorker, index: str) -> None:
    job = submit(client)
    worker.succeed(job["id"])
    response = client.get(f"/jobs/{job['id']}/images/{index}")
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"


def test_image_of_a_job_that_has_none_yet(client: TestClient) -> None:
    job = submit(client)
    response = client.get(f"/jobs/{job['id']}/images/0")
    assert (response.status_code, response.json()["code"]) == (404, "image_not_found")


def test_what_the_model_sees_is_shown_as_soon_as_it_is_known(client: TestClient, worker: PlayedWorker) -> None:
    job = submit(client)
    assert job["references"] == []
    worker.begin(job["id"])
    png = encoded(Image.new("RGB", (8, 8), "red"))
    worker.save_reference(job["id"], 1, png)
    worker.progress(job["id"], phase="denoise", references=(1,))
    references = client.get(job["urls"]["self"]).json()["references"]
    assert references == [{"subject": 1, "url": f"{job['urls']['self']}/references/1"}]
    response = client.get(references[0]["url"])
    assert (response.status_code, response.headers["content-type"], response.content) == (200, "image/png", png)
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("subject", ["0", "2", "16", "99", "-1", "x", "%2e%2e"])
def test_a_reference_that_is_not_shown(client: TestClient, worker: PlayedWorker, subject: str) -> None:
    job = submit(client)
    worker.begin(job["id"])
    worker.save_reference(job["id"], 1)
    worker.progress(job["id"], references=(1,))
    response = client.get(f"{job['urls']['self']}/references/{subject}")
    assert (response.status_code, response.headers["content-type"]) == (404, "application/problem+json")


@pytest.mark.parametrize(
    "job_id", ["unknown-but-well-formed", "short", "%2e%2e", "..%2f..%2fetc%2fpasswd", "a*b", "x" * 1000, "%00"]
)
@pytest.mark.parametrize(
    ("method", "below"), [("GET", ""), ("GET", "/images/0"), ("GET", "/references/0"), ("POST", "/cancel")]
)
def test_unknown_ids(client: TestClient, job_id: str, method: str, below: str) -> None:
    response = client.request(method, f"/jobs/{job_id}{below}")
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"


def test_canceling_a_queued_job_ends_it_now(client: TestClient, redis_client: redis.Redis, settings: Settings) -> None:
    job = submit(client)
    response = client.post(job["urls"]["cancel"])
    assert (response.status_code, response.json()["status"]) == (200, "canceled")
    queue = Queue(queue_name(settings.model), connection=redis_client, serializer="json")
    assert queue.fetch_job(f"local_{job['id']}_0") is None
    assert queue.job_ids == []


def test_canceling_twice_is_no_error(client: TestClient) -> None:
    job = submit(client)
    assert [client.post(job["urls"]["cancel"]).status_code for _ in range(2)] == [200, 200]


def test_canceling_a_running_job_is_a_promise(client: TestClient, worker: PlayedWorker) -> None:
    job = submit(client)
    worker.begin(job["id"])
    response = client.post(job["urls"]["cancel"])
    canceling = response.json()
    assert (response.status_code, canceling["status"], canceling["cancel_requested"]) == (202, "running", True)


def test_canceling_a_finished_job_is_a_conflict(client: TestClient, worker: PlayedWorker) -> None:
    job = submit(client)
    worker.succeed(job["id"])
    response = client.post(job["urls"]["cancel"])
    assert (response.status_code, response.json()["code"]) == (409, "job_conflict")
    assert client.get(job["urls"]["self"]).json()["status"] == "succeeded"


def test_a_job_is_recorded_only_where_it_can_be_queued(
    redis_url: str, redis_client: redis.Redis, settings: Settings
) -> None:
    """This Redis user may do everything but put entries into lists."""
    redis_client.acl_setuser("nopush", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-rpush", "-lpush"])
    limited = settings.model_copy(update={"redis_url": redis_url.replace("unix://", "unix://nopush@")})
    with TestClient(create_app(limited), raise_server_exceptions=False) as client:
        response = client.post("/generate", json=good_request())
    assert (response.status_code, response.json()["code"]) == (503, "queue_unavailable")
    assert not redis_client.exists(f"msd:active:{settings.model}")
    assert not redis_client.exists(f"msd:due:{settings.model}")


def test_a_storage_that_cannot_be_written(settings: Settings) -> None:
    settings.data_dir.write_text("a file, not a folder")
    with TestClient(create_app(settings)) as client:
        response = client.post("/generate", json=good_request())
    assert (response.status_code, response.json()["code"]) == (503, "storage_unavailable")
    assert str(settings.data_dir) not in response.text


def test_without_redis_the_answer_is_quick_and_says_when_to_return(settings: Settings) -> None:
    nowhere = settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    start = time.monotonic()
    with TestClient(create_app(nowhere)) as client:
        answers = [
            client.post("/generate", json=good_request()),
            client.get("/jobs/unknown-but-well-formed"),
            client.get("/jobs/unknown-but-well-formed/images/0"),
            client.post("/jobs/unknown-but-well-formed/cancel"),
        ]
    assert [answer.status_code for answer in answers] == [503] * 4
    assert all(answer.json()["code"] == "queue_unavailable" for answer in answers)
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers)
    assert not any(re.search("127.0.0.1:1|Connection|refused", answer.text) for answer in answers)
    assert not settings.data_dir.exists()
    assert time.monotonic() - start < 10


def test_behind_a_proxy_the_addresses_have_its_prefix(settings: Settings) -> None:
    with TestClient(create_app(settings), root_path="/msd") as client:
        job = submit(client)
    assert job["urls"]["self"] == f"/msd/jobs/{job['id']}"
