"""Uploaded pictures and the cast, through API, Redis and worker."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image

from tests.e2e.http_service import QUICK, HttpService
from tests.support.job_helpers import wait_until
from tests.support.sample_requests import encoded, good_request, good_subject, picture_uri


@pytest.fixture
def live(service: HttpService) -> HttpService:
    service.wait_until_ready()
    return service


def sprite() -> Image.Image:
    """A red square with transparent surroundings."""
    picture = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    picture.paste((255, 0, 0, 255), (8, 24, 24, 40))
    return picture


def pixels(live: HttpService, image: str | None = None, **subject: Any) -> tuple[bytes, bytes]:
    """Of the picture that is made, and of what the model saw of the subject."""
    given = good_subject(image=image, cutout=True) if image else {"box": good_subject()["box"], **subject}
    job = live.make(good_request(**QUICK, subjects=[given]))
    return fetch(live, job["images"][0]["url"]), fetch(live, job["references"][0]["url"])


def fetch(live: HttpService, url: str) -> bytes:
    response = live.client.get(url)
    assert response.status_code == 200, response.text
    return Image.open(io.BytesIO(response.content)).tobytes()


def test_a_picture_is_the_same_by_data_uri_asset_and_cast(live: HttpService) -> None:
    """And its cut-out, asked for before, is what the model sees in the job."""
    (asset,) = live.client.post("/assets", files={"red": encoded(sprite())}).json()["assets"]
    url = f"{asset['urls']['self']}/cutout"
    assert live.client.get(url).status_code == 202
    cutout = wait_until(lambda: (got := live.client.get(url)).status_code == 200 and got.content, "the cut-out")
    member = {"phrase": "cat", "image": f"asset:{asset['id']}", "cutout": True}
    assert live.client.put("/cast/red", json=member).status_code == 201
    assert live.client.delete(asset["urls"]["self"]).status_code == 204
    assert live.client.get(url).status_code == 404
    by_uri = pixels(live, picture_uri(sprite()))
    assert pixels(live, cast="red") == by_uri
    assert Image.open(io.BytesIO(cutout)).tobytes() == by_uri[1]
