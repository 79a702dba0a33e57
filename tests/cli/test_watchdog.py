"""A child that is frozen is found, one that answers or has just started is not."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli import watchdog
from cli.watchdog import Watchdog, api_answers, redis_answers
from tests.support.job_helpers import wait_until
from worker.process import Command, ManagedProcess, free_port
from worker.redis_server import RedisServer


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(watchdog, "ANSWER_TIMEOUT_S", 1.0)
    monkeypatch.setattr(watchdog, "MOST_UNANSWERED", 3)


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def child(port: int, tmp_path: Path) -> Iterator[ManagedProcess]:
    argv = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "--directory", str(tmp_path), str(port)]
    process = ManagedProcess(lambda: Command("child", argv, log_file=tmp_path / "log"))
    process.tick()
    wait_until(lambda: api_answers("127.0.0.1", port), "the child", 30)
    yield process
    process.kill()
    process.stop(1)


def test_a_frozen_child_is_found_and_its_successor_is_not(child: ManagedProcess, port: int) -> None:
    dog = Watchdog(child, lambda: api_answers("127.0.0.1", port))
    wait_until(lambda: dog._has_answered, "an answer", 20)
    assert not dog.finds_frozen()
    assert child.pid is not None
    os.kill(child.pid, signal.SIGSTOP)
    wait_until(dog.finds_frozen, "the watchdog", 20)
    # Once: it may take long to end.
    assert not dog.finds_frozen()
    child.kill()
    wait_until(lambda: child.tick() is not None, "the end of the child", 10)
    assert not dog.finds_frozen()
    wait_until(lambda: child.tick() is None and api_answers("127.0.0.1", port), "its successor", 30)
    time.sleep(0.5)
    assert not dog.finds_frozen()
    dog.stop()


def test_a_frozen_redis_is_started_again_with_its_data(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, log_file=tmp_path / "redis.log")
    server.start()
    try:
        first = server.process.pid
        assert first is not None
        assert redis_answers(server.url)
        dog = Watchdog(server.process, lambda: redis_answers(server.url))
        wait_until(lambda: dog._has_answered, "an answer", 20)
        server.watched_by(dog.finds_frozen)
        os.kill(first, signal.SIGSTOP)

        def is_back() -> bool:
            server.tick()
            return server.process.pid not in (None, first) and redis_answers(server.url)

        wait_until(is_back, "another Redis", 30)
        dog.stop()
    finally:
        server.stop()
