"""Bad input against the live service: the right status, a problem, a sentence that helps, and no harm done."""

from __future__ import annotations

import http.client
import json
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image

from tests.e2e.http_service import QUICK, HttpService
from tests.support.sample_requests import data_uri, encoded, good_request, good_subject, picture_uri, png_with_header
from tests.support.value_ranges import REQUEST_RANGES, ValueRange, request_with

MEBIBYTE = 1024 * 1024
JSON = {"content-type": "application/json"}


def post(live: HttpService, request: dict[str, Any]) -> httpx2.Response:
    # json.dumps writes NaN and Infinity as Python's own reader would take them.
    return live.client.post("/generate", content=json.dumps(request), headers=JSON)


def assert_problem(response: httpx2.Response, status: int, says: str = "") -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert says in problem["detail"]
    assert "Traceback" not in response.text
    return problem


@pytest.fixture
def live(service: HttpService) -> Iterator[HttpService]:
    """The service; whatever the test sent, the next good request gives its picture."""
    service.wait_until_ready()
    yield service
    service.make(good_request(**QUICK))


def animated(kind: str) -> str:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")]
    return picture_uri(frames[0], kind, save_all=True, append_images=frames[1:])


def first_subject(**changes: Any) -> dict[str, Any]:
    return {"subjects": [good_subject(**changes)]}


RED = picture_uri(Image.new("RGB", (8, 8), "red"))
BLACK = picture_uri(Image.new("L", (8, 8)))
BLACK_64 = picture_uri(Image.new("L", (64, 64)))
NOT_AN_IMAGE = "This is no PNG, JPEG or WebP, or it is cut off."

BAD_VALUES = [
    pytest.param({"steps": 20}, "/steps", "Unknown field", id="unknown field"),
    pytest.param(first_subject(box=[0.2, 0.2, 0.2, 0.8]), "/subjects/0/box", "no area", id="zero-area box"),
    pytest.param(first_subject(box=[0.8, 0.2, 0.2, 0.8]), "/subjects/0/box", "no area", id="reversed box"),
    pytest.param(first_subject(box=[0.2, 0.2, 1.2, 0.8]), "/subjects/0/box", "from 0 to 1", id="box outside"),
    pytest.param(first_subject(box=None), "/subjects/0/box", "has no box", id="missing box"),
    pytest.param(
        first_subject(box={"pixels": [0, 0, 72, 64]}), "/subjects/0/box", "64 x 64 pixels", id="pixel box too large"
    ),
    pytest.param(
        {**first_subject(phrase="dragon"), "layout": {"mode": "auto"}},
        "/subjects/0/phrase",
        "'dragon'",
        id="phrase missing with auto layout",
    ),
    pytest.param(first_subject(box=[0, 0, math.nan, 1]), "/subjects/0/box", "from 0 to 1", id="NaN in a box"),
    pytest.param({"width": 520}, "/width", "at most 512", id="width above the model's limit"),
    pytest.param({"height": 1024}, "/height", "at most 512", id="height above the model's limit"),
    pytest.param(
        first_subject(image="data:image/png;base64,!!!"), "/subjects/0/image", "not valid base64", id="broken base64"
    ),
    pytest.param(first_subject(image=data_uri(b"hello")), "/subjects/0/image", NOT_AN_IMAGE, id="text"),
    pytest.param(
        first_subject(image=data_uri(encoded(Image.effect_noise((64, 64), 90))[:1000])),
        "/subjects/0/image",
        "damaged or incomplete",
        id="truncated picture",
    ),
    pytest.param(
        first_subject(image=data_uri(b'<svg xmlns="http://www.w3.org/2000/svg"/>', "image/svg+xml")),
        "/subjects/0/image",
        NOT_AN_IMAGE,
        id="SVG",
    ),
    pytest.param(first_subject(image=animated("PNG")), "/subjects/0/image", "animated", id="animated PNG"),
    pytest.param(first_subject(image=animated("WEBP")), "/subjects/0/image", "animated", id="animated WebP"),
    pytest.param(first_subject(images=[RED]), "/subjects/0/image", "not both", id="image and images"),
    pytest.param(first_subject(image=None), "/subjects/0/image", "several as images", id="no picture at all"),
    pytest.param(first_subject(mask=BLACK), "/subjects/0/mask", "The mask is empty", id="empty mask"),
    pytest.param(
        first_subject(mask=data_uri(b"hello")), "/subjects/0/mask", NOT_AN_IMAGE, id="a mask that is no picture"
    ),
    pytest.param(first_subject(scene=True), "/subjects/0/box", "leave its box out", id="a scene with a box"),
    pytest.param({"preset": "lightning"}, "/preset", "it has incomplete, paper, quick", id="unknown preset"),
    pytest.param({"preset": "incomplete"}, "/preset", "needs the LoRA 'lost'", id="preset without its LoRA"),
    pytest.param({"loras": [{"name": "lost"}]}, "/loras/0/name", "it has other-base, paper", id="unknown LoRA"),
    pytest.param({"loras": [{"name": "../paper"}]}, "/loras/0/name", "is not a name", id="LoRA by path"),
    pytest.param(
        {"controls": [{"name": "pose", "image": BLACK_64}]}, "/controls/0/name", "it has canny", id="unknown ControlNet"
    ),
    pytest.param(
        {"controls": [{"name": "canny", "image": BLACK}]},
        "/controls/0/image",
        "8 x 8 pixels, but the result has 64 x 64",
        id="a ControlNet picture of another size",
    ),
    pytest.param({"start": {"image": RED, "redraw": [2]}}, "/start/redraw", "no subject 2", id="redraw nobody"),
    pytest.param({"scheduler": "dpm"}, "/scheduler", "euler_ancestral", id="unknown scheduler"),
    pytest.param({"timestep_spacing": "wide"}, "/timestep_spacing", "trailing", id="unknown timestep spacing"),
    pytest.param(first_subject(image=animated("GIF")), "/subjects/0/image", NOT_AN_IMAGE, id="animated GIF"),
]


