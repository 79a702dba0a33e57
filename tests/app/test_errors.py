"""Every error is a problem: mapped, complete, and silent about the inside."""

from __future__ import annotations

import gzip
import inspect
import re
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from itertools import permutations

import pytest
from fastapi import FastAPI
from redis.exceptions import NoScriptError, ResponseError
from starlette.testclient import TestClient

from app.config import Settings
from app.main import create_app
from app.service.errors import InvalidRequestError
from app.service.problems import HTTP_PROBLEMS, PROBLEMS, problem_of_code
from ms_core import errors
from ms_core.errors import InvalidInputError, LayoutError, MSDiffusionError, PictureError, PictureTooLargeError
from tests.support.sample_requests import data_uri, good_request, png_with_header

FIELDS = {"type", "title", "status", "detail", "instance", "code", "request_id", "errors"}


def assert_problem(response, status: int, code: str) -> dict:
    problem = response.json()
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert set(problem) == FIELDS
    assert (problem["status"], problem["code"], problem["type"]) == (status, code, f"/problems/{code}")
    assert problem["request_id"] == response.headers["x-request-id"]
    assert problem["detail"].endswith(".")
    return problem


def all_errors() -> list[type[MSDiffusionError]]:
    classes = [item for _, item in inspect.getmembers(errors, inspect.isclass)]
    return [item for item in classes if issubclass(item, MSDiffusionError)]


@pytest.mark.parametrize("error", all_errors())
def test_every_error_of_the_project_has_a_row(error: type[MSDiffusionError]) -> None:
    assert PROBLEMS[error].code == error.code


def test_no_row_is_left_over() -> None:
    assert set(PROBLEMS) == set(all_errors())


def test_every_code_stands_for_one_kind_of_problem() -> None:
    kinds = [*PROBLEMS.values(), *HTTP_PROBLEMS]
    assert len({kind.code for kind in kinds}) == len(kinds)
    assert all(problem_of_code(kind.code) == kind for kind in kinds)


@pytest.fixture
def failing(settings: Settings) -> Iterator[TestClient]:
    """The API with one more path for each class of error, which raises it."""
    app: FastAPI = create_app(settings)

    def route(error: Exception) -> None:
        def endpoint() -> None:
            raise error

        app.add_api_route(f"/raise/{type(error).__name__}", endpoint)

    for error in all_errors():
        route(error("A sentence."))
    route(KeyError("/srv/secret/path"))
    route(
        ResponseError("Error running script: @user_script: 4: -OOM command not allowed when used memory > 'maxmemory'.")
    )
    route(NoScriptError("No matching script. Please use EVAL."))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.mark.parametrize("error", all_errors())
def test_a_raised_error_becomes_its_problem(failing: TestClient, error: type[MSDiffusionError]) -> None:
    kind = PROBLEMS[error]
    response = failing.get(f"/raise/{error.__name__}")
    assert_problem(response, kind.status, kind.code)
    assert ("retry-after" in response.headers) == (kind.status == HTTPStatus.SERVICE_UNAVAILABLE)


TOO_LARGE, NO_BOX, NO_PICTURE = PictureTooLargeError("Large."), LayoutError("No box."), PictureError("Damaged.")


@pytest.mark.parametrize(
    ("errors_found", "status", "code"),
    [
        ([TOO_LARGE, TOO_LARGE], 413, "picture_too_large"),
        ([NO_BOX, NO_BOX], 422, "invalid_box"),
        *((order, 422, "invalid_input") for order in permutations([TOO_LARGE, NO_BOX])),
        *((order, 422, "invalid_input") for order in permutations([TOO_LARGE, TOO_LARGE, NO_PICTURE])),
        *((order, 422, "invalid_input") for order in permutations([TOO_LARGE, NO_PICTURE, NO_BOX])),
    ],
)
def test_errors_of_different_kinds_are_an_invalid_request(
    settings: Settings, errors_found: Sequence[InvalidInputError], status: int, code: str
) -> None:
    app = create_app(settings)

    def endpoint() -> None:
        raise InvalidRequestError(errors_found)

    app.add_api_route("/raise", endpoint)
    with TestClient(app) as client:
        problem = assert_problem(client.get("/raise"), status, code)
    assert [item["code"] for item in problem["errors"]] == [error.code for error in errors_found]


