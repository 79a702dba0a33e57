"""Dockerfile and compose file: clean, valid, and running commands that exist."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose
from redis import Redis

from app.config import Settings
from tests.support.job_helpers import wait_until
from tests.support.paths import ROOT
from tests.support.service_processes import run_msd
from worker.redis_server import find_redis_binary


def read_compose(name: str) -> dict[str, Any]:
    """A compose file with the default of every variable."""
    return yaml.safe_load(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", (ROOT / name).read_text()))


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return read_compose("docker-compose.yml")


@pytest.fixture(scope="module")
def network() -> dict[str, Any]:
    """What is laid over it for a team."""
    return read_compose("docker-compose.network.yml")


@contextmanager
def redis_with(arguments: list[str], folder: Path) -> Iterator[Redis]:
    socket = folder / "redis.sock"
    own = ["--port", "0", "--unixsocket", str(socket), "--dir", str(folder)]
    with subprocess.Popen([find_redis_binary(), *arguments, *own], stdout=subprocess.DEVNULL) as process:
        wait_until(socket.exists, "the socket of Redis")
        with Redis(unix_socket_path=str(socket)) as client:
            yield client
        process.terminate()


def test_hadolint_has_no_complaint() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    result = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "")


def test_nothing_that_the_images_are_made_of_is_ignored() -> None:
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    sources = {source for line in copies for source in line.split()}
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {source for source in sources if not any(f"{path}/".startswith(f"{source}/") for path in kept)} == set()


def test_the_compose_file_keeps_to_the_specification(compose: dict[str, Any]) -> None:
    assert PyCompose.from_json(json.dumps(compose)).service_names() == ["redis", "api", "worker"]


def test_every_variable_has_a_default(compose: dict[str, Any]) -> None:
    assert "$" not in json.dumps(compose)


@pytest.mark.parametrize("service", ["api", "worker"])
def test_the_command_of_a_service_is_one_of_ours(compose: dict[str, Any], service: str) -> None:
    result = run_msd(*compose["services"][service]["command"], "--help")
    assert (result.returncode, result.stderr) == (0, "")


def test_redis_loses_nothing(compose: dict[str, Any], tmp_path: Path) -> None:
    program, *arguments = compose["services"]["redis"]["command"]
    assert program == "redis-server"
    with redis_with(arguments, tmp_path) as client:
        assert client.config_get("appendonly")["appendonly"] == "yes"
        assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"


def test_the_api_is_published_on_the_loopback_address_only(compose: dict[str, Any]) -> None:
    assert compose["services"]["api"]["ports"] == ["127.0.0.1:8000:8000"]
    assert "ports" not in compose["services"]["redis"]
    assert "ports" not in compose["services"]["worker"]


def test_on_a_network_only_the_proxy_is_published_and_every_request_needs_a_key(network: dict[str, Any]) -> None:
    assert PyCompose.from_json(json.dumps(network)).service_names() == ["proxy", "api"]
    assert [name for name, service in network["services"].items() if "ports" in service] == ["proxy"]
    settings = network["services"]["api"]["environment"]
    assert Settings(**{name.removeprefix("MSD_").lower(): value for name, value in settings.items()}).auth == "on"
    command = network["services"]["proxy"]["command"]
    assert settings["MSD_PUBLIC_URL"] == f"https://{command[command.index('--from') + 1]}"
    assert [{"subnet": settings["MSD_TRUSTED_PROXIES"]}] == network["networks"]["default"]["ipam"]["config"]


def test_a_worker_has_time_to_hand_its_job_back(compose: dict[str, Any]) -> None:
    from worker.config import WorkerSettings

    grace = re.fullmatch(r"(\d+)s", compose["services"]["worker"]["stop_grace_period"])
    assert grace is not None
    assert int(grace[1]) > WorkerSettings().stop_grace_s
