"""What the commands refuse before they start anything: one plain sentence on stderr, exit code 1."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ms_core.config import ModelCard
from tests.support.service_processes import free_port, run_msd


def sentence(finished: subprocess.CompletedProcess[str]) -> str:
    """The one sentence of a command that refused to start."""
    assert finished.returncode == 1
    assert finished.stdout == ""
    assert finished.stderr.startswith("msd: ")
    assert finished.stderr.count("\n") == 1
    return finished.stderr


def test_help_names_the_commands_without_loading_them() -> None:
    code = (
        "import sys; from cli.main import app; from typer.testing import CliRunner;"
        "result = CliRunner().invoke(app, ['--help']); assert result.exit_code == 0, result.output;"
        "assert all(name in result.output for name in ('up', 'generate', 'api', 'worker', 'parity'));"
        "print(sorted({'torch', 'diffusers', 'fastapi', 'redis', 'rq', 'uvicorn', 'numpy', 'PIL'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_a_missing_model(tmp_path: Path) -> None:
    told = sentence(run_msd("up", "--model", "nothing", "--data", tmp_path, "--port", free_port()))
    assert "There is no model 'nothing'." in told


@pytest.mark.parametrize("command", ["up", "api"])
@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_host_beyond_this_machine(tmp_path: Path, command: str, host: str) -> None:
    told = sentence(run_msd(command, "--host", host, "--data", tmp_path, "--port", free_port()))
    assert f"With --host {host}, anyone who can reach this machine could use the service" in told


def test_a_host_that_is_no_address(tmp_path: Path) -> None:
    told = sentence(run_msd("up", "--host", "no.such.host.invalid", "--data", tmp_path))
    assert "'no.such.host.invalid' is not an address" in told


def test_more_processes_of_the_api_than_any_machine_wants(tmp_path: Path) -> None:
    finished = run_msd("api", "--workers", "20000", "--data", tmp_path, "--host", "no.such.host.invalid")
    assert finished.returncode == 2
    assert "less than or equal to 64" in finished.stderr


def test_an_api_on_a_port_in_use(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        told = sentence(run_msd("api", "--data", tmp_path, "--port", port))
    assert f"Port {port} on 127.0.0.1 cannot be used" in told


def test_a_data_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    told = sentence(run_msd("up", "--data", tmp_path / "file" / "data", "--port", free_port()))
    assert "cannot be written" in told


def test_a_worker_without_redis(tmp_path: Path) -> None:
    told = sentence(run_msd("worker", "--data", tmp_path, MSD_REDIS_URL=f"unix://{tmp_path}/nothing.sock"))
    assert "Redis does not answer" in told


@pytest.mark.parametrize("url", ["foo", "redis://:secret@host:port/0", "http://127.0.0.1:6379"])
@pytest.mark.parametrize("command", ["up", "worker", "api"])
def test_an_address_of_redis_that_is_none(tmp_path: Path, command: str, url: str) -> None:
    port = () if command == "worker" else ("--port", free_port())
    told = sentence(run_msd(command, "--data", tmp_path, *port, MSD_REDIS_URL=url))
    assert "MSD_REDIS_URL is not the address of a Redis; write it as" in told
    assert "secret" not in told


def test_the_model_that_can_be_downloaded(tmp_path: Path) -> None:
    told = sentence(
        run_msd("up", "--model", "sdxl", "--data", tmp_path, "--port", free_port(), MSD_MODELS_DIR=str(tmp_path))
    )
    assert "There is no model 'sdxl'." in told
    assert told.endswith("Fetch it with: msd download sdxl\n")


def test_training_on_a_device_that_is_not_there(tmp_path: Path) -> None:
    told = sentence(run_msd("train", "mini", "--device", "cuda:99", "--out", tmp_path / "run"))
    assert "PyTorch sees no CUDA device for 'cuda:99'; use cpu, or run `msd doctor`" in told
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["up", "worker", "api"])
def test_a_setting_that_makes_no_sense(tmp_path: Path, command: str) -> None:
    (tmp_path / "model").mkdir()
    ModelCard().save(tmp_path / "model")
    told = sentence(run_msd(command, "--model", tmp_path / "model", "--data", tmp_path, MSD_JOB_TIMEOUT_S="soon"))
    assert "MSD_JOB_TIMEOUT_S" in told
