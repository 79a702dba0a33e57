"""Nobody comes in without a key that works, and with it does no more than its scopes say."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.testclient import TestClient

from app.auth.guesses import MOST_FAILURES, Guesses, Sent, address_of
from app.config import Settings
from app.main import create_app
from app.service.errors import HTTPProblem
from ms_jobs import keys
from ms_jobs.api_keys import ApiKeyStore, Scope, digest_of
from tests.support.job_helpers import wait_until
from tests.support.sample_requests import good_request

OPEN = {"/", "/livez", "/readyz", "/docs", "/docs/{name}", "/app/{name}", "/openapi.json"}

KeyOf = Callable[..., dict[str, str]]


def routes(app: FastAPI) -> list[tuple[str, str]]:
    """Every method and path there is, with something in place of each parameter."""
    found = [(method, route) for route in app.routes for method in getattr(route, "methods", ())]
    return [(method, getattr(route, "path", "")) for method, route in found]


def test_every_route_but_the_open_ones_asks_for_a_key(guarded: FastAPI, client: TestClient) -> None:
    assert any(isinstance(route, APIRoute) for route in guarded.routes)
    asked = {
        (method, path): client.request(method, path.replace("{", "").replace("}", ""))
        for method, path in routes(guarded)
    }
    let_in = {path for (method, path), answer in asked.items() if answer.status_code != 401}
    assert let_in == OPEN | {"/session"}
    assert {method for (method, path), answer in asked.items() if path == "/session" and answer.status_code != 401} == {
        "DELETE"
    }


@pytest.mark.parametrize(
    "path", ["/no-such-path", "/app/x/../../jobs", "/docs/../jobs", "/livez/", "/app/%2e%2e%2fjobs/x"]
)
def test_a_path_that_is_none_says_nothing_either(client: TestClient, path: str) -> None:
    assert client.get(path).status_code in (401, 404)
    assert client.get(path).json()["code"] in ("unauthenticated", "not_found")
    assert client.get("/no-such-path").status_code == 401


def test_what_is_missing_is_a_problem_that_says_what_to_send(client: TestClient) -> None:
    answer = client.get("/jobs")
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "unauthenticated"
    assert "X-API-Key" in answer.json()["detail"]


def test_below_v1_it_has_the_form_of_openai(client: TestClient) -> None:
    answer = client.get("/v1/models", headers={"Authorization": "Bearer msd_wrong"})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert (answer.json()["error"]["type"], answer.json()["error"]["code"]) == (
        "authentication_error",
        "invalid_api_key",
    )


def test_a_key_is_taken_from_either_header(client: TestClient, key_of: KeyOf, owner: str) -> None:
    bearer = key_of(owner)
    text = bearer["Authorization"].removeprefix("Bearer ")
    for headers in (bearer, {"X-API-Key": text}, {"Authorization": f"bearer {text}"}):
        assert client.get("/jobs", headers=headers).status_code == 200
    # A proxy's own login does not hide the key.
    assert client.get("/jobs", headers={"Authorization": "Basic eDp5", "X-API-Key": text}).status_code == 200


def test_wrong_revoked_and_expired_keys_are_told_the_same(
    client: TestClient, api_keys: ApiKeyStore, key_of: KeyOf, redis_client: redis.Redis, owner: str
) -> None:
    revoked, expired = key_of(owner, name=owner), key_of(owner, lifetime_s=0.001)
    api_keys.revoke(owner)
    time.sleep(0.01)
    wrong = {"Authorization": "Bearer msd_wrong"}
    assert redis_client.exists(keys.api_key(digest_of(revoked["Authorization"].removeprefix("Bearer ")))) == 1
    answers = [client.get("/jobs", headers=headers) for headers in (wrong, revoked, expired)]
    problems = [answer.json() | {"request_id": ""} for answer in answers]
    assert [answer.status_code for answer in answers] == [401, 401, 401]
    assert problems[0] == problems[1] == problems[2]
    names = [set(answer.headers) for answer in answers]
    assert names[0] == names[1] == names[2]


def test_a_revoked_key_stops_within_a_second(
    client: TestClient, api_keys: ApiKeyStore, key_of: KeyOf, owner: str
) -> None:
    headers = key_of(owner, name=owner)
    assert client.get("/jobs", headers=headers).status_code == 200
    api_keys.revoke(owner)
    wait_until(lambda: client.get("/jobs", headers=headers).status_code == 401, "the end of the key", patience_s=1.0)


def test_a_key_that_expires_stops_although_it_was_just_looked_up(client: TestClient, key_of: KeyOf, owner: str) -> None:
    headers = key_of(owner, lifetime_s=0.3)
    assert client.get("/jobs", headers=headers).status_code == 200
    wait_until(lambda: client.get("/jobs", headers=headers).status_code == 401, "its end", patience_s=0.4)


SENT = [
    ("GET", "/jobs", Scope.READ),
    ("GET", "/jobs/0123456789abcdef/events", Scope.READ),
    ("GET", "/metrics", Scope.READ),
    ("GET", "/v1/models", Scope.READ),
    ("POST", "/generate", Scope.GENERATE),
    ("PUT", "/jobs/0123456789abcdef", Scope.GENERATE),
    ("POST", "/assets", Scope.GENERATE),
    ("PUT", "/cast/rex", Scope.GENERATE),
    ("POST", "/jobs/0123456789abcdef/cancel", Scope.GENERATE),
    ("POST", "/jobs/0123456789abcdef/retry", Scope.GENERATE),
    ("DELETE", "/jobs/0123456789abcdef", Scope.GENERATE),
    ("DELETE", "/assets/0123456789abcdef", Scope.GENERATE),
    ("DELETE", "/cast/rex", Scope.GENERATE),
    ("POST", "/v1/images/edits", Scope.GENERATE),
]


@pytest.mark.parametrize(("method", "path", "needed"), SENT)
def test_a_request_needs_its_scope(
    client: TestClient, key_of: KeyOf, owner: str, method: str, path: str, needed: Scope
) -> None:
    for scope in Scope:
        answer = client.request(method, path, headers=key_of(owner, scope))
        assert (answer.status_code == 403) == (scope not in (needed, Scope.ADMIN)), scope
    refused = client.request(method, path, headers=key_of(owner, next(scope for scope in Scope if scope != needed)))
    assert refused.headers["www-authenticate"] == f'Bearer error="insufficient_scope", scope="{needed}"'


def test_preflights_of_pages_that_may_call_need_no_key(settings: Settings) -> None:
    own = settings.model_copy(update={"auth": "on", "cors_origins": ("http://page.example",)})
    with TestClient(create_app(own)) as client:
        headers = {"Origin": "http://page.example", "Access-Control-Request-Method": "POST"}
        assert client.options("/generate", headers=headers).status_code == 200
        answer = client.get("/jobs", headers={"Origin": "http://page.example"})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (401, "http://page.example")


def test_who_guesses_is_refused_before_any_look_up(
    client: TestClient, key_of: KeyOf, redis_client: redis.Redis, owner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(MOST_FAILURES):
        assert client.get("/jobs", headers={"X-API-Key": f"msd_{number}"}).status_code == 401
    asked: list[object] = []
    monkeypatch.setattr(ApiKeyStore, "find", lambda *arguments: asked.append(arguments))
    for headers in ({"X-API-Key": "msd_21"}, key_of(owner)):
        answer = client.get("/jobs", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (429, "too_many_failures")
        assert 0 < int(answer.headers["retry-after"]) <= 60
    assert asked == []
    assert 0 < redis_client.ttl(keys.guesses("testclient")) <= 60


def test_requests_without_any_key_are_no_guesses(client: TestClient, key_of: KeyOf, owner: str) -> None:
    for _ in range(MOST_FAILURES + 5):
        assert client.get("/jobs").status_code == 401
        assert client.get("/jobs", headers={"Cookie": "msd_session=ended"}).status_code == 401
    assert client.get("/jobs", headers=key_of(owner)).status_code == 200


def test_tries_are_counted_by_address_and_those_of_ipv6_by_network() -> None:
    assert address_of("192.0.2.1") == address_of("::ffff:192.0.2.1") != address_of("192.0.2.2")
    assert address_of("2001:db8::1") == address_of("2001:db8::2:3") != address_of("2001:db8:0:1::1")


def test_without_redis_nobody_comes_in(settings: Settings) -> None:
    away = settings.model_copy(update={"auth": "on", "redis_url": "redis://127.0.0.1:1/0"})
    with TestClient(create_app(away)) as client:
        answer = client.get("/jobs", headers={"X-API-Key": "msd_any"})
        assert (answer.status_code, answer.json()["code"]) == (503, "queue_unavailable")
        assert client.get("/livez").status_code == 200


def test_with_keys_off_any_key_will_do(settings: Settings) -> None:
    with TestClient(create_app(settings)) as client:
        for headers in ({}, {"Authorization": "Bearer unused"}):
            assert client.get("/jobs", headers=headers).status_code == 200
        assert client.post("/generate", json=good_request()).json()["owner"] == "local"


@pytest.mark.parametrize("path", ["/", "/livez", "/docs", "/openapi.json", "/jobs", "/no-such-path"])
def test_every_answer_tells_browsers_what_not_to_do_with_it(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "'unsafe-inline'" not in headers["content-security-policy"].partition("script-src")[2].partition(";")[0]


def test_wrong_keys_that_come_at_once_are_no_more_tries(client: TestClient, key_of: KeyOf, owner: str) -> None:
    """Nor does a right one that comes behind them get in."""
    right = key_of(owner)
    with ThreadPoolExecutor(80) as pool:
        wrong = [pool.submit(client.get, "/jobs", headers={"X-API-Key": f"msd_{number}"}) for number in range(80)]
        statuses = Counter(answer.result().status_code for answer in wrong)
    assert statuses == {401: MOST_FAILURES, 429: 80 - MOST_FAILURES}
    assert client.get("/jobs", headers=right).status_code == 429


def test_tries_are_counted_before_anybody_is_told_whatever_process_they_reach(redis_client: redis.Redis) -> None:
    address = f"192.0.2.{secrets.randbelow(200)}"
    redis_client.delete(keys.guesses(address))
    one, other = Guesses(redis_client), Guesses(redis_client)
    wrong, right = Sent(address, works=False), Sent(address, works=True)
    elsewhere = [Sent("192.0.2.250", works=True), Sent(None, works=False)]
    assert one.judge([right, *[wrong] * 15, *elsewhere]) == [None] * 18
    errors = other.judge([*[wrong] * 5, right, wrong, *elsewhere])
    assert [error is None for error in errors] == [True] * 5 + [False] * 2 + [True] * 2
    # The first has not heard of it, and asks.
    one.require_tries(address)
    assert one.judge([right]) != [None]
    with pytest.raises(HTTPProblem):
        one.require_tries(address)
    assert 0 < redis_client.ttl(keys.guesses(address)) <= 60


def test_streams_whose_key_is_revoked_end_and_are_no_guesses(
    client: TestClient, redis_client: redis.Redis, api_keys: ApiKeyStore, key_of: KeyOf, owner: str
) -> None:
    headers = key_of(owner, name=owner)
    job_id = client.post("/generate", json=good_request(), headers=headers).json()["id"]
    with ThreadPoolExecutor(5) as pool:
        streams = [pool.submit(client.get, f"/jobs/{job_id}/events", headers=headers) for _ in range(5)]
        time.sleep(0.5)
        api_keys.revoke(owner)
        assert [stream.result().status_code for stream in streams] == [200] * 5
    assert redis_client.get(keys.guesses("testclient")) is None
