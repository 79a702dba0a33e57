"""HEAD is answered wherever GET is, with the same head and without a body."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.support.sample_requests import good_request

VARYING = {"x-request-id", "date", "content-length", "transfer-encoding"}


@pytest.fixture
def paths(client: TestClient, document: dict[str, Any]) -> list[str]:
    """Every path that answers GET without parameters, and those of a job."""
    job = client.post("/generate", json=good_request()).json()["id"]
    known = {"{job_id}": job, "{index}": "0", "{code}": "invalid_box", "{name}": "x"}
    paths: list[str] = []
    for path, operations in document["paths"].items():
        if "get" in operations:
            for name, value in known.items():
                path = path.replace(name, value)
            paths.append(path)
    return [path for path in paths if "{" not in path]


def test_head_is_answered_as_get_is(client: TestClient, paths: list[str]) -> None:
    assert len(paths) >= 8
    for path in paths:
        head = client.head(path)
        assert head.content == b""
        if not path.endswith("/events"):
            get = client.get(path)
            assert head.status_code == get.status_code
            assert {k: v for k, v in head.headers.items() if k not in VARYING} == {
                k: v for k, v in get.headers.items() if k not in VARYING
            }


def test_head_of_a_stream_ends_at_once(client: TestClient) -> None:
    job = client.post("/generate", json=good_request()).json()["id"]
    head = client.head(f"/jobs/{job}/events")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"].startswith("text/event-stream")


def test_where_nothing_is_to_be_got_head_is_not_allowed(client: TestClient) -> None:
    response = client.head("/generate")
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"
    assert client.request("PATCH", "/jobs").headers["allow"] == "GET, HEAD"
