"""OpenAI's own client for Python against the live service."""

from __future__ import annotations

import base64
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from openai import OpenAI
from PIL import Image

from tests.e2e.http_service import LONG, QUICK, HttpService
from tests.support.guides import blocks
from tests.support.paths import ASSETS
from tests.support.sample_requests import drawing, encoded, good_request

CAT, TEAPOT = encoded(drawing("orange")), encoded(drawing("teal"))
PROMPT = "a cat and a teapot on the beach"
SUBJECTS = [{"phrase": "cat", "box": [0.05, 0.3, 0.45, 0.8]}, {"phrase": "teapot", "box": [0.55, 0.3, 0.95, 0.8]}]
STEPS = {"num_inference_steps": QUICK["num_inference_steps"]}
SIZE = f"{QUICK['width']}x{QUICK['height']}"
JSON_SUBJECTS = {"subjects": json.dumps(SUBJECTS)}


@pytest.fixture
def client(service: HttpService) -> Iterator[OpenAI]:
    service.wait_until_ready()
    with OpenAI(base_url=f"{service.url}/v1", api_key="unused") as client:
        yield client


def edit(client: OpenAI, fields: dict[str, Any] = JSON_SUBJECTS, **options: Any) -> Any:
    options = {"size": SIZE, "image": [CAT, TEAPOT], **options}
    return client.images.edit(prompt=PROMPT, extra_body={**STEPS, **fields}, **options)


def size_of(b64_json: str) -> tuple[str | None, tuple[int, int]]:
    picture = Image.open(io.BytesIO(base64.b64decode(b64_json)))
    return picture.format, picture.size


def jobs(service: HttpService) -> list[dict[str, Any]]:
    return service.client.get("/jobs?limit=100").json()["jobs"]


def test_two_subjects_with_boxes(client: OpenAI) -> None:
    answer = edit(client, {**JSON_SUBJECTS, "seed": 7}, model="golden", n=2)
    assert [size_of(image.b64_json) for image in answer.data] == [("PNG", (64, 64))] * 2
    assert [image.seed for image in answer.data] == [7, 8]
    assert (answer.size, answer.output_format) == ("64x64", "png")


def test_subjects_that_the_client_flattens(client: OpenAI) -> None:
    boxes = [subject["box"] for subject in SUBJECTS]
    for fields in ({"subjects": SUBJECTS}, {"phrases": ["cat", "teapot"], "boxes": boxes}):
        assert size_of(edit(client, fields).data[0].b64_json) == ("PNG", (64, 64))
    one = {"phrases": ["cat"], "boxes": ["0.1,0.1,0.9,0.9"]}
    assert size_of(edit(client, one, image=CAT).data[0].b64_json) == ("PNG", (64, 64))
    raw = client.images.with_raw_response.edit(image=CAT, prompt="a cat", user="ann", extra_body=QUICK)
    assert raw.headers["msd-warning"].startswith("ignored: user; no phrases were sent")


def test_generations_with_data_uris(client: OpenAI) -> None:
    request = good_request(**STEPS)
    prompt = request.pop("prompt")
    answer = client.images.generate(prompt=prompt, size=SIZE, output_format="jpeg", extra_body=request)
    assert size_of(answer.data[0].b64_json) == ("JPEG", (64, 64))


def test_streams(client: OpenAI) -> None:
    request = good_request(num_inference_steps=20)
    prompt = request.pop("prompt")
    options: dict[str, Any] = {"size": SIZE, "stream": True, "partial_images": 2}
    made = client.images.generate(prompt=prompt, extra_body=request, **options)
    edited = edit(client, {**JSON_SUBJECTS, "num_inference_steps": 20}, **options)
    for kind, stream in (("image_generation", made), ("image_edit", edited)):
        *partial, last = list(stream)
        assert 1 <= len(partial) <= 2
        assert [event.type for event in partial] == [f"{kind}.partial_image"] * len(partial)
        assert [event.partial_image_index for event in partial] == list(range(len(partial)))
        assert size_of(partial[0].b64_json)[0] == "WEBP"
        assert (last.type, size_of(last.b64_json)) == (f"{kind}.completed", ("PNG", (64, 64)))
        assert last.usage.total_tokens == 0


