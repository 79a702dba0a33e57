"""``msd up`` as a real process: what it says, what it refuses, and what it leaves behind."""

from __future__ import annotations

import json
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from job_helpers import wait_until
from service_processes import free_port, processes_of, run_msd, running_msd

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


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


def test_it_says_where_it_listens_and_stops_without_a_trace(
    up: subprocess.Popen[str], tmp_path: Path, port: int
) -> None:
    lines = read_lines(up, 5)
    assert f"http://127.0.0.1:{port}" in lines[0]
    assert "golden" in lines[0]
    assert "/docs" in lines[1]
    assert "msd generate" in lines[2]
    assert str(tmp_path / "data") in lines[3]
    assert "Ctrl-C" in lines[4]
    wait_until(lambda: readiness(port) == "ready", "a loaded model")
    assert len(processes_of(tmp_path)) == 4
    up.send_signal(signal.SIGTERM)
    assert up.wait(timeout=20) == 0
    assert up.stdout is not None
    assert up.stdout.read() == ""
    assert processes_of(tmp_path) == {}


def test_a_second_one_on_the_same_data_is_refused(
    up: subprocess.Popen[str], golden_model_directory: Path, tmp_path: Path, port: int
) -> None:
    read_lines(up, 5)
    data_dir = tmp_path / "data"
    second = run_msd("up", "--model", golden_model_directory, "--data", data_dir, "--port", free_port())
    assert (second.returncode, second.stdout) == (1, "")
    assert second.stderr == (
        f"msd: Another msd up uses {data_dir}. Stop it first, or choose another directory with --data.\n"
    )
    third = run_msd("up", "--model", golden_model_directory, "--data", tmp_path / "other", "--port", port)
    assert third.returncode == 1
    assert third.stderr.startswith(f"msd: Port {port} on 127.0.0.1 cannot be used (Address already in use).")
    assert up.poll() is None


def test_nothing_outlives_it_when_it_is_killed(up: subprocess.Popen[str], tmp_path: Path) -> None:
    read_lines(up, 5)
    up.send_signal(signal.SIGKILL)
    up.wait(timeout=20)
    wait_until(lambda: processes_of(tmp_path) == {}, "the end of every child", patience_s=20)
