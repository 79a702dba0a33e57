"""How many requests a second, and per CPU second of the API, one and two processes behind a port answer.

    python benchmarks/api_processes.py --seconds 10

Clients, Redis and the API share the machine's cores. Prints JSON; the figures that count are the ratios.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import psutil

ROOT = Path(__file__).resolve().parents[1]
CLIENTS = 8
ROUNDS = 3


@contextmanager
def served(redis_url: str, folder: Path, processes: int) -> Iterator[tuple[str, psutil.Process]]:
    from tests.support.job_helpers import wait_until
    from tests.support.service_processes import environment, free_port, msd
    from worker.process import Command, start_process

    port = free_port()
    argv = msd("api", "--workers", processes, "--port", port, "--data", folder / "data", "--model", "measured")
    process = start_process(Command("api", argv, environment(MSD_REDIS_URL=redis_url), folder / "api.log"))
    url = f"http://127.0.0.1:{port}"

    def is_up() -> bool:
        try:
            return httpx2.get(f"{url}/livez", trust_env=False).status_code == 200
        except httpx2.TransportError:
            return False

    try:
        wait_until(is_up, "the API", 120)
        time.sleep(3)
        yield url, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)


def cpu_s(process: psutil.Process) -> float:
    tree = (process, *process.children(recursive=True))
    return sum(sum(one.cpu_times()[:2]) for one in tree)


def ask(url: str, until: float, answered: list[int]) -> None:
    count = 0
    with httpx2.Client(base_url=url, trust_env=False, timeout=30) as client:
        while time.monotonic() < until:
            client.get("/jobs").raise_for_status()
            count += 1
    answered.append(count)


def measure(url: str, process: psutil.Process, seconds: float) -> tuple[float, float]:
    """Requests a second, and per CPU second of the API."""
    answered: list[int] = []
    used, began = cpu_s(process), time.monotonic()
    threads = [threading.Thread(target=ask, args=(url, began + seconds, answered)) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took, used = time.monotonic() - began, cpu_s(process) - used
    return sum(answered) / took, sum(answered) / used


def main(seconds: float) -> dict[str, Any]:
    sys.path.insert(0, str(ROOT))
    from tests.support.own_redis import running_redis

    with tempfile.TemporaryDirectory() as folder, running_redis(Path(folder)) as redis_url:
        found: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
        for _ in range(ROUNDS):
            for count, figures in found.items():
                with served(redis_url, Path(folder), count) as (url, process):
                    figures.append(measure(url, process, seconds))
    per_second, per_cpu = (
        {count: statistics.median(figure[kind] for figure in figures) for count, figures in found.items()}
        for kind in (0, 1)
    )
    return {
        "requests_per_second": per_second,
        "requests_per_cpu_second_of_the_api": per_cpu,
        "ratio_per_second": per_second[2] / per_second[1],
        "ratio_per_cpu_second": per_cpu[2] / per_cpu[1],
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10)
    print(json.dumps(main(parser.parse_args().seconds), indent=1))
