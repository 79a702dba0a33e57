"""Requests that name pictures by https address: fetched at submit, counted as decoding, kept with the job."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from PIL import Image
from starlette.testclient import TestClient

from app.config import Settings
from app.main import create_app
from tests.support.hostile_server import World, answer, redirect, world
from tests.support.sample_requests import decoded, drawing, encoded, good_request, good_subject, picture_uri

CAT = encoded(drawing("orange"))
ADDRESS = "https://pictures.example/cat.png"
NO_HOST = "https://nowhere.example/cat.png"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def outside(authority: trustme.CA) -> Iterator[World]:
    with world(authority) as made:
        made.server.answers["/cat.png"] = answer(CAT, content_type="text/html")
        yield made


@pytest.fixture
def fetching(settings: Settings, outside: World) -> Iterator[TestClient]:
    """The service, with few limits that are not the defaults; pictures are fetched from everywhere."""
    changes = {"fetch_hosts": ("*",), "max_body_bytes": 600_000, "max_request_pixels": 100_000}
    app = create_app(settings.model_copy(update=changes))
    app.state.fetcher.network = outside.network
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def request_with(address: str, **changes: Any) -> dict[str, Any]:
    return good_request(subjects=[good_subject(image=address)], **changes)


def problem(response: Any) -> tuple[int, str, str]:
    """Status, code and first pointer."""
    answered = response.json()
    return response.status_code, answered["code"], answered["errors"][0]["pointer"]


def test_a_job_keeps_what_lies_at_its_addresses(fetching: TestClient, outside: World, settings: Settings) -> None:
    large = encoded(Image.new("RGB", (128, 128), "green"))
    mask = encoded(drawing("white"))
    outside.server.answers |= {
        "/mask": answer(mask),
        "/edges?secret=1": answer(large),
        "/start": redirect("/edges?secret=1"),
    }
    request = good_request(
        subjects=[
            good_subject(image=None, images=[ADDRESS, "HTTPS://pictures.example/cat.png"]),
            good_subject(box=None, mask="https://pictures.example/mask"),
        ],
        controls=[{"name": "canny", "image": "https://pictures.example/edges?secret=1"}],
        start={"image": "https://pictures.example/start"},
        width=128,
        height=128,
    )
    response = fetching.post("/generate", json=request)
    assert response.status_code == 202, response.text
    outside.server.answers.clear()
    asked = fetching.get(response.json()["urls"]["request"]).json()["request"]
    places = [*asked["subjects"][0]["images"], asked["subjects"][1]["mask"], asked["controls"][0]["image"]]
    for url, content in zip([*places, asked["start"]["image"]], [CAT, CAT, mask, large, large], strict=True):
        kept = fetching.get(url).content
        assert hashlib.sha256(kept).hexdigest() in url
        assert decoded(kept).convert("RGB").tobytes() == decoded(content).tobytes()
    stored = b"".join(path.read_bytes() for path in Path(settings.data_dir).rglob("*") if path.is_file())
    assert b"pictures.example" not in stored


def test_a_fetched_picture_is_the_same_as_one_that_is_sent(fetching: TestClient) -> None:
    first = fetching.post("/generate", json=request_with(ADDRESS), headers={"Idempotency-Key": "a"})
    again = fetching.post(
        "/generate", json=request_with(picture_uri(drawing("orange"))), headers={"Idempotency-Key": "a"}
    )
    assert (first.status_code, again.json()["id"]) == (202, first.json()["id"])


@pytest.mark.parametrize("given", [answer(b"other", "404 Not Found"), answer(encoded(drawing("teal")))])
def test_a_repeat_is_answered_whatever_has_become_of_the_address(
    fetching: TestClient, outside: World, given: bytes
) -> None:
    headers = {"Idempotency-Key": "b"}
    first = fetching.post("/generate", json=request_with(ADDRESS), headers=headers)
    outside.server.answers["/cat.png"] = given
    again = fetching.post("/generate", json=request_with(ADDRESS), headers=headers)
    assert (first.status_code, again.json()["id"]) == (202, first.json()["id"])
    assert fetching.post("/generate", json=request_with(NO_HOST), headers=headers).status_code == 422


def test_each_problem_has_its_place_and_the_same_words(fetching: TestClient, outside: World) -> None:
    outside.lookups.answers["inside.example"] = [["10.0.0.1"]]
    subjects = [
        good_subject(image=NO_HOST, mask="https://inside.example/mask.png", box=None),
        good_subject(image=None, images=[ADDRESS, "https://pictures.example/lost.png"]),
    ]
    response = fetching.post("/generate", json=good_request(subjects=subjects))
    errors = response.json()["errors"]
    places = ["/subjects/0/image", "/subjects/0/mask", "/subjects/1/images/1"]
    assert sorted(error["pointer"].replace("/image/1", "/images/1") for error in errors) == places
    assert {(error["code"], error["detail"]) for error in errors} == {("picture_not_fetched", errors[0]["detail"])}
    for word in ("10.0.0.1", "example", "refused", "404"):
        assert word not in response.text


def test_what_arrives_is_judged_by_decoding(fetching: TestClient, outside: World) -> None:
    outside.server.answers["/page"] = answer(b"<html>root:x:0:0</html>", content_type="image/png")
    response = fetching.post("/generate", json=request_with("https://pictures.example/page"))
    assert problem(response) == (422, "invalid_picture", "/subjects/0/image")
    assert "root" not in response.text


def test_a_host_that_is_not_on_the_list_is_told(settings: Settings, outside: World) -> None:
    app = create_app(settings.model_copy(update={"fetch_hosts": ("other.example",)}))
    app.state.fetcher.network = outside.network
    with TestClient(app) as client:
        response = client.post("/generate", json=request_with(ADDRESS))
        cast = client.put("/cast/rex", json={"phrase": "cat", "image": "https://other.example/cat.png"})
    assert problem(response) == (422, "invalid_picture", "/subjects/0/image")
    assert "pictures.example" in response.json()["detail"]
    assert "MSD_FETCH_HOSTS" in response.json()["detail"]
    assert (cast.status_code, outside.lookups.asked) == (201, ["other.example"])


def test_nothing_is_fetched_unless_it_is_allowed(client: TestClient) -> None:
    response = client.post("/generate", json=request_with(ADDRESS))
    assert problem(response) == (422, "invalid_picture", "/subjects/0/image")
    assert "MSD_FETCH_HOSTS" in response.json()["detail"]


def test_bytes_count_as_those_of_the_body(fetching: TestClient, outside: World) -> None:
    outside.server.answers["/noise"] = answer(bytes(600_000))
    response = fetching.post("/generate", json=request_with("https://pictures.example/noise"))
    assert problem(response) == (413, "picture_too_large", "/subjects/0/image")
    assert "600000 bytes" in response.json()["detail"]


def test_pixels_count_as_those_of_the_body(fetching: TestClient, outside: World) -> None:
    outside.server.answers["/large"] = answer(encoded(Image.new("RGB", (400, 300), "red")))
    response = fetching.post("/generate", json=request_with("https://pictures.example/large"))
    assert (response.status_code, response.json()["code"]) == (413, "picture_too_large")
    assert "120000 pixels together" in response.json()["detail"]


def test_bytes_are_held_as_those_of_bodies(fetching: TestClient, outside: World) -> None:
    outside.server.answers["/noise"] = answer(bytes(500_000))
    memory = fetching.app.state.uploads._bytes  # type: ignore[attr-defined]
    memory.take("others", memory._left)
    held = memory.held
    response = fetching.post("/generate", json=request_with("https://pictures.example/noise"))
    assert (response.status_code, response.json()["code"]) == (503, "too_many_uploads")
    assert memory.held == held


def test_validation_fetches_too(fetching: TestClient, outside: World) -> None:
    assert fetching.post("/validate", json=request_with(ADDRESS)).status_code == 200
    assert outside.server.asked == ["/cat.png"]


def test_openais_interface_takes_addresses(fetching: TestClient, outside: World) -> None:
    response = fetching.post("/v1/images/generations", json={"prompt": "a cat", "image": [NO_HOST]})
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (422, "picture_not_fetched", "image[0]")
    subjects = '[{"phrase": "cat", "image": "https://nowhere.example/a.png", "box": [0, 0, 1, 1]}]'
    form = fetching.post("/v1/images/edits", files={"prompt": (None, "a cat"), "subjects": (None, subjects)})
    assert form.json()["error"]["code"] == "picture_not_fetched"
    assert outside.lookups.asked == ["nowhere.example"] * 2
