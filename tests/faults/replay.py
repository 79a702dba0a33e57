"""Runs schedules of faults by their seeds: ``python -m tests.faults.replay SEED [--count N]``."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.simulation import Violation, simulate
from worker.redis_server import RedisServer


def main() -> int:
    """Run them until one breaks a promise; tell its story then. Returns the exit code."""
    parser = argparse.ArgumentParser(description="Run schedules of faults by their seeds.")
    parser.add_argument("seed", type=int, help="the first seed")
    parser.add_argument("--count", type=int, default=1, help="how many seeds, counting up")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="msd-faults-") as folder:
        server = RedisServer(Path(folder), log_file=Path(folder) / "redis.log")
        server.start()
        try:
            return run(range(arguments.seed, arguments.seed + arguments.count), server.url)
        finally:
            server.stop()


def run(seeds: range, redis_url: str) -> int:
    started, steps = time.monotonic(), 0
    for seed in seeds:
        try:
            steps += simulate(seed, redis_url)
        except Violation as violation:
            print(violation)
            return 1
    seconds = time.monotonic() - started
    print(f"{len(seeds)} schedules, {steps} steps, {len(seeds) / seconds:.1f} schedules a second, no violation")
    return 0


if __name__ == "__main__":
    sys.exit(main())
