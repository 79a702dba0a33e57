"""The page at ``/`` and its parts."""

from __future__ import annotations

import re
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.playground.page import BUILT, PARTS
from app.service.installed_files import takes_gzip


def parts_of(page: str) -> list[str]:
    return re.findall(r'(?:src|href)="\./(app/[^"]*)"', page)


def test_the_first_page_is_the_playground(client: TestClient) -> None:
    response = client.get("/")
    assert (response.status_code, response.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert response.url.path == "/"
    assert response.text == (BUILT / "index.html").read_text()
    # Its parts have other names after a change.
    assert response.headers["cache-control"] == "no-cache"


def test_it_needs_no_other_server_and_runs_no_foreign_code(client: TestClient) -> None:
    response = client.get("/")
    policy = response.headers["content-security-policy"]
    assert {"default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'"} <= set(
        policy.split("; ")
    )
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', response.text)


def test_its_parts_are_served_for_good(client: TestClient) -> None:
    scripts = parts_of(client.get("/").text)
    assert scripts
    assert {name.removeprefix("app/") for name in scripts} <= PARTS
    types = {"css": "text/css", "js": "text/javascript", "png": "image/png"}
    for name in PARTS:
        response = client.get(f"/app/{name}")
        assert response.status_code == 200
        assert response.headers["content-type"].partition(";")[0] == types[name.rpartition(".")[2]]
        assert "immutable" in response.headers["cache-control"]
        assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/", *(f"/app/{name}" for name in sorted(PARTS)), "/docs/swagger-ui-bundle.js"])
def test_text_is_compressed_for_those_who_take_it(client: TestClient, path: str) -> None:
    whole = client.get(path, headers={"Accept-Encoding": "gzip;q=0, br"})
    small = client.get(path, headers={"Accept-Encoding": "br, gzip"})
    assert "content-encoding" not in whole.headers
    assert small.content == whole.content
    assert small.headers["content-type"] == whole.headers["content-type"]
    is_text = whole.headers["content-type"].startswith("text/")
    assert ("content-encoding" in small.headers) == is_text
    # A cache between must not give the one for the other.
    assert all(("Accept-Encoding" in each.headers.get("vary", "")) == is_text for each in (small, whole))
    if is_text:
        assert int(small.headers["content-length"]) < int(whole.headers["content-length"])


@pytest.mark.parametrize(
    ("accepted", "taken"),
    [("", False), ("gzip", True), ("GZip ; Q=0.5", True), ("*", True), ("*, gzip;q=0.0", False), ("gzip;q=x", False)],
)
def test_who_takes_it(accepted: str, taken: bool) -> None:
    assert takes_gzip(accepted) is taken


def test_what_is_no_part_of_the_page_is_not_compressed(client: TestClient) -> None:
    for path in ["/models", "/openapi.json", "/jobs"]:
        assert "content-encoding" not in client.get(path, headers={"Accept-Encoding": "gzip"}).headers


@pytest.mark.parametrize("name", ["index.html", "nothing.js", "..%2f..%2fpage.py", "%2e%2e"])
def test_nothing_else_lies_below_them(client: TestClient, name: str) -> None:
    assert client.get(f"/app/{name}").status_code == 404


def test_no_path_of_it_is_one_of_the_api(document: dict[str, Any]) -> None:
    patterns = [re.sub(r"\{[^}]*\}", "[^/]+", path) for path in document["paths"]]
    for path in ["/", *(f"/app/{name}" for name in PARTS)]:
        assert [pattern for pattern in patterns if re.fullmatch(pattern, path)] == []
