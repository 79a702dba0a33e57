"""Requests that are sent as a form, with their pictures in its parts."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.config import Settings
from app.main import create_app
from app.requests.forms import MAX_PARTS, read_form
from app.service.errors import HTTPProblem
from tests.support.sample_requests import drawing, encoded, good_request, good_subject, picture_uri

CAT = encoded(drawing("orange"))
TYPE = {"content-type": "multipart/form-data; boundary=b"}


def form_of(*parts: tuple[str, bytes], boundary: str = "b", end: str = "--\r\n") -> bytes:
    """A form as it goes over the wire."""
    written = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + content + b"\r\n"
        for name, content in parts
    ]
    return b"".join(written) + f"--{boundary}{end}".encode()


def request_for(*names: str, **changes: Any) -> bytes:
    """JSON of a request whose subjects name these parts."""
    subjects = [good_subject(image=f"upload:{name}") for name in names]
    return json.dumps(good_request(subjects=subjects, **changes)).encode()


def send(client: TestClient, *parts: tuple[str, bytes]) -> Any:
    return client.post("/generate", content=form_of(*parts), headers=TYPE)


def problem(response: Any) -> tuple[int, str, str]:
    """Status, code and first pointer."""
    answer = response.json()
    return response.status_code, answer["code"], answer["errors"][0]["pointer"] if answer["errors"] else ""


def test_a_form_brings_its_pictures(client: TestClient) -> None:
    files = {"cat": ("cat.png", CAT, "image/png"), "katze ü": ("x", CAT, "text/plain")}
    data = {"request": request_for("cat", "katze ü").decode()}
    response = client.post("/generate", data=data, files=files)
    assert response.status_code == 202, response.text


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/octet-stream", None])
def test_the_request_may_be_of_any_declared_type(client: TestClient, kind: str | None) -> None:
    file = ("blob", request_for("cat")) if kind is None else ("blob", request_for("cat"), kind)
    assert client.post("/generate", files={"request": file, "cat": CAT}).status_code == 202


def test_a_form_under_an_id_is_the_same_request_as_its_json(client: TestClient) -> None:
    job_id = "form-" + "0" * 20
    first = client.put(f"/jobs/{job_id}", content=form_of(("request", request_for("cat")), ("cat", CAT)), headers=TYPE)
    second = client.put(
        f"/jobs/{job_id}", json=good_request(subjects=[good_subject(image=picture_uri(drawing("orange")))])
    )
    assert (first.status_code, second.status_code) == (202, 202), second.text
    assert second.headers["idempotency-replayed"] == "true"


def test_the_same_part_may_be_used_twice(client: TestClient) -> None:
    start = {"image": "upload:cat"}
    assert send(client, ("request", request_for("cat", "cat", start=start)), ("cat", CAT)).status_code == 202


def test_a_part_that_is_named_and_missing_is_told(client: TestClient) -> None:
    response = send(client, ("request", request_for("cat", "dog")), ("cat", CAT))
    assert problem(response) == (422, "upload_not_found", "/subjects/1/image")
    assert "'dog'" in response.json()["detail"]


@pytest.mark.parametrize("name", ["request", "", "CAT", "cat "])
def test_a_part_is_found_by_its_exact_name_only(client: TestClient, name: str) -> None:
    start = {"image": "upload:cat"}
    response = send(client, ("request", request_for(name, start=start)), ("cat", CAT))
    assert problem(response) == (422, "upload_not_found", "/subjects/0/image")


def test_a_part_that_is_sent_and_not_named_is_told(client: TestClient) -> None:
    response = send(client, ("request", request_for("cat")), ("cat", CAT), ("dog", CAT))
    assert problem(response) == (422, "upload_unused", "")
    assert "'dog'" in response.json()["detail"]


def test_no_part_is_named_in_json_alone(client: TestClient) -> None:
    response = client.post("/generate", content=request_for("cat"), headers={"content-type": "application/json"})
    assert problem(response) == (422, "upload_not_found", "/subjects/0/image")
    assert "multipart/form-data" in response.json()["detail"]


def test_a_part_that_is_no_picture_is_told_where_it_is_named(client: TestClient) -> None:
    response = send(client, ("request", request_for("cat", "text")), ("cat", CAT), ("text", b"not a picture"))
    assert problem(response) == (422, "invalid_picture", "/subjects/1/image")


def test_json_that_is_broken_within_a_form_is_told(client: TestClient) -> None:
    assert problem(send(client, ("request", b"{"), ("cat", CAT))) == (400, "malformed_json", "")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no form",
        form_of(("cat", CAT)),
        form_of(("request", request_for("cat")), ("request", request_for("cat"))),
        form_of(("request", request_for("cat")), ("cat", CAT), ("cat", CAT)),
        form_of(("request", request_for("cat")), ("cat", CAT), end=""),
        form_of(("request", request_for("cat")), ("cat", CAT), boundary="c"),
        form_of(("request", request_for("cat")), ("cat", CAT))[:-60],
        b"--b\r\nContent-Type: text/plain\r\n\r\n{}\r\n--b--\r\n",
        b"--b\r\nContent-Disposition: attachment; name=request\r\n\r\n{}\r\n--b--\r\n",
        b'--b\r\nContent-Disposition: form-data; name="\xff"\r\n\r\n{}\r\n--b--\r\n',
        b"--b\r\nContent Disposition: form-data\r\n\r\n{}\r\n--b--\r\n",
        b"--b\r\n" + b"X: y\r\n" * 50 + b"\r\n{}\r\n--b--\r\n",
        b"--b\r\nX: " + b"y" * 10_000 + b"\r\n\r\n{}\r\n--b--\r\n",
    ],
)
def test_a_form_that_cannot_be_read_is_told(client: TestClient, body: bytes) -> None:
    assert problem(client.post("/generate", content=body, headers=TYPE)) == (400, "malformed_multipart", "")


@pytest.mark.parametrize("kind", ["multipart/form-data", 'multipart/form-data; boundary=""'])
def test_a_form_needs_its_boundary(client: TestClient, kind: str) -> None:
    response = client.post("/generate", content=form_of(("cat", CAT)), headers={"content-type": kind})
    assert problem(response) == (400, "malformed_multipart", "")


def test_a_boundary_that_is_too_long_is_told(client: TestClient) -> None:
    boundary = "b" * 300
    headers = {"content-type": f"multipart/form-data; boundary={boundary}"}
    response = client.post("/generate", content=form_of(("cat", CAT), boundary=boundary), headers=headers)
    assert problem(response) == (400, "malformed_multipart", "")


@pytest.mark.parametrize("path", ["/generate", "/assets"])
def test_ten_thousand_parts_are_refused(client: TestClient, path: str) -> None:
    body = form_of(*[(str(number), b"") for number in range(10_000)])
    assert problem(client.post(path, content=body, headers=TYPE)) == (413, "body_too_large", "")


def test_as_many_parts_as_allowed_are_read() -> None:
    parts = [(str(number), b"x") for number in range(MAX_PARTS)]
    assert read_form(form_of(*parts), b"b") == parts
    with pytest.raises(HTTPProblem):
        read_form(form_of(*parts, ("one more", b"")), b"b")


@pytest.fixture
def small_client(settings: Settings) -> Iterator[TestClient]:
    """An API that takes bodies of at most 2000 bytes."""
    with TestClient(create_app(settings.model_copy(update={"max_body_bytes": 2000}))) as client:
        yield client


@pytest.mark.parametrize("path", ["/generate", "/assets"])
@pytest.mark.parametrize("declared", [True, False])
def test_a_form_over_the_limit_is_refused(small_client: TestClient, path: str, declared: bool) -> None:
    body = form_of(("cat", b"x" * 2000))
    content = body if declared else iter([body[:1000], body[1000:]])
    assert problem(small_client.post(path, content=content, headers=TYPE)) == (413, "body_too_large", "")


def test_pictures_of_a_form_count_together(settings: Settings) -> None:
    small = settings.model_copy(update={"max_request_pixels": 2 * 64 - 1})
    with TestClient(create_app(small)) as client:
        assert send(client, ("request", request_for("cat")), ("cat", CAT)).status_code == 202
        response = send(client, ("request", request_for("cat", "cat")), ("cat", CAT))
    assert problem(response) == (413, "picture_too_large", "")


@pytest.mark.parametrize("content", [b"", b"\r\n", b"\r\n--", b"--b", b"\r\n--a\r\n", bytes(range(256)) * 3])
def test_the_content_of_a_part_is_taken_as_it_is(content: bytes) -> None:
    assert read_form(form_of(("a", content), ("b", content)), b"b") == [("a", content), ("b", content)]


def test_every_cut_of_a_form_is_refused() -> None:
    body = form_of(("request", b"{}"), ("cat", b"picture"))
    for length in range(len(body) - 2):
        with pytest.raises(HTTPProblem):
            read_form(body[:length], b"b")


def test_what_stands_around_a_form_does_not_count() -> None:
    body = io.BytesIO(b"\r\n" + form_of(("request", b"{}")) + b"epilogue").getvalue()
    assert read_form(body, b"b") == [("request", b"{}")]


@pytest.mark.parametrize(
    ("content_type", "status", "code"),
    [
        ('multipart/form-data; a="' + ";" * 60_000 + '; boundary=b"', 415, "unsupported_media_type"),
        ("multipart/form-data; boundary*=idna''B%ff", 400, "malformed_multipart"),
    ],
    ids=["endless", "boundary in a broken encoding"],
)
def test_a_hostile_content_type_is_refused_at_once(
    client: TestClient, content_type: str, status: int, code: str
) -> None:
    begun = time.process_time()
    response = client.post("/assets", content=form_of(("cat", CAT)), headers={"content-type": content_type})
    assert problem(response) == (status, code, "")
    assert time.process_time() - begun < 1
