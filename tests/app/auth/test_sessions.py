"""A browser's session stands for a key, cannot be read by scripts, and ends with its key. Over real HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from http.cookies import SimpleCookie

import httpx2
import pytest
import uvicorn
from fastapi import FastAPI
from redis import Redis

from app.config import Settings
from app.main import create_app
from ms_jobs import keys
from ms_jobs.api_keys import ApiKeyStore, Scope, digest_of
from tests.support.job_helpers import wait_until
from tests.support.sample_requests import good_request

KeyOf = Callable[..., dict[str, str]]


def serve(app: FastAPI) -> Iterator[httpx2.Client]:
    config = uvicorn.Config(app, port=0, log_level="warning", timeout_graceful_shutdown=1, proxy_headers=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started, "the API")
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def browser(guarded: FastAPI) -> Iterator[httpx2.Client]:
    """Keeps cookies."""
    yield from serve(guarded)


@pytest.fixture
def behind_proxy(settings: Settings) -> Iterator[httpx2.Client]:
    yield from serve(create_app(settings.model_copy(update={"auth": "on", "trusted_proxies": ("127.0.0.1",)})))


def cookie_of(answer: httpx2.Response) -> dict[str, object]:
    morsel = SimpleCookie(answer.headers["set-cookie"])["msd_session"]
    return {"value": morsel.value, **{name: value for name, value in morsel.items() if value}}


def moment(session: dict[str, str]) -> float:
    return datetime.fromisoformat(session["expires_at"]).timestamp()


def test_a_session_from_its_beginning_to_its_end(browser: httpx2.Client, key_of: KeyOf, owner: str) -> None:
    opened = browser.post("/session", headers=key_of(owner, Scope.READ))
    assert (opened.status_code, opened.json()["owner"], opened.json()["scopes"]) == (200, owner, ["read"])
    cookie = cookie_of(opened)
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "strict", "/")
    assert "secure" not in cookie
    assert int(str(cookie["max-age"])) == 12 * 3600
    assert browser.get("/jobs").status_code == 200
    session = browser.get("/session").json()
    assert session["owner"] == owner
    # Its own end, not its key's, which has none.
    assert abs(moment(session) - moment(opened.json())) < 2
    # It has no more scopes than its key.
    assert browser.post("/generate", json={}).status_code == 403
    ended = browser.delete("/session")
    assert (ended.status_code, cookie_of(ended)["max-age"]) == (204, "0")
    old = {"Cookie": f"msd_session={cookie['value']}"}
    assert browser.get("/jobs", headers=old).status_code == 401
    assert browser.delete("/session").status_code == 204


def test_a_session_dies_with_its_key(browser: httpx2.Client, api_keys: ApiKeyStore, key_of: KeyOf, owner: str) -> None:
    browser.post("/session", headers=key_of(owner, name=owner))
    assert browser.get("/jobs").status_code == 200
    api_keys.revoke(owner)
    wait_until(lambda: browser.get("/jobs").status_code == 401, "the end of the session", patience_s=1.0)


def test_a_session_is_no_longer_than_its_key(
    browser: httpx2.Client, redis_client: Redis, key_of: KeyOf, owner: str
) -> None:
    opened = browser.post("/session", headers=key_of(owner, lifetime_s=90))
    cookie = cookie_of(opened)
    assert int(str(cookie["max-age"])) <= 90
    assert 0 < redis_client.ttl(keys.session(digest_of(str(cookie["value"])))) <= 90
    assert str(cookie["value"]).encode() not in b"".join(redis_client.scan_iter(keys.session("*")))


def test_only_a_key_opens_a_session(browser: httpx2.Client, key_of: KeyOf, owner: str) -> None:
    assert browser.post("/session").status_code == 401
    browser.post("/session", headers=key_of(owner))
    assert browser.post("/session").status_code == 401
    assert browser.post("/session", headers={"Authorization": "Bearer msd_wrong"}).status_code == 401


def test_a_cookie_counts_on_pages_of_this_origin_alone(browser: httpx2.Client, key_of: KeyOf, owner: str) -> None:
    headers = key_of(owner)
    browser.post("/session", headers=headers)
    own, foreign = {"Origin": str(browser.base_url).rstrip("/")}, {"Origin": "http://127.0.0.1:1"}
    assert browser.get("/jobs", headers=own).status_code == 200
    assert browser.get("/jobs", headers=foreign).status_code == 401
    assert browser.get("/jobs", headers={"Origin": "null"}).status_code == 401
    assert browser.get("/jobs", headers=foreign | headers).status_code == 200
    assert browser.delete("/session", headers=foreign).status_code == 403
    assert browser.post("/generate", json=good_request(), headers=foreign).status_code == 403
    assert browser.post("/session", headers=foreign | headers).status_code == 403


def test_a_cookie_does_not_count_where_another_page_shows_what_is_here(
    browser: httpx2.Client, key_of: KeyOf, owner: str
) -> None:
    """Another port of this machine is the same site: browsers send the cookie along with its pictures and links."""
    headers = key_of(owner)
    browser.post("/session", headers=headers)
    for site, status in (("same-origin", 200), ("none", 200), ("same-site", 401), ("cross-site", 401)):
        shown = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
        assert browser.get("/jobs", headers=shown).status_code == status, site
        assert browser.get("/jobs", headers=shown | headers).status_code == 200


def test_a_token_that_somebody_else_chose_becomes_no_session(browser: httpx2.Client, key_of: KeyOf, owner: str) -> None:
    chosen = {"Cookie": f"msd_session={'a' * 43}"}
    opened = browser.post("/session", headers=key_of(owner) | chosen)
    assert cookie_of(opened)["value"] != "a" * 43
    browser.cookies.clear()
    assert browser.get("/jobs", headers=chosen).status_code == 401


def test_behind_tls_the_cookie_is_secure_if_a_named_proxy_says_so(
    browser: httpx2.Client, behind_proxy: httpx2.Client, key_of: KeyOf, owner: str
) -> None:
    headers = key_of(owner) | {"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.9"}
    assert cookie_of(behind_proxy.post("/session", headers=headers))["secure"] is True
    # It listens to no other.
    assert "secure" not in cookie_of(browser.post("/session", headers=headers))


def test_tries_are_counted_for_the_client_that_a_named_proxy_names(
    browser: httpx2.Client, behind_proxy: httpx2.Client, redis_client: Redis
) -> None:
    for address in ("192.0.2.9", "127.0.0.1"):
        redis_client.delete(keys.guesses(address))
    for client in (browser, behind_proxy):
        client.get("/jobs", headers={"X-API-Key": "msd_wrong", "X-Forwarded-For": "192.0.2.9"})
    counts = [redis_client.get(keys.guesses(address)) for address in ("192.0.2.9", "127.0.0.1")]
    assert counts == [b"1", b"1"]
    redis_client.delete(keys.guesses("192.0.2.9"), keys.guesses("127.0.0.1"))


def test_with_a_public_address_cookie_and_origin_follow_it(settings: Settings, key_of: KeyOf, owner: str) -> None:
    own = settings.model_copy(update={"auth": "on", "public_url": "https://pictures.example/msd"})
    for client in serve(create_app(own)):
        headers = key_of(owner) | {"Host": "pictures.example", "Origin": "https://pictures.example"}
        cookie = cookie_of(client.post("/session", headers=headers))
        assert (cookie["secure"], cookie["path"]) == (True, "/msd")
        # Also if the proxy writes its own name for this machine.
        page = {"Cookie": f"msd_session={cookie['value']}", "Origin": "https://pictures.example"}
        assert client.get("/jobs", headers=page).status_code == 200
        assert client.delete("/session", headers=page).status_code == 204
        assert client.get("/jobs", headers=page).status_code == 401