@pytest.mark.parametrize("large", [0, 1])
def test_a_picture_that_is_too_large_beside_a_broken_one_is_an_invalid_request(client: TestClient, large: int) -> None:
    request = good_request()
    request["subjects"][large]["image"] = data_uri(png_with_header(30_000, 30_000, b""))
    request["subjects"][1 - large]["image"] = data_uri(b"no picture")
    problem = assert_problem(client.post("/generate", json=request), 422, "invalid_input")
    assert {item["pointer"]: item["code"] for item in problem["errors"]} == {
        f"/subjects/{large}/image": "picture_too_large",
        f"/subjects/{1 - large}/image": "invalid_picture",
    }


def test_a_script_that_found_redis_full_means_that_redis_is_away(failing: TestClient) -> None:
    assert_problem(failing.get("/raise/ResponseError"), 503, "queue_unavailable")


def test_a_wrong_command_is_a_mistake_of_ours_and_not_a_redis_that_is_away(failing: TestClient) -> None:
    assert_problem(failing.get("/raise/NoScriptError"), 500, "internal_error")


def test_an_unexpected_error_says_nothing_of_the_inside(failing: TestClient) -> None:
    response = failing.get("/raise/KeyError", headers={"X-Request-Id": "abc-1"})
    assert_problem(response, 500, "internal_error")
    assert response.headers["x-request-id"] == "abc-1"
    assert not re.search("secret|Traceback|KeyError.py|/srv", response.text)


def test_unknown_path(client: TestClient) -> None:
    assert_problem(client.get("/nothing"), 404, "not_found")


@pytest.mark.parametrize(("method", "path"), [("GET", "/jobs/"), ("POST", "/generate/"), ("PUT", "/jobs/")])
def test_a_slash_too_many_is_told_and_not_redirected(client: TestClient, method: str, path: str) -> None:
    assert_problem(client.request(method, path, follow_redirects=False), 404, "not_found")


def test_wrong_method_names_the_right_one(client: TestClient) -> None:
    response = client.get("/generate")
    assert_problem(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "POST"


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded", "image/png"])
def test_other_content_types_are_refused(client: TestClient, content_type: str | None) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    assert_problem(client.post("/generate", content=b"{}", headers=headers), 415, "unsupported_media_type")


@pytest.mark.parametrize("charset", ["utf-16", '"ISO-8859-1"'])
def test_json_in_another_encoding_is_named(client: TestClient, charset: str) -> None:
    headers = {"content-type": f"application/json; charset={charset}"}
    problem = assert_problem(client.post("/generate", content=b"{}", headers=headers), 415, "unsupported_media_type")
    assert charset.strip('"').lower() in problem["detail"]


def test_a_packed_body_is_named(client: TestClient) -> None:
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    response = client.post("/generate", content=gzip.compress(b"{}"), headers=headers)
    assert "Content-Encoding" in assert_problem(response, 415, "unsupported_media_type")["detail"]
    assert response.headers["accept-encoding"] == "identity"


def test_a_charset_does_no_harm(client: TestClient) -> None:
    headers = {"content-type": "Application/JSON; charset=utf-8"}
    assert_problem(client.post("/generate", content=b"{", headers=headers), 400, "malformed_json")
    # The one reader takes less depth than the other.
    for depth in (250, 5000):
        deep = b'{"prompt": ' + b"[" * depth + b"]" * depth + b"}"
        assert_problem(client.post("/generate", content=deep, headers=headers), 400, "malformed_json")


@pytest.fixture
def small_client(settings: Settings) -> Iterator[TestClient]:
    """An API that takes bodies of at most 1000 bytes."""
    with TestClient(create_app(settings.model_copy(update={"max_body_bytes": 1000}))) as client:
        yield client


def test_body_over_the_limit(small_client: TestClient) -> None:
    headers = {"content-type": "application/json"}
    assert_problem(small_client.post("/generate", content=b" " * 1001, headers=headers), 413, "body_too_large")


def test_body_over_the_limit_without_a_length(small_client: TestClient) -> None:
    headers = {"content-type": "application/json"}
    chunks = (b" " * 100 for _ in range(11))
    assert_problem(small_client.post("/generate", content=chunks, headers=headers), 413, "body_too_large")


def test_body_at_the_limit_is_read(small_client: TestClient) -> None:
    headers = {"content-type": "application/json"}
    assert_problem(small_client.post("/generate", content=b" " * 1000, headers=headers), 400, "malformed_json")


def test_problem_types_can_be_looked_up(client: TestClient) -> None:
    for kind in (*PROBLEMS.values(), *HTTP_PROBLEMS):
        answer = client.get(f"/problems/{kind.code}").json()
        assert answer == {"code": kind.code, "status": kind.status, "title": kind.title}
    assert_problem(client.get("/problems/nonsense"), 404, "not_found")


@pytest.mark.parametrize("given", ["abc", "0f3c.1_2-Z", "x" * 128])
def test_sane_request_ids_are_echoed(client: TestClient, given: str) -> None:
    assert client.get("/livez", headers={"X-Request-Id": given}).headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "two words", "x" * 129, "<script>", "a;b"])
