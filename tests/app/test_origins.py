"""Whose requests are answered: names that are the service's own, and changes from its own origins."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from app.config import Settings
from app.main import create_app
from tests.app.test_errors import assert_problem


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """Of an API without Redis, which guards before it asks."""
    monkeypatch.setenv("MSD_ALLOWED_HOSTS", "Pictures.example, 192.0.2.7")
    monkeypatch.setenv("MSD_CORS_ORIGINS", "https://front.example")
    monkeypatch.setenv("MSD_REDIS_URL", "redis://127.0.0.1:1/0")
    with TestClient(create_app(Settings()), base_url="http://localhost:8000") as client:
        yield client


OWN_HOSTS = (
    "localhost",
    "127.0.0.1:8000",
    "[::1]:8000",
    "LOCALHOST",
    "studio.localhost",
    "pictures.example:443",
    "192.0.2.7",
)
FOREIGN_HOSTS = ("evil.example:8000", "192.0.2.8", "localhost.evil.example", "pictures.example.evil", "127.0.0.1.evil")


@pytest.mark.parametrize("host", OWN_HOSTS)
def test_own_hosts_are_answered(client: TestClient, host: str) -> None:
    assert client.get("/openapi.json", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
@pytest.mark.parametrize("path", ["/jobs", "/openapi.json", "/docs", "/metrics", "/nowhere"])
def test_a_page_whose_name_points_here_is_not_answered(client: TestClient, host: str, path: str) -> None:
    problem = assert_problem(client.get(path, headers={"host": host}), 421, "misdirected_request")
    assert "MSD_ALLOWED_HOSTS" in problem["detail"]


def test_probes_are_answered_by_any_address(client: TestClient) -> None:
    assert client.get("/livez", headers={"host": "10.0.0.9:8000"}).status_code == 200
    assert client.get("/readyz", headers={"host": "10.0.0.9:8000"}).status_code == 503


@pytest.mark.parametrize("origin", ["https://evil.example", "http://localhost:3000", "null"])
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/generate"), ("POST", "/jobs/x/cancel"), ("POST", "/jobs/x/retry"), ("DELETE", "/jobs/x")],
)
def test_a_foreign_page_may_change_nothing(client: TestClient, origin: str, method: str, path: str) -> None:
    response = client.request(method, path, headers={"origin": origin})
    assert "MSD_CORS_ORIGINS" in assert_problem(response, 403, "foreign_origin")["detail"]


@pytest.mark.parametrize("origin", [None, "http://localhost:8000", "https://front.example"])
def test_own_pages_and_programs_may(client: TestClient, origin: str | None) -> None:
    response = client.delete("/jobs/x", headers={} if origin is None else {"origin": origin})
    assert response.status_code not in (403, 421)


def test_a_star_lets_all_hosts_and_origins_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSD_ALLOWED_HOSTS", "*")
    monkeypatch.setenv("MSD_CORS_ORIGINS", "*")
    with TestClient(create_app(Settings(redis_url="redis://127.0.0.1:1/0")), base_url="http://evil.example") as client:
        assert client.get("/openapi.json").status_code == 200
        assert client.delete("/jobs/x", headers={"origin": "https://other.example"}).status_code != 403
