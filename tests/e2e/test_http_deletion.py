"""Jobs of the live service are deleted, also in mid-run, and run once more."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from tests.e2e.http_service import LONG, QUICK, HttpService
from tests.support.job_helpers import wait_until
from tests.support.sample_requests import good_request, good_subject, picture_uri


@pytest.fixture
def live(service: HttpService) -> HttpService:
    service.wait_until_ready()
    return service


def noisy_request(**values: object) -> dict[str, object]:
    """With a picture that no other job has."""
    noise = Image.effect_noise((64, 64), 90).convert("RGB")
    return good_request(**values, subjects=[good_subject(image=picture_uri(noise))])


def files_of(live: HttpService, job_id: str) -> list[Path]:
    return list((live.data_dir / "local" / "jobs").glob(f"*{job_id}*"))


def pictures(live: HttpService) -> set[str]:
    return {path.name for path in (live.data_dir / "local" / "pictures").glob("*")}


def test_a_finished_job_is_erased_from_the_disk(live: HttpService) -> None:
    before = pictures(live)
    job = live.make(noisy_request(**QUICK))
    assert (len(files_of(live, job["id"])), len(pictures(live) - before)) == (1, 1)
    image_url = job["images"][0]["url"]
    assert live.client.delete(job["urls"]["self"]).status_code == 204
    assert (files_of(live, job["id"]), pictures(live) - before) == ([], set())
    answers = [live.client.get(url) for url in (job["urls"]["self"], image_url, job["urls"]["events"])]
    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(410, "job_gone")] * 3
    assert job["id"] not in {listed["id"] for listed in live.client.get("/jobs?limit=100").json()["jobs"]}
    assert live.client.delete(job["urls"]["self"]).status_code == 204


def test_a_running_job_is_erased_and_its_worker_takes_the_next(live: HttpService) -> None:
    before = pictures(live)
    job = live.submit(noisy_request(**LONG))
    live.wait_for_step(job)
    (picture,) = pictures(live) - before
    assert live.client.delete(job["urls"]["self"]).status_code == 204
    assert live.client.get(job["urls"]["self"]).status_code == 410
    # It would take far longer than this job if the worker did not let go.
    live.make(good_request(**QUICK))
    assert (files_of(live, job["id"]), picture in pictures(live)) == ([], False)
    kept = {key.decode() for key in live.redis.scan_iter(f"msd:*{job['id']}*")}
    assert kept == {f"msd:gone:local:{job['id']}"}


def test_a_queued_job_is_erased_before_it_begins(live: HttpService) -> None:
    running, queued = live.submit(good_request(**LONG)), live.submit(noisy_request(**QUICK))
    assert live.client.delete(queued["urls"]["self"]).status_code == 204
    entry = f"local_{queued['id']}_0"
    assert live.redis.lpos(f"rq:queue:generate-{queued['model']}", entry) is None
    assert (files_of(live, queued["id"]), live.redis.exists(f"rq:job:{entry}")) == ([], 0)
    live.client.post(running["urls"]["cancel"])
    assert live.wait_for_end(running)["status"] == "canceled"


def test_a_retry_makes_the_same_picture_even_without_the_old_job(live: HttpService) -> None:
    old = live.make(noisy_request(**QUICK, seed=None))
    old_pixels = Image.open(io.BytesIO(live.client.get(old["images"][0]["url"]).content)).tobytes()
    response = live.client.post(old["urls"]["retry"])
    assert (response.status_code, response.json()["retried_from"]) == (202, old["id"])
    live.client.delete(old["urls"]["self"])
    new = live.wait_for_end(response.json())
    assert (new["status"], new["seed"], new["retried_from"]) == ("succeeded", old["seed"], old["id"])
    new_pixels = Image.open(io.BytesIO(live.client.get(new["images"][0]["url"]).content)).tobytes()
    assert new_pixels == old_pixels


def test_a_canceled_job_is_retried_and_one_that_runs_is_not(live: HttpService) -> None:
    job = live.submit(good_request(**LONG))
    live.wait_for_step(job)
    response = live.client.post(job["urls"]["retry"])
    assert (response.status_code, response.json()["code"]) == (409, "job_conflict")
    live.client.post(job["urls"]["cancel"])
    assert live.wait_for_end(job)["status"] == "canceled"
    again = live.client.post(job["urls"]["retry"]).json()
    running = wait_until(lambda: live.wait_for_step(again), "the first step")
    assert running["attempt"] == 1
    assert live.client.delete(again["urls"]["self"]).status_code == 204