def test_other_request_ids_are_replaced(client: TestClient, given: str) -> None:
    made = client.get("/livez", headers={"X-Request-Id": given}).headers["x-request-id"]
    assert re.fullmatch("[0-9a-f]{32}", made)


def test_ids_differ_from_request_to_request(client: TestClient) -> None:
    assert len({client.get("/livez").headers["x-request-id"] for _ in range(3)}) == 3


PREFLIGHT = {"Origin": "https://play.example", "Access-Control-Request-Method": "POST"}


def test_no_other_origin_is_let_in_by_default(client: TestClient) -> None:
    assert "access-control-allow-origin" not in client.get("/livez", headers=PREFLIGHT).headers


def test_origins_of_the_setting_are_let_in(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"cors_origins": ("https://play.example",)}))
    with TestClient(app) as client:
        allowed = client.options("/generate", headers=PREFLIGHT)
        other = client.options("/generate", headers=PREFLIGHT | {"Origin": "https://other.example"})
        failed = client.get("/nothing", headers=PREFLIGHT)
    assert allowed.headers["access-control-allow-origin"] == "https://play.example"
    assert "access-control-allow-origin" not in other.headers
    assert failed.headers["access-control-allow-origin"] == "https://play.example"
    assert "x-request-id" in allowed.headers


@pytest.fixture
def from_the_web(settings: Settings) -> Iterator[TestClient]:
    """A client as a script of an allowed origin."""
    app = create_app(settings.model_copy(update={"cors_origins": ("https://play.example",)}))
    with TestClient(app, headers={"Origin": "https://play.example"}) as client:
        yield client


@pytest.mark.parametrize(
    ("method", "header"),
    [
        ("PUT", "Prefer"),
        ("DELETE", "X-Request-Id"),
        ("POST", "Idempotency-Key"),
        ("POST", "Cancel-After"),
        ("POST", "X-Start-Deadline"),
        ("GET", "If-None-Match"),
        ("GET", "Last-Event-ID"),
        ("POST", "traceparent"),
        ("POST", "sentry-trace,baggage"),
        ("GET", "authorization"),
        ("POST", "X-Requested-With"),
    ],
)
def test_scripts_of_other_origins_may_send_what_the_api_reads_and_what_their_tools_add(
    from_the_web: TestClient, method: str, header: str
) -> None:
    asked = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": f"content-type, {header}"}
    response = from_the_web.options("/jobs/unknown-but-well-formed", headers=asked)
    assert response.status_code == 200
    assert header.lower() in response.headers["access-control-allow-headers"].lower()
    assert method in response.headers["access-control-allow-methods"]


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "https://play.example.evil"])
def test_a_preflight_of_a_foreign_origin_allows_nothing(from_the_web: TestClient, origin: str) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type,traceparent"}
    response = from_the_web.options("/generate", headers=asked | {"Origin": origin})
    assert response.status_code == 400
    assert not [name for name in response.headers if name.startswith("access-control-")]


def test_scripts_of_other_origins_may_read_what_the_api_says(from_the_web: TestClient) -> None:
    exposed = from_the_web.get("/livez").headers["access-control-expose-headers"].split(", ")
    assert set(exposed) == {
        "ETag",
        "Idempotency-Replayed",
        "Location",
        "MSD-Job",
        "MSD-Warning",
        "RateLimit",
        "RateLimit-Policy",
        "Preference-Applied",
        "Retry-After",
        "X-Request-Id",
    }


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/generate", "POST"),
        ("POST", "/jobs", "GET, HEAD"),
        ("GET", "/jobs/unknown-but-well-formed/retry", "POST"),
        ("DELETE", "/jobs/unknown-but-well-formed/images/0", "GET, HEAD"),
    ],
)
def test_every_wrong_method_is_told_the_right_one(client: TestClient, method: str, path: str, allowed: str) -> None:
    response = client.request(method, path)
    assert_problem(response, 405, "method_not_allowed")
    assert response.headers["allow"] == allowed


def test_all_methods_of_a_job_are_told(client: TestClient) -> None:
    response = client.patch("/jobs/unknown-but-well-formed")
    assert_problem(response, 405, "method_not_allowed")
    assert {method.strip() for method in response.headers["allow"].split(",")} == {"GET", "HEAD", "PUT", "DELETE"}
