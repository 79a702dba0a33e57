"""Requests that must work, through API, Redis and worker."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from PIL import Image

from tests.e2e.http_service import LONG, QUICK, HttpService
from tests.support.sample_requests import good_request, good_subject, picture_uri


@pytest.fixture
def live(service: HttpService) -> HttpService:
    service.wait_until_ready()
    return service


def fetch(live: HttpService, job: dict[str, Any], index: int = 0) -> Image.Image:
    response = live.client.get(job["images"][index]["url"])
    assert response.status_code == 200
    return Image.open(io.BytesIO(response.content))


def turned_photo() -> str:
    exif = Image.Exif()
    exif[0x0112] = 6
    return picture_uri(Image.new("RGB", (32, 16), "orange"), "JPEG", exif=exif)


PICTURES = {
    "EXIF turn": turned_photo(),
    "alpha": picture_uri(Image.new("RGBA", (16, 16), (255, 0, 0, 100))),
    "CMYK": picture_uri(Image.new("CMYK", (16, 16), (0, 200, 200, 0)), "JPEG"),
    "16-bit": picture_uri(Image.new("I;16", (16, 16), 30_000)),
    "1 x 1": picture_uri(Image.new("RGB", (1, 1), "red")),
    "WebP": picture_uri(Image.new("RGB", (16, 16), "red"), "WEBP"),
}


@pytest.mark.parametrize("name", PICTURES)
def test_odd_pictures_are_taken(live: HttpService, name: str) -> None:
    job = live.make(good_request(**QUICK, subjects=[good_subject(image=PICTURES[name])]))
    assert fetch(live, job).size == (64, 64)


def test_width_136(live: HttpService) -> None:
    job = live.make(good_request(**QUICK | {"width": 136}))
    assert (job["images"][0]["width"], fetch(live, job).size) == (136, (136, 64))


def test_pixel_boxes(live: HttpService) -> None:
    live.make(good_request(**QUICK, subjects=[good_subject(box={"pixels": [8, 8, 64, 64]})]))


def test_five_subjects_on_a_model_trained_for_four(live: HttpService) -> None:
    job = live.make(good_request(**QUICK, subjects=[good_subject()] * 5))
    assert [warning["code"] for warning in job["warnings"]] == ["too_many_subjects"]


def test_a_prompt_of_10_000_characters_says_what_was_cut(live: HttpService) -> None:
    prompt = "a cat and a teapot on the beach, " + "very " * 2000
    job = live.make(good_request(**QUICK, prompt=prompt[:10_000]))
    cut = [warning for warning in job["warnings"] if warning["pointer"] == "/prompt"]
    assert [warning["code"] for warning in cut] == ["text_truncated"]
    assert "very very" in cut[0]["detail"]


def test_chinese(live: HttpService) -> None:
    job = live.make(good_request(**QUICK, prompt="一只猫在沙滩上", subjects=[good_subject(phrase="猫")]))
    assert job["images"]


def test_auto_layout(live: HttpService) -> None:
    layout = {"mode": "auto", "threshold": 0.5, "start_step": 1}
    live.make(good_request(**QUICK, subjects=[good_subject(box=None)], layout=layout))


def test_several_images_have_seeds_that_count_up(live: HttpService) -> None:
    job = live.make(good_request(**QUICK, num_images=2, seed=2**53 - 1))
    assert [image["seed"] for image in job["images"]] == [2**53 - 1, 0]
    assert fetch(live, job, 0).tobytes() != fetch(live, job, 1).tobytes()


def test_the_png_carries_its_recipe(live: HttpService) -> None:
    job = live.make(good_request(**QUICK))
    recipe = json.loads(fetch(live, job).info["msd"])
    assert recipe["seed"] == job["seed"] == 7
    assert recipe["request"]["prompt"] == good_request()["prompt"]


def test_same_seed_same_picture_other_seed_other_picture(live: HttpService) -> None:
    first, second, third = (live.make(good_request(**QUICK, seed=seed)) for seed in (3, 3, 4))
    digests = [job["images"][0]["sha256"] for job in (first, second)]
    assert digests[0] == digests[1]
    # The recipe in the file tells the seed: only the pixels say that it acts.
    assert fetch(live, first).tobytes() != fetch(live, third).tobytes()


def test_an_other_reference_makes_an_other_picture(live: HttpService) -> None:
    jobs = [
        live.make(good_request(**QUICK, subjects=[good_subject(image=picture_uri(Image.new("RGB", (32, 32), colour)))]))
        for colour in ("red", "blue")
    ]
    assert len({fetch(live, job).tobytes() for job in jobs}) == 2


def test_a_running_job_is_canceled_and_the_next_one_works(live: HttpService) -> None:
    job = live.submit(good_request(**LONG))
    live.wait_for_step(job)
    response = live.client.post(job["urls"]["cancel"])
    assert (response.status_code, response.json()["cancel_requested"]) == (202, True)
    assert live.wait_for_end(job)["status"] == "canceled"
    assert live.client.post(job["urls"]["cancel"]).status_code == 200
    live.make(good_request(**QUICK))


def test_a_queued_job_is_canceled_before_it_begins(live: HttpService) -> None:
    running, queued = live.submit(good_request(**LONG)), live.submit(good_request(**QUICK))
    response = live.client.post(queued["urls"]["cancel"])
    live.client.post(running["urls"]["cancel"])
    assert (response.status_code, response.json()["status"]) == (200, "canceled")
    assert live.wait_for_end(queued)["attempt"] == 0
    assert live.wait_for_end(running)["status"] == "canceled"


def test_a_finished_job_cannot_be_canceled(live: HttpService) -> None:
    job = live.make(good_request(**QUICK))
    assert live.client.post(job["urls"]["cancel"]).status_code == 409