@pytest.mark.parametrize(("change", "pointer", "says"), BAD_VALUES)
def test_bad_values_are_unprocessable(live: HttpService, change: dict[str, Any], pointer: str, says: str) -> None:
    problem = assert_problem(post(live, good_request(**QUICK) | change), 422, says)
    assert [error["pointer"] for error in problem["errors"]] == [pointer]


@pytest.mark.parametrize(
    "ranged", [pytest.param(ranged, id=f"{ranged.pointer} {ranged.says}") for ranged in REQUEST_RANGES]
)
def test_values_out_of_range_are_unprocessable(live: HttpService, ranged: ValueRange) -> None:
    for value in ranged.bad:
        problem = assert_problem(post(live, request_with(ranged, value)), 422)
        assert [error["pointer"] for error in problem["errors"]] == [ranged.pointer]
        assert ranged.is_said_by(problem["detail"])


@pytest.mark.parametrize("body", [b"not json", b"{", b"", b"\xff"])
def test_what_is_not_json(live: HttpService, body: bytes) -> None:
    assert_problem(live.client.post("/generate", content=body, headers=JSON), 400, "not valid JSON")


def test_body_over_the_limit(live: HttpService) -> None:
    body = b" " * (64 * MEBIBYTE + 1)
    assert_problem(live.client.post("/generate", content=body, headers=JSON), 413, "larger than 67108864 bytes")


def test_chunked_body_over_the_limit(live: HttpService) -> None:
    chunks = (b" " * MEBIBYTE for _ in range(66))
    assert_problem(live.client.post("/generate", content=chunks, headers=JSON), 413, "larger than 67108864 bytes")


def memory_peak_mib(pid: int) -> float:
    """The most memory that a process ever held."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def test_huge_picture_is_never_decoded(live: HttpService) -> None:
    """30 000 x 30 000 pixels, complete and valid, in 0.1 MB; decoded it would hold 900 MB."""
    rows = zlib.compress(b"\0" * (30_000 // 8 + 1) * 30_000)
    uri = data_uri(png_with_header(30_000, 30_000, rows))
    before = memory_peak_mib(live.api_pid)
    response = live.client.post("/generate", json=good_request(**QUICK) | first_subject(image=uri))
    problem = assert_problem(response, 413, "larger than the limit of 50000000 pixels")
    assert problem["errors"][0]["pointer"] == "/subjects/0/image"
    assert memory_peak_mib(live.api_pid) - before < 100


def get_raw(live: HttpService, path: str) -> tuple[int, str, str]:
    """Ask for a path exactly as it is written; a client would tidy up the dots."""
    connection = http.client.HTTPConnection("127.0.0.1", httpx2.URL(live.url).port, timeout=30)
    connection.request("GET", path)
    response = connection.getresponse()
    answer = (response.status, response.headers["content-type"], response.read().decode())
    connection.close()
    return answer


@pytest.mark.parametrize(
    "path",
    [
        "/jobs/AAAAAAAAAAAAAAAAAAAAAA",
        "/jobs/..",
        "/jobs/../../etc/passwd",
        "/jobs/..%2f..%2fetc%2fpasswd",
        "/jobs/%2e%2e%2f%2e%2e/images/0",
        "/jobs/AAAAAAAAAAAAAAAAAAAAAA/images/0",
        "/jobs/AAAAAAAAAAAAAAAAAAAAAA/images/../request.json",
    ],
)
def test_unknown_ids_and_paths(live: HttpService, path: str) -> None:
    status, content_type, body = get_raw(live, path)
    assert (status, content_type) == (404, "application/problem+json")
    assert "root:" not in body


@pytest.mark.parametrize("index", ["1", "8", "99", "-1"])
def test_image_index_out_of_range(live: HttpService, index: str) -> None:
    job = live.make(good_request(**QUICK))
    status, content_type, _ = get_raw(live, f"{job['urls']['self']}/images/{index}")
    assert (status, content_type) == (404, "application/problem+json")


def test_many_clients_with_bad_and_good_requests_do_not_disturb_each_other(live: HttpService) -> None:
    jobs = []
    for seed in range(5):
        assert live.client.post("/generate", json={"prompt": ""}).status_code == 422
        jobs.append(live.submit(good_request(**QUICK, seed=seed)))
    assert [live.wait_for_end(job)["status"] for job in jobs] == ["succeeded"] * 5