@pytest.mark.parametrize(
    ("fields", "options", "kind", "param", "code"),
    [
        ({}, {"size": "63x64"}, openai.UnprocessableEntityError, "size", "invalid_input"),
        ({}, {"n": 0}, openai.UnprocessableEntityError, "n", "invalid_input"),
        ({}, {"model": "gpt-image-1"}, openai.NotFoundError, "model", "model_not_found"),
        ({"subjects": "cat"}, {}, openai.BadRequestError, "subjects", "malformed_field"),
        ({"subjects": "[]"}, {}, openai.UnprocessableEntityError, "image", "invalid_picture"),
        ({"loras": '[{"name": "other-base"}]'}, {}, openai.UnprocessableEntityError, None, "unfit_lora"),
        ({}, {"extra_headers": {"Host": "evil.example"}}, openai.APIStatusError, None, "misdirected_request"),
    ],
)
def test_errors(
    client: OpenAI, fields: dict[str, Any], options: dict[str, Any], kind: Any, param: str | None, code: str
) -> None:
    with pytest.raises(kind) as caught:
        edit(client, {**JSON_SUBJECTS, **fields}, **options)
    assert (caught.value.param, caught.value.code) == (param, code)


def test_an_error_in_a_stream(client: OpenAI) -> None:
    with pytest.raises(openai.APIError) as caught:
        list(edit(client, {**JSON_SUBJECTS, "loras": '[{"name": "other-base"}]'}, stream=True))
    assert caught.value.code == "unfit_lora"


def test_without_redis_there_is_a_503_that_the_client_retries(client: OpenAI, service: HttpService) -> None:
    with service.redis_stopped(), pytest.raises(openai.InternalServerError) as caught:
        edit(client.with_options(max_retries=0))
    assert (caught.value.status_code, caught.value.code) == (503, "queue_unavailable")


def test_a_closed_connection_cancels_its_job(client: OpenAI, service: HttpService) -> None:
    before = {job["id"] for job in jobs(service)}
    size = f"{LONG['width']}x{LONG['height']}"
    with pytest.raises(openai.APITimeoutError):
        edit(client.with_options(timeout=1.0, max_retries=0), {**JSON_SUBJECTS, **LONG}, size=size)
    (job,) = (job for job in jobs(service) if job["id"] not in before)
    assert service.wait_for_end(job)["status"] == "canceled"


class FirstImpatient(httpx2.HTTPTransport):
    """Gives up soon on its first request."""

    requests = 0

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self.requests += 1
        if self.requests == 1:
            request.extensions["timeout"] |= {"read": 0.3}
        return super().handle_request(request)


def test_a_request_that_is_sent_again_runs_once(client: OpenAI, service: HttpService) -> None:
    before = {job["id"] for job in jobs(service)}
    transport = FirstImpatient()
    with httpx2.Client(transport=transport) as http:
        again = client.with_options(http_client=http)
        answer = edit(again, {**JSON_SUBJECTS, "num_inference_steps": 40, "seed": 92}, size="256x256")
    assert size_of(answer.data[0].b64_json) == ("PNG", (256, 256))
    assert transport.requests == 2
    assert len([job for job in jobs(service) if job["id"] not in before]) == 1


def test_models(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["golden"]
    assert client.models.retrieve("golden").object == "model"


def test_the_code_of_the_guide_works(service: HttpService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service.wait_until_ready()
    shutil.copytree(ASSETS / "demo", tmp_path / "assets" / "demo")
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("docs/guides/front-ends.md", "python", "## OpenAI's images interface")
    exec(code.replace("http://127.0.0.1:8000", service.url), {})
    assert (tmp_path / "beach.png").read_bytes().startswith(b"\x89PNG")
