"""A Redis for a few tests alone, for all that use it find it in the state that they bring about."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from worker.redis_server import RedisServer


@contextmanager
def running_redis(folder: Path) -> Generator[str]:
    """Its address, while the block runs."""
    server = RedisServer(folder, log_file=folder / "redis.log")
    server.start()
    try:
        yield server.url
    finally:
        server.stop()
