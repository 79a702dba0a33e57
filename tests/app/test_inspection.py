"""``POST /inspect``: what a picture says of how it was made can be sent again, and is never trusted."""

from __future__ import annotations

import base64
import hashlib
import io
from pathlib import Path
from typing import Any, get_args

import pytest
from PIL import Image
from starlette.testclient import TestClient

from app.config import Settings
from app.main import create_app
from ms_jobs.result_files import FILE_FORMATS, OutputFormat, encode
from tests.support.played_worker import PlayedWorker
from tests.support.sample_requests import drawing, encoded, good_request, good_subject, picture_uri

FORMATS = get_args(OutputFormat)
RED = Image.new("RGB", (16, 8), "red")
VERSIONS = {"ms-diffusion-service": "0.1.0", "torch": "2.13.0"}
EDGES = picture_uri(Image.effect_noise((64, 32), 90).convert("RGB"))
MANY: dict[str, Any] = {
    "width": 64,
    "height": 32,
    "num_images": 3,
    "negative_prompt": "\N{CAT FACE}",
    "subjects": [
        good_subject(image=None, images=[picture_uri(drawing("teal")), picture_uri(drawing("red"))], end=0.5),
        good_subject(box=None, mask=picture_uri(Image.linear_gradient("L")), cutout=True),
        good_subject(box={"pixels": [8, 8, 64, 32]}),
    ],
    "controls": [{"name": "canny", "image": EDGES, "end": 0.75}],
    "start": {"image": EDGES, "strength": 0.5, "redraw": [1]},
    "output_format": "webp",
    "quality": 80,
}


def submit(client: TestClient, **changes: Any) -> str:
    response = client.post("/generate", json=good_request(**changes))
    assert response.status_code == 202, response.text
    return response.json()["id"]


