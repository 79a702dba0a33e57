"""Scores and retries through API, Redis and worker."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image

from ms_core.spec import derived_seed
from tests.e2e.http_service import LONG, QUICK, HttpService
from tests.support.job_helpers import wait_until
from tests.support.sample_requests import good_request


@pytest.fixture
def live(service: HttpService) -> HttpService:
    service.wait_until_ready()
    return service


def pixels(live: HttpService, job: dict[str, Any], index: int = 0) -> bytes:
    return Image.open(io.BytesIO(live.client.get(job["images"][index]["url"]).content)).tobytes()


def test_each_picture_tells_how_its_subjects_turned_out(live: HttpService) -> None:
    job = live.make(good_request(**QUICK, score=True, num_images=2))
    assert [image["score"]["draws"] for image in job["images"]] == [1, 1]
    for image in job["images"]:
        assert [subject["subject"] for subject in image["score"]["subjects"]] == [0, 1]
        for subject in image["score"]["subjects"]:
            assert all(0 <= subject[name] <= 1 for name in ("present", "identity", "box_iou"))


def test_failing_pictures_are_drawn_again_and_their_seed_makes_them_once_more(live: HttpService) -> None:
    job = live.make(good_request(**QUICK, seed=7, score=True, retries=2))
    (image,) = job["images"]
    assert image["score"]["draws"] == 3
    # The scorer of the tests passes nothing, so all subjects fail, and the whole picture is drawn again.
    assert [redraw["subject"] for redraw in image["score"]["redraws"]] == [None, None]
    assert image["seed"] in [derived_seed(7, draw) for draw in range(3)]
    assert pixels(live, live.make(good_request(**QUICK, seed=image["seed"]))) == pixels(live, job)


def test_a_job_can_be_canceled_between_its_draws(live: HttpService) -> None:
    quick = {**LONG, "num_inference_steps": 4}
    job = live.submit(good_request(**quick, score=True, retries=3, num_images=4))

    def drawing_again() -> bool:
        progress = live.client.get(job["urls"]["self"]).json()["progress"] or {}
        return (progress.get("step") or 0) > 4

    wait_until(drawing_again, "the second draw")
    assert live.client.post(job["urls"]["cancel"]).status_code in (200, 202)
    ended = live.wait_for_end(job)
    assert (ended["status"], ended["images"]) == ("canceled", [])


def test_a_request_says_what_is_wrong_with_its_retries(live: HttpService) -> None:
    response = live.client.post("/generate", json=good_request(**QUICK, retries=2))
    assert response.status_code == 422
    (error,) = response.json()["errors"]
    assert (error["pointer"], error["code"]) == ("/retries", "invalid_input")
    assert "score" in error["detail"]
