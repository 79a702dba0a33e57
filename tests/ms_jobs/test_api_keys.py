"""Keys: made once, found by their SHA-256 alone, ended by their time or by hand."""

from __future__ import annotations

import re
import secrets
import time

import pytest
from redis import Redis

from ms_core.errors import StartupError
from ms_jobs import api_keys
from ms_jobs import keys as redis_keys
from ms_jobs.api_keys import ApiKeyStore, Scope, digest_of
from ms_jobs.records import OWNER_PATTERN


@pytest.fixture
def store(redis_url: str):
    with Redis.from_url(redis_url) as client:
        yield ApiKeyStore(client)


@pytest.fixture
def name() -> str:
    return f"key-{secrets.token_hex(4)}"


def test_a_key_is_found_by_its_text_which_is_stored_nowhere(store: ApiKeyStore, redis_url: str, name: str) -> None:
    text, key = store.create(name, "ann", [Scope.READ])
    assert text.startswith("msd_")
    assert len(text) == 47
    assert store.find([digest_of(text), digest_of("msd_other")]) == [key, None]
    assert (key.owner, key.scopes, key.hint) == ("ann", {Scope.READ}, text[:10])
    with Redis.from_url(redis_url) as client:
        stored = [client.get(redis_keys.api_key(key.digest)) or b"", *client.hgetall(redis_keys.api_keys()).values()]
    assert not any(text[10:].encode() in value for value in stored)


def test_no_two_keys_are_alike(store: ApiKeyStore, name: str) -> None:
    assert len({store.create(f"{name}-{number}")[0] for number in range(20)}) == 20


def test_a_revoked_key_is_kept_as_such_and_a_key_of_the_same_owner_goes_on(store: ApiKeyStore, name: str) -> None:
    text, _ = store.create(name, "ann")
    other, _ = store.create(f"{name}-2", "ann")
    assert store.revoke(name).revoked_at is not None
    assert store.revoke(name).revoked_at is not None
    first, second = store.find([digest_of(text), digest_of(other)])
    assert first is not None
    assert second is not None
    assert not first.works_at(time.time())
    assert second.works_at(time.time())
    assert {name, f"{name}-2"} <= {key.name for key in store.all()}


def test_a_key_expires(store: ApiKeyStore, name: str) -> None:
    _, key = store.create(name, lifetime_s=60)
    assert key.expires_at is not None
    assert key.works_at(key.expires_at - 0.001)
    assert not key.works_at(key.expires_at)


def test_a_name_is_used_again_only_when_its_key_works_no_longer(store: ApiKeyStore, name: str) -> None:
    text, _ = store.create(name)
    with pytest.raises(StartupError, match="There is a key named"):
        store.create(name)
    store.revoke(name)
    again, key = store.create(name)
    assert store.find([digest_of(text), digest_of(again)]) == [None, key]


@pytest.mark.parametrize(
    "owner", ["", "Ann", "ann_2", "../x", "ann/x", "a" * 65, "ann\n", "logs", "redis", "tokenizers"]
)
def test_an_owner_that_would_break_names_in_redis_or_folders_is_refused(
    store: ApiKeyStore, name: str, owner: str
) -> None:
    with pytest.raises(StartupError):
        store.create(name, owner)


def test_owners_that_are_reserved_would_fit_the_pattern_otherwise() -> None:

    assert all(re.fullmatch(OWNER_PATTERN, owner) for owner in api_keys.RESERVED_OWNERS)


@pytest.mark.parametrize("wrong", ["", "a b", "-a", "a\n", "a" * 65, "ä"])
def test_a_name_that_cannot_be_typed_is_refused(store: ApiKeyStore, wrong: str) -> None:
    with pytest.raises(StartupError):
        store.create(wrong)


def test_an_unknown_key_cannot_be_revoked(store: ApiKeyStore, name: str) -> None:
    with pytest.raises(StartupError, match="There is no key named"):
        store.revoke(name)


def test_a_record_that_is_damaged_or_anothers_opens_nothing(store: ApiKeyStore, redis_url: str, name: str) -> None:
    text, key = store.create(name)
    with Redis.from_url(redis_url) as client:
        client.set(redis_keys.api_key(digest_of("msd_other")), key.model_dump_json())
        assert store.find([digest_of("msd_other")]) == [None]
        client.set(redis_keys.api_key(key.digest), "{")
    assert store.find([digest_of(text)]) == [None]


def test_admin_is_all(store: ApiKeyStore, name: str) -> None:
    _, key = store.create(name, scopes=[Scope.ADMIN])
    assert all(map(key.allows, Scope))
    _, reader = store.create(f"{name}-2", scopes=[Scope.READ])
    assert [scope for scope in Scope if reader.allows(scope)] == [Scope.READ]