def recipe_of(document: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A recipe as the worker writes it."""
    return {
        "request": document,
        "image_index": 2,
        "seed": 9,
        "model": {"name": "mini", "card": "mini"},
        "values": {},
        "versions": VERSIONS,
        **changes,
    }


def inspected(client: TestClient, file: bytes, media_type: str = "image/png") -> dict[str, Any]:
    response = client.post("/inspect", content=file, headers={"Content-Type": media_type})
    assert response.status_code == 200, response.text
    assert response.headers["cache-control"] == "no-store"
    return response.json()


@pytest.mark.parametrize("output_format", FORMATS)
def test_a_recipe_can_be_sent_again_as_it_is(
    client: TestClient, worker: PlayedWorker, output_format: OutputFormat
) -> None:
    job_id = submit(client, **MANY)
    document = worker.document(job_id)
    file = encode(RED, recipe_of(document), output_format)
    answer = inspected(client, file, FILE_FORMATS[output_format].media_type)
    assert (answer["missing"], answer["detail"]) == ([], None)
    assert answer["made"] == {"model": "mini", "image_index": 2, "seed": 9, "versions": VERSIONS}
    names = {f"sha256:{sha256}" for sha256 in worker.picture_names(job_id)}
    assert answer["recipe"]["subjects"][0]["images"][0] in names
    assert answer["recipe"]["start"]["image"] == answer["recipe"]["controls"][0]["image"]
    response = client.post("/generate", json=answer["recipe"])
    assert response.status_code == 202, response.text
    assert worker.document(response.json()["id"]) == document


def test_a_recipe_says_no_more_than_was_asked_for(client: TestClient, worker: PlayedWorker) -> None:
    request = good_request(seed=7, subjects=[good_subject()])
    job_id = submit(client, **request)
    (name,) = worker.picture_names(job_id)
    answer = inspected(client, encode(RED, recipe_of(worker.document(job_id))))
    assert answer["recipe"] == request | {"subjects": [good_subject(image=f"sha256:{name}")]}


def test_a_data_uri_is_read_as_well(client: TestClient, worker: PlayedWorker) -> None:
    file = encode(RED, recipe_of(worker.document(submit(client))))
    uri = f"data:image/png;base64,{base64.b64encode(file).decode()}"
    response = client.post("/inspect", json={"image": uri})
    assert response.json() == inspected(client, file)


def test_a_form_with_one_picture_is_read_as_well(client: TestClient, worker: PlayedWorker) -> None:
    file = encode(RED, recipe_of(worker.document(submit(client))), "jpeg")
    assert client.post("/inspect", files={"any": ("x", file, "text/plain")}).json() == inspected(client, file)
    response = client.post("/inspect", files={"one": file, "two": file})
    assert (response.status_code, response.json()["detail"]) == (422, "Send one picture, not 2.")
    cut = client.post("/inspect", content=b"--b\r\n", headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert (cut.status_code, cut.json()["code"]) == (400, "malformed_multipart")


def test_an_asset_keeps_its_picture_for_recipes(client: TestClient, worker: PlayedWorker) -> None:
    (asset,) = client.post("/assets", json={"image": EDGES}).json()["assets"]
    job_id = submit(client, subjects=[good_subject(image=f"asset:{asset['id']}")])
    document = worker.document(job_id)
    client.delete(f"/jobs/{job_id}")
    answer = inspected(client, encode(RED, recipe_of(document)))
    assert (answer["missing"], answer["recipe"]["subjects"][0]["image"]) == ([], f"sha256:{asset['sha256']}")
    assert worker.document(client.post("/generate", json=answer["recipe"]).json()["id"]) == document


def test_pictures_that_are_gone_are_named_and_can_be_handed_in_again(client: TestClient, worker: PlayedWorker) -> None:
    kept = picture_uri(drawing("teal"))
    job_id = submit(client, subjects=[good_subject(image=None, images=[kept, EDGES, EDGES])])
    document = worker.document(job_id)
    file = encode(RED, recipe_of(document))
    submit(client, subjects=[good_subject(image=kept)])
    client.delete(f"/jobs/{job_id}")
    answer = inspected(client, file)
    first, second, third = document["subjects"][0]["images"]
    assert (answer["missing"], second) == ([second], third)
    response = client.post("/generate", json=answer["recipe"])
    assert response.status_code == 422
    assert {(error["pointer"], error["code"]) for error in response.json()["errors"]} == {
        ("/subjects/0/images/1", "asset_not_found"),
        ("/subjects/0/images/2", "asset_not_found"),
    }
    assert "No picture with this SHA-256 is kept" in response.json()["detail"]
    answer["recipe"]["subjects"][0]["images"] = [f"sha256:{first}", EDGES, EDGES]
    again = client.post("/generate", json=answer["recipe"]).json()["id"]
    assert worker.document(again) == document


def test_a_repeat_is_answered_although_a_kept_picture_is_gone(client: TestClient, worker: PlayedWorker) -> None:
    job_id = submit(client, subjects=[good_subject(image=EDGES)])
    (name,) = worker.picture_names(job_id)
    request, key = good_request(subjects=[good_subject(image=f"sha256:{name}")]), {"Idempotency-Key": f"key-{job_id}"}
    first = client.post("/generate", json=request, headers=key).json()["id"]
    worker.artifacts.remove(worker.record(first).folder)
    client.delete(f"/jobs/{job_id}")
    again = client.post("/generate", json=request, headers=key)
    assert (again.status_code, again.json()["id"]) == (202, first), again.text


@pytest.mark.parametrize("name", ["", "0" * 63, "0" * 65, "G" * 64, "A" * 64, "../../../etc/passwd", "0" * 63 + "\n"])
def test_what_is_no_sha256_is_refused(client: TestClient, name: str) -> None:
    response = client.post("/generate", json=good_request(subjects=[good_subject(image=f"sha256:{name}")]))
    (error,) = response.json()["errors"]
    assert (response.status_code, error["pointer"], error["code"]) == (422, "/subjects/0/image", "invalid_picture")


def test_kept_pictures_count_for_the_limit_of_a_request(settings: Settings) -> None:
    limited = settings.model_copy(update={"max_request_pixels": 2 * 64 * 32})
    with TestClient(create_app(limited)) as client:
        submit(client, subjects=[good_subject(image=EDGES)])
        name = hashlib.sha256(next(Path(settings.data_dir).glob("*/pictures/*.png")).read_bytes()).hexdigest()
        subject = good_subject(image=f"sha256:{name}")
        assert client.post("/generate", json=good_request(subjects=[subject] * 2)).status_code == 202
        response = client.post("/generate", json=good_request(subjects=[subject] * 3))
        assert (response.status_code, response.json()["code"]) == (413, "picture_too_large")


def test_a_kept_picture_that_is_damaged_is_told(client: TestClient, settings: Settings) -> None:
    submit(client, subjects=[good_subject()])
    (path,) = Path(settings.data_dir).glob("*/pictures/*.png")
    path.write_bytes(path.read_bytes() + b"!")
    response = client.post("/generate", json=good_request(subjects=[good_subject(image=f"sha256:{path.stem}")]))
    assert (response.status_code, response.json()["code"]) == (503, "storage_unavailable")


def with_subject(**changes: Any) -> dict[str, Any]:
    return {"subjects": [{"phrase": "cat", "images": ["0" * 64], "box": [0, 0, 1, 1], **changes}]}


DOCUMENT = {"prompt": "a cat", "seed": 7, "model": "mini", **with_subject()}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"num_inference_steps": 151}, "/num_inference_steps: Must be a number from 1 to 150"),
        ({"glow": True}, "/glow: Unknown field"),
        ({"prompt": ""}, "/prompt: The prompt is empty"),
        ({"prompt": "a\0"}, "/prompt: The text contains a NUL"),
        ({"seed": 2**53}, "/seed: "),
        ({"subjects": []}, "/subjects: "),
        (with_subject(images=["../../../etc/passwd"]), "/subjects/0/image: This is no SHA-256."),
        (with_subject(images=["data:image/png;base64,AAAA"]), "/subjects/0/image: This is no SHA-256."),
        (with_subject(images=["https://example.org/cat.png"]), "/subjects/0/image: This is no SHA-256."),
        (with_subject(box=None), "/subjects/0/box: This subject has no box"),
        (with_subject(start=0.5, end=0.5), "/subjects/0/end: The end must be above the start"),
        ({"quality": 50}, "/quality: A PNG loses nothing"),
        ({"loras": [{"name": "/etc/passwd"}]}, "/loras/0/name: "),
        ({"layout": [1]}, "another version of the service made it, or it was changed."),
        ({"subjects": None}, "another version"),
        ({"subjects": "cat"}, "another version"),
        ({"subjects": [None]}, "another version"),
    ],
)
def test_a_recipe_that_lies_is_told_and_not_given(client: TestClient, changes: dict[str, Any], says: str) -> None:
    answer = inspected(client, encode(RED, recipe_of(DOCUMENT | changes)))
    assert (answer["recipe"], answer["made"], answer["missing"]) == (None, None, [])
    assert says in answer["detail"]


def with_text(png: bytes, text: str) -> bytes:
    """The picture with another recipe, right or not."""
    from PIL.PngImagePlugin import PngInfo

    info, buffer = PngInfo(), io.BytesIO()
    info.add_text("msd", text)
    Image.open(io.BytesIO(png)).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "changes",
    [
        {"request": None},
        {"request": [1]},
        {"model": None},
        {"model": {"name": "../mini"}},
        {"image_index": 8},
        {"image_index": "0"},
        {"seed": -1},
        {"versions": {"torch": 2}},
        {"versions": None},
    ],
)
def test_what_stands_beside_the_request_is_checked_as_well(client: TestClient, changes: dict[str, Any]) -> None:
    answer = inspected(client, encode(RED, recipe_of(DOCUMENT, **changes)))
    assert (answer["recipe"], answer["made"]) == (None, None)
    assert "another version of the service made it" in answer["detail"]


@pytest.mark.parametrize(
    ("file", "says"),
    [
        (encoded(RED), "holds no recipe: it was made elsewhere, or was encoded again"),
        (encoded(RED, "JPEG"), "holds no recipe"),
        (encoded(RED, "WEBP"), "holds no recipe"),
        (b"", "no PNG, JPEG or WebP"),
        (b"GIF89a", "no PNG, JPEG or WebP"),
        (encode(RED, recipe_of(DOCUMENT))[:200], "cut off or damaged"),
        (encode(RED, recipe_of(DOCUMENT), "webp")[:100], "cut off or damaged"),
        (encode(RED, recipe_of(DOCUMENT), "jpeg")[:100], "cut off or damaged"),
        (with_text(encoded(RED), "[" * 10_000), "is no JSON"),
        (with_text(encoded(RED), '{"seed": ' + "1" * 5000 + "}"), "is no JSON"),
        (with_text(encoded(RED), "[]"), "no JSON object"),
        (with_text(encoded(RED), '{"a": ' + "1" * 2**21 + "}"), "longer than any"),
    ],
)
def test_other_pictures_have_no_recipe(client: TestClient, file: bytes, says: str) -> None:
    answer = inspected(client, file)
    assert (answer["recipe"], answer["made"], answer["missing"]) == (None, None, [])
    assert says in answer["detail"]


def test_the_media_type_that_is_sent_need_not_be_right(client: TestClient) -> None:
    file = encode(RED, recipe_of(DOCUMENT), "jpeg")
    assert inspected(client, file, "Image/X-Anything; charset=latin-1")["recipe"] is not None


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/octet-stream", "imagepng"])
def test_bodies_of_other_types_are_refused(client: TestClient, content_type: str | None) -> None:
    response = client.post("/inspect", content=b"x", headers={"Content-Type": content_type} if content_type else {})
    assert (response.status_code, response.json()["code"]) == (415, "unsupported_media_type")
    assert "Content-Type: image/png, image/jpeg or image/webp" in response.json()["detail"]


def test_a_packed_body_is_refused(client: TestClient) -> None:
    for content_type in ("image/png", "application/json"):
        headers = {"Content-Type": content_type, "Content-Encoding": "gzip"}
        assert client.post("/inspect", content=b"x", headers=headers).status_code == 415


@pytest.mark.parametrize(
    ("body", "status", "pointer", "code"),
    [
        ("{", 400, None, "malformed_json"),
        ("{}", 422, "/image", "missing_field"),
        ("[]", 422, "", "model_type"),
        ('{"image": null}', 422, "/image", "missing_field"),
        ('{"image": 1}', 422, "/image", "string_type"),
        ('{"image": "cat.png"}', 422, "/image", "invalid_picture"),
        ('{"image": "data:image/png;base64,"}', 422, "/image", "invalid_picture"),
        ('{"image": "data:image/png;base64,AA==", "more": 1}', 422, "/more", "unknown_field"),
    ],
)
def test_json_that_holds_no_picture(client: TestClient, body: str, status: int, pointer: str | None, code: str) -> None:
    response = client.post("/inspect", content=body, headers={"Content-Type": "application/json"})
    problem = response.json()
    assert response.status_code == status, response.text
    if pointer is None:
        assert problem["code"] == code
    else:
        assert [(error["pointer"], error["code"]) for error in problem["errors"]] == [(pointer, code)]


def test_a_picture_may_be_as_large_as_others(settings: Settings) -> None:
    limited = settings.model_copy(update={"max_picture_pixels": 16 * 8, "max_body_bytes": 2**20})
    with TestClient(create_app(limited)) as client:
        assert inspected(client, encoded(RED))["recipe"] is None
        for kind in ("PNG", "JPEG", "WEBP"):
            file = encoded(Image.new("RGB", (16, 9)), kind)
            response = client.post("/inspect", content=file, headers={"Content-Type": "image/png"})
            assert (response.status_code, response.json()["code"]) == (413, "picture_too_large")
        response = client.post("/inspect", content=bytes(2**20 + 1), headers={"Content-Type": "image/png"})
        assert (response.status_code, response.json()["code"]) == (413, "body_too_large")


def test_inspecting_stores_nothing(client: TestClient, settings: Settings) -> None:
    assert inspected(client, encode(RED, recipe_of(DOCUMENT)))["missing"] == ["0" * 64]
    assert not list(Path(settings.data_dir).rglob("*.png"))
