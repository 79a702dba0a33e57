from __future__ import annotations

import shutil
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


def put_on_path(monkeypatch: pytest.MonkeyPatch, folder: Path, version: str, runs: str = "exit 1") -> None:
    """A server that tells this version, and does ``runs`` when it is started."""
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "redis-server"
    script.write_text(
        f'#!/bin/sh\nif [ "$1" = --version ]; then echo "Redis server v={version} sha=0 malloc=libc"; else {runs}; fi\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def test_a_server_on_the_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_on_path(monkeypatch, tmp_path, "8.0.2")
    assert find_redis_binary() == tmp_path / "redis-server"


@pytest.mark.skipif(
    shutil.which("redis-server") is not None or shutil.which("valkey-server") is not None,
    reason="a server on the PATH comes first",
)
def test_without_one_on_the_path_the_packaged_server_is_taken(tmp_path: Path) -> None:
    with running(tmp_path) as client:
        assert client.info("server")["server_name"] == "valkey"
    assert (tmp_path / "redis" / redis_server.WRITER_FILE).read_text().startswith("valkey-server 9")


def test_an_older_server_does_not_start_without_the_jobs_of_a_newer_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(tmp_path) as client:
        client.set("key", "value")
    written = (tmp_path / "redis" / redis_server.WRITER_FILE).read_text().strip()
    put_on_path(monkeypatch, tmp_path / "bin", "6.2.14")
    with pytest.raises(StartupError, match=rf"redis-server 6.2 cannot read .*{written} wrote the data last.*--data"):
        RedisServer(tmp_path).start()


def test_a_server_that_ends_over_anothers_data_says_whose_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(tmp_path):
        pass
    put_on_path(monkeypatch, tmp_path / "bin", "7.99")
    with pytest.raises(StartupError, match=r"ended with code 1 .* wrote the data last.*--data"):
        RedisServer(tmp_path).start()


def test_an_old_redis_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_on_path(monkeypatch, tmp_path, "6.0.16")
    monkeypatch.setattr(redis_server, "_packaged_binary", lambda: None)
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
