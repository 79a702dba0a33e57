"""What of a Redis may lose jobs, and what is no address of one."""

from __future__ import annotations

import pytest
from redis import Redis
from redis.exceptions import ConnectionError

from ms_core.errors import StartupError
from ms_jobs.redis_checks import redis_warnings, require_address, weaknesses


class Told(Redis):
    """A Redis that says this of itself."""

    def __init__(self, **info: object) -> None:
        super().__init__()
        self._info = info

    def info(self, *sections: str, **options: object) -> object:
        if not self._info:
            raise ConnectionError
        return self._info


@pytest.mark.parametrize(
    ("policy", "append_only", "codes"),
    [
        ("noeviction", True, []),
        ("unknown", True, []),
        ("allkeys-lru", True, ["redis_evicts"]),
        ("volatile-ttl", False, ["redis_evicts", "redis_forgets"]),
        ("noeviction", False, ["redis_forgets"]),
    ],
)
def test_what_may_lose_jobs(policy: str, append_only: bool, codes: list[str]) -> None:
    assert [weakness.code for weakness in weaknesses(policy, append_only)] == codes
    told = Told(aof_enabled=int(append_only), maxmemory_policy=policy)
    if policy != "unknown":
        assert len(redis_warnings(told)) == len(codes)


def test_a_redis_that_does_not_tell_has_no_warnings() -> None:
    assert redis_warnings(Told()) == redis_warnings(Told(redis_version="7.0")) == []


@pytest.mark.parametrize("url", ["", "foo", "http://host", "redis://:secret@host:port", "redis://host:99999999/x"])
def test_what_is_no_address_is_refused_without_being_quoted(url: str) -> None:
    with pytest.raises(StartupError, match="MSD_REDIS_URL is not the address") as caught:
        require_address(url)
    assert not url or url not in caught.value.detail


@pytest.mark.parametrize("url", ["redis://127.0.0.1:6379/0", "rediss://:secret@host:1", "unix:///run/redis.sock"])
def test_addresses_are_taken(url: str) -> None:
    require_address(url)
