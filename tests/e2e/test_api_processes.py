"""Several API processes behind one port answer as one."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx2
import psutil
import pytest

from tests.support.job_helpers import wait_until
from tests.support.paths import PYTHON_PATH
from tests.support.sample_requests import good_request
from tests.support.service_processes import environment, free_port, msd, run_msd
from worker.process import Command, start_process

REQUESTS = 40


class Api:
    """``msd api --workers 2``."""

    def __init__(self, redis_url: str, folder: Path, **settings: str) -> None:
        self.log = folder / "api.log"
        port = free_port()
        made = run_msd("keys", "create", f"test-{port}", "--data", folder, MSD_REDIS_URL=redis_url)
        (key,) = re.findall(r"msd_[\w-]{40,}", made.stdout)
        self.headers = {"X-API-Key": key}
        argv = msd(
            "api",
            "--allow-remote",
            "--workers",
            2,
            "--port",
            port,
            "--data",
            folder / "data",
            "--model",
            f"processes-{port}",
        )
        own = {"MSD_REDIS_URL": redis_url, "MSD_MAX_SUBMITS_PER_MINUTE": str(REQUESTS)}
        self.process = start_process(Command("api", argv, environment(**own, **settings), self.log))
        self.url = f"http://127.0.0.1:{port}"

    def get(self, path: str) -> httpx2.Response:
        # A connection each: the kernel gives them to either process.
        return httpx2.get(f"{self.url}{path}", headers=self.headers, timeout=30, trust_env=False)

    def submit(self) -> httpx2.Response:
        return httpx2.post(
            f"{self.url}/generate", json=good_request(), headers=self.headers, timeout=30, trust_env=False
        )

    def serving(self) -> list[psutil.Process]:
        children = psutil.Process(self.process.pid).children()
        # Beside them there is the tracker of multiprocessing; who has died has no command line.
        return [child for child in children if _command_line(child).find("spawn_main") > 0]

    def is_up(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return len(self.serving()) == 2 and self.get("/livez").status_code == 200
        except httpx2.TransportError:
            return False

    def counted(self, route: str) -> int:
        found = re.findall(
            rf'^msd_http_requests_total{{.*route="{route}".*}} (\d+)', self.get("/metrics").text, re.MULTILINE
        )
        return sum(map(int, found))


def _command_line(process: psutil.Process) -> str:
    with suppress(psutil.NoSuchProcess):
        return " ".join(process.cmdline())
    return ""


@pytest.fixture(scope="module")
def api(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    api = Api(redis_url, tmp_path_factory.mktemp("processes"))
    try:
        wait_until(api.is_up, "both processes", 120)
        yield api
    finally:
        api.process.terminate()
        api.process.wait(30)


def test_one_that_starts_slowly_is_not_given_up(redis_url: str, tmp_path: Path) -> None:
    """As on a busy machine: for six seconds it can answer nobody."""
    slow = "import sys, time\nif '--multiprocessing-fork' in sys.orig_argv: time.sleep(6)\n"
    (tmp_path / "sitecustomize.py").write_text(slow)
    api = Api(redis_url, tmp_path, PYTHONPATH=f"{tmp_path}:{PYTHON_PATH}")
    try:
        wait_until(api.is_up, "both processes", 120)
        assert "died" not in api.log.read_text()
    finally:
        api.process.terminate()
        api.process.wait(30)


def test_what_they_count_is_added_up(api: Api) -> None:
    before = api.counted("/jobs")
    for _ in range(REQUESTS):
        assert api.get("/jobs").status_code == 200
    assert api.counted("/jobs") - before == REQUESTS


def test_each_of_them_asks_for_a_key(api: Api) -> None:
    statuses = {httpx2.get(f"{api.url}/jobs", trust_env=False).status_code for _ in range(REQUESTS)}
    assert statuses == {401}


def test_limits_hold_across_them(api: Api) -> None:
    statuses = [api.submit().status_code for _ in range(REQUESTS + 3)]
    assert statuses == [202] * REQUESTS + [429] * 3


def test_one_that_dies_is_replaced_and_the_other_answers_meanwhile(api: Api) -> None:
    victim = api.serving()[0]
    victim.kill()
    wait_until(lambda: victim.pid not in {child.pid for child in api.serving()}, "the death of one", 30)
    for _ in range(5):
        assert api.get("/livez").status_code == 200
    wait_until(lambda: len(api.serving()) == 2, "another one", 60)


def test_they_stop_together_while_somebody_watches(api: Api) -> None:
    job_id = api.get("/jobs").json()["jobs"][0]["id"]
    pids = [api.process.pid, *(child.pid for child in api.serving())]
    with httpx2.stream(
        "GET", f"{api.url}/jobs/{job_id}/events", headers=api.headers, timeout=60, trust_env=False
    ) as stream:
        lines = stream.iter_lines()
        next(lines)
        os.kill(api.process.pid, signal.SIGTERM)
        asked_at = time.monotonic()
        list(lines)
    # Less than the grace of those that still have a connection.
    assert time.monotonic() - asked_at < 2.5
    assert api.process.wait(10) == 0
    wait_until(lambda: not any(map(psutil.pid_exists, pids)), "the end of all", 10)
