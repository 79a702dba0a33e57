"""``msd up`` as a real process: what it says, what it refuses, and what it leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.job_helpers import wait_until
from tests.support.sample_requests import good_request
from tests.support.service_processes import free_port, processes_of, run_msd, running_msd
from worker.redis_server import find_redis_binary

pytestmark = pytest.mark.slow

# Workers that sleep instead of computing start in a moment.
SLEEPING = {"MSD_RUNTIME": "benchmarks.sleeping_runtime:SleepingRuntime", "MSD_BENCH_STEP_S": "0.2"}


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def up(golden_model_directory: Path, tmp_path: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    arguments = ("up", "--model", golden_model_directory, "--data", tmp_path / "data", "--port", port)
    with running_msd(*arguments, MSD_DEVICE="cpu") as process:
        yield process


def read_lines(process: subprocess.Popen[str], count: int) -> list[str]:
    assert process.stdout is not None
    return [process.stdout.readline() for _ in range(count)]


def readiness(port: int) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return json.load(answer)["status"]
    except urllib.error.HTTPError as answer:
        return json.load(answer)["status"]


def submit(port: int, steps: int) -> str:
    """Ask for a picture; returns the job's path."""
    body = json.dumps(good_request(width=256, height=256, num_inference_steps=steps)).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/generate", body, headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)["urls"]["self"]


def look(port: int, job: str) -> dict[str, Any]:
    """The job as it stands, or at least the status of the answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{job}", timeout=10) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        return {"status": error.code}


def test_it_says_where_it_listens_and_stops_without_a_trace(
    up: subprocess.Popen[str], tmp_path: Path, port: int
) -> None:
    lines = read_lines(up, 5)
    # A terminal makes it a link.
    assert f" http://127.0.0.1:{port}/ " in lines[0]
    assert "golden" in lines[0]
    assert "/docs" in lines[1]
    assert f"msd generate --url http://127.0.0.1:{port} " in lines[2]
    assert str(tmp_path / "data") in lines[3]
    assert "Ctrl-C" in lines[4]
    wait_until(lambda: readiness(port) == "ready", "a loaded model")
    assert len(processes_of(tmp_path)) == 4
    up.send_signal(signal.SIGTERM)
    assert up.wait(timeout=20) == 0
    assert up.stdout is not None
    assert up.stdout.read() == ""
    assert processes_of(tmp_path) == {}


def test_it_says_that_keys_are_needed(golden_model_directory: Path, tmp_path: Path, port: int) -> None:
    arguments = ("up", "--model", golden_model_directory, "--data", tmp_path / "data", "--port", port)
    with running_msd(*arguments, MSD_DEVICE="cpu", MSD_AUTH="on") as up:
        assert f"msd keys create NAME --data {tmp_path / 'data'}" in "".join(read_lines(up, 6))


def test_a_second_one_on_the_same_data_is_refused(golden_model_directory: Path, tmp_path: Path, port: int) -> None:
    data_dir = tmp_path / "data"
    arguments = ("up", "--model", golden_model_directory)
    with running_msd(*arguments, "--data", data_dir, "--port", port, MSD_DEVICE="cpu", **SLEEPING) as first:
        read_lines(first, 5)
        second = run_msd(*arguments, "--data", data_dir, "--port", free_port())
        third = run_msd(*arguments, "--data", tmp_path / "other", "--port", port)
        assert first.poll() is None
    assert (second.returncode, second.stdout) == (1, "")
    assert second.stderr == (
        f"msd: Another msd up uses {data_dir}. Stop it first, or choose another directory with --data.\n"
    )
    assert third.returncode == 1
    assert third.stderr.startswith(f"msd: Port {port} on 127.0.0.1 cannot be used (Address already in use).")


def test_its_redis_is_started_again_when_it_dies(golden_model_directory: Path, tmp_path: Path, port: int) -> None:
    """A job that runs meanwhile keeps its picture, and the next one runs as if nothing had been."""
    arguments = ("up", "--model", golden_model_directory, "--data", tmp_path / "data", "--port", port)
    with running_msd(*arguments, MSD_DEVICE="cpu", **SLEEPING) as process:
        read_lines(process, 5)
        wait_until(lambda: readiness(port) == "ready", "a loaded model")
        job = submit(port, steps=20)
        wait_until(lambda: look(port, job)["status"] == "running", "the start of the job")
        redis = [pid for pid, command in processes_of(tmp_path).items() if find_redis_binary().name in command]
        assert len(redis) == 1
        os.kill(redis[0], signal.SIGKILL)
        wait_until(lambda: readiness(port) == "ready", "a Redis that was started again")
        wait_until(lambda: look(port, job)["status"] == "succeeded", "the end of the job")
        assert look(port, job)["attempt"] == 1
        after = submit(port, steps=1)
        wait_until(lambda: look(port, after)["status"] == "succeeded", "the end of the next job")


def test_nothing_outlives_it_when_it_is_killed(up: subprocess.Popen[str], tmp_path: Path) -> None:
    read_lines(up, 5)
    up.send_signal(signal.SIGKILL)
    up.wait(timeout=20)
    wait_until(lambda: processes_of(tmp_path) == {}, "the end of every child", patience_s=20)
