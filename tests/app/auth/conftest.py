"""A service that asks for keys, and keys of several owners."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator

import pytest
import redis
from fastapi import FastAPI
from starlette.testclient import TestClient

from app.config import Settings
from app.main import create_app
from ms_jobs import keys
from ms_jobs.api_keys import ApiKeyStore, Scope

Headers = dict[str, str]


@pytest.fixture
def api_keys(redis_client: redis.Redis) -> ApiKeyStore:
    return ApiKeyStore(redis_client)


@pytest.fixture
def key_of(api_keys: ApiKeyStore) -> Callable[..., Headers]:
    """Makes a key of an owner, as the header that sends it; without scopes named it reads and generates."""

    def make(owner: str, *scopes: Scope, name: str | None = None, lifetime_s: float | None = None) -> Headers:
        name = name or f"{owner}-{secrets.token_hex(4)}"
        text, _ = api_keys.create(name, owner, scopes or (Scope.READ, Scope.GENERATE), lifetime_s)
        return {"Authorization": f"Bearer {text}"}

    return make


@pytest.fixture
def owner() -> str:
    """One that this test alone has."""
    return f"ann-{secrets.token_hex(4)}"


@pytest.fixture
def other() -> str:
    return f"bob-{secrets.token_hex(4)}"


@pytest.fixture
def guarded(settings: Settings) -> FastAPI:
    return create_app(settings.model_copy(update={"auth": "on"}))


@pytest.fixture
def client(guarded: FastAPI, redis_client: redis.Redis) -> Iterator[TestClient]:
    # Tests come from one address.
    redis_client.delete(keys.guesses("testclient"))
    with TestClient(guarded, raise_server_exceptions=False) as client:
        yield client
