"""Below /v1, every error has the form of OpenAI's interface, whatever raised it."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import pytest
from redis.exceptions import ConnectionError
from starlette.testclient import TestClient

from app.config import Settings
from app.main import create_app
from app.service.errors import HTTPProblem, InvalidRequestError
from app.service.openai_errors import is_openai_path, openai_error
from app.service.problems import INVALID_HEADER, ProblemType
from ms_core.errors import LayoutError, PictureTooLargeError, QueueUnavailableError

LIMITED = ProblemType("too_many_requests", HTTPStatus.TOO_MANY_REQUESTS, "Too many requests")
NO_KEY = ProblemType("no_key", HTTPStatus.UNAUTHORIZED, "No key")
RAISED: dict[str, Exception] = {
    "box": InvalidRequestError([LayoutError("No box.", "/subjects/0/box"), LayoutError("No box.", "/subjects/1/box")]),
    "large": PictureTooLargeError("Large.", "/subjects/1/image"),
    "queue": QueueUnavailableError("Away."),
    "redis": ConnectionError("Away."),
    "limited": HTTPProblem(LIMITED, "Slower."),
    "key": HTTPProblem(NO_KEY, "Whose?"),
    "header": HTTPProblem(INVALID_HEADER, "Odd.", pointer="/size"),
    "unexpected": KeyError("/srv/secret/path"),
}


def error_of(response: Any, status: int) -> dict[str, Any]:
    """The error of an answer, which must be nothing but that."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    (name, error), *others = response.json().items()
    assert (name, others) == ("error", [])
    assert set(error) == {"message", "type", "param", "code"}
    return error


@pytest.fixture
def failing(settings: Settings) -> Iterator[TestClient]:
    """The API with one more path for each error, which raises it."""
    app = create_app(settings)

    def route(name: str, error: Exception) -> None:
        def endpoint() -> None:
            raise error

        app.add_api_route(f"/v1/raise/{name}", endpoint)

    for name, error in RAISED.items():
        route(name, error)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.mark.parametrize(
    ("name", "status", "kind", "param", "code"),
    [
        ("box", 422, "invalid_request_error", "subjects[0].box", "invalid_box"),
        ("large", 413, "invalid_request_error", "subjects[1].image", "picture_too_large"),
        ("queue", 503, "server_error", None, "queue_unavailable"),
        ("redis", 503, "server_error", None, "queue_unavailable"),
        ("limited", 429, "rate_limit_error", None, "too_many_requests"),
        ("key", 401, "authentication_error", None, "no_key"),
        ("header", 400, "invalid_request_error", "size", "invalid_header"),
        ("unexpected", 500, "server_error", None, "internal_error"),
    ],
)
def test_errors_that_are_raised(
    failing: TestClient, name: str, status: int, kind: str, param: str | None, code: str
) -> None:
    response = failing.get(f"/v1/raise/{name}", headers={"X-Request-Id": "abc-1"})
    error = error_of(response, status)
    assert (error["type"], error["param"], error["code"]) == (kind, param, code)
    assert "secret" not in error["message"]
    assert response.headers["x-request-id"] == "abc-1"
    assert ("retry-after" in response.headers) == (status == 503)


def test_errors_before_any_endpoint(client: TestClient) -> None:
    assert error_of(client.get("/v1/nothing"), 404)["code"] == "not_found"
    assert error_of(client.get("/v1"), 404)["code"] == "not_found"
    assert error_of(client.get("/v1/models", headers={"Host": "evil.example"}), 421)["code"] == "misdirected_request"
    foreign = client.post("/v1/images/edits", headers={"Origin": "https://evil.example"})
    assert error_of(foreign, 403)["type"] == "permission_error"


def test_elsewhere_errors_stay_problems(client: TestClient) -> None:
    for path in ("/v10", "/models/v1/models", "/v2/images"):
        assert client.get(path).headers["content-type"] == "application/problem+json"


def test_a_prefix_of_a_proxy_does_not_count() -> None:
    assert is_openai_path("/pictures/v1/models", "/pictures")
    assert not is_openai_path("/v1/v2/models", "/v1")


@pytest.mark.parametrize(
    ("pointer", "param"),
    [("", None), ("/prompt", "prompt"), ("/loras/0/name", "loras[0].name"), ("/a~1b/~0c", "a/b.~c"), ("/0", "[0]")],
)
def test_pointers_become_names_of_fields(pointer: str, param: str | None) -> None:
    assert openai_error(HTTPStatus.BAD_REQUEST, "x", "X.", pointer).error.param == param
