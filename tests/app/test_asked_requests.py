"""``GET /jobs/{id}/request``: what was asked for, and its pictures, for as long as the job is kept."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient

from app.config import Settings
from ms_core.config import ModelCard
from tests.support.played_worker import PlayedWorker
from tests.support.sample_requests import good_request, good_subject, picture_uri


def submit(client: TestClient, request: dict[str, Any]) -> dict[str, Any]:
    response = client.post("/generate", json=request)
    assert response.status_code == 202, response.text
    return response.json()


def asked(client: TestClient, job: dict[str, Any]) -> dict[str, Any]:
    response = client.get(job["urls"]["request"])
    assert response.status_code == 200, response.text
    return response.json()


def picture(client: TestClient, url: str) -> Image.Image:
    response = client.get(url)
    assert (response.status_code, response.headers["content-type"]) == (200, "image/png")
    assert hashlib.sha256(response.content).hexdigest() == url.rsplit("/", 1)[1]
    return Image.open(io.BytesIO(response.content))


def paint(colour: str, side: int = 8) -> str:
    return picture_uri(Image.new("RGB", (side, side), colour))


MANY: dict[str, Any] = {
    "subjects": [
        good_subject(image=None, images=[paint("teal"), paint("red")], scale=0.5, cutout=True, z_index=1),
        good_subject(box={"pixels": [8, 8, 64, 64]}),
        good_subject(box=None, mask=paint("white")),
    ],
    "width": 128,
    "height": 128,
    "start": {"image": paint("blue"), "redraw": [1]},
    "controls": [{"name": "canny", "image": paint("green", 128)}],
    "loras": [{"name": "paper", "weight": 0.25}],
    "scheduler": "ddim",
    "num_images": 2,
    "previews": True,
}


def without_pictures(value: Any) -> Any:
    """The request with a mark in place of each picture."""
    if isinstance(value, dict):
        return {name: without_pictures(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_pictures(item) for item in value]
    return "picture" if isinstance(value, str) and value.startswith(("data:", "/jobs/")) else value


@pytest.mark.parametrize("changes", [{}, {"seed": 5}, MANY, {"layout": {"mode": "auto", "start_step": 3}}])
def test_it_is_what_was_sent(client: TestClient, card: ModelCard, changes: dict[str, Any]) -> None:
    """The values of preset and model are not in it."""
    request = good_request(**changes)
    job = submit(client, request)
    told = asked(client, job)
    assert without_pictures(told["request"]) == without_pictures(request)
    assert (told["job"], told["seed"], told["model"]) == (job["id"], job["seed"], job["model"])


def test_its_pictures_are_at_their_addresses(client: TestClient, card: ModelCard) -> None:
    request = asked(client, submit(client, good_request(**MANY)))["request"]
    first, second = (picture(client, url) for url in request["subjects"][0]["images"])
    colours = [shown.convert("RGB").getpixel((0, 0)) for shown in (first, second)]
    assert colours == [(0, 128, 128), (255, 0, 0)]
    assert picture(client, request["start"]["image"]).getpixel((0, 0)) == (0, 0, 255)
    assert picture(client, request["controls"][0]["image"]).size == (128, 128)
    picture(client, request["subjects"][2]["mask"])


def test_what_it_tells_can_be_sent_again(client: TestClient, card: ModelCard) -> None:
    sent = good_request(**MANY)
    told = asked(client, submit(client, sent))["request"]
    again = sent | {name: value for name, value in told.items() if name not in ("subjects", "start", "controls")}
    assert asked(client, submit(client, again))["request"].keys() == told.keys()


def test_a_retry_was_asked_for_the_same(client: TestClient, worker: PlayedWorker, card: ModelCard) -> None:
    job = submit(client, good_request(preset="quick"))
    worker.succeed(job["id"])
    retry = client.post(job["urls"]["retry"]).json()
    told = asked(client, job)["request"], asked(client, retry)["request"]
    assert without_pictures(told[0]) == without_pictures(told[1]) == without_pictures(good_request(preset="quick"))
    client.delete(job["urls"]["self"])
    picture(client, told[1]["subjects"][0]["image"])


def test_a_job_of_an_older_version_tells_its_stored_request(client: TestClient, settings: Settings) -> None:
    job = submit(client, good_request(layout={"mode": "auto"}, subjects=[good_subject(box=None)]))
    next(settings.data_dir.rglob("asked.json")).unlink()
    told = asked(client, job)["request"]
    assert (told["layout"]["mode"], told["prompt"]) == ("auto", good_request()["prompt"])
    picture(client, told["subjects"][0]["image"])


@pytest.mark.parametrize("name", ["0" * 64, "x", "..%2Frequest", "A" * 64, "0" * 63])
def test_nothing_else_is_served_as_a_picture(client: TestClient, settings: Settings, name: str) -> None:
    job = submit(client, good_request())
    # The bytes are there, but belong to no picture of this job.
    stray = settings.data_dir / "local" / "pictures" / f"{'0' * 64}.png"
    stray.write_bytes(b"stray")
    assert client.get(f"{job['urls']['self']}/pictures/{name}").status_code == 404


def test_a_picture_that_was_changed_on_disk_is_not_served(client: TestClient, settings: Settings) -> None:
    job = submit(client, good_request())
    url = asked(client, job)["request"]["subjects"][0]["image"]
    path = next(settings.data_dir.glob(f"*/jobs/*/pictures/{Path(url).name}.png"))
    path.unlink()
    path.write_bytes(b"other")
    assert client.get(url).status_code == 503


def test_head_tells_of_both(client: TestClient) -> None:
    job = submit(client, good_request())
    url = asked(client, job)["request"]["subjects"][0]["image"]
    for address in (job["urls"]["request"], url):
        response = client.head(address)
        assert (response.status_code, response.content) == (200, b"")
