"""What README and guides show runs: each of their blocks of Python and of shell, in the order of the page."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.e2e.http_service import HttpService
from tests.support.guides import blocks, indented_blocks
from tests.support.paths import ASSETS, MINI, PYTHON_PATH, ROOT
from tests.support.sample_requests import drawing, good_request

PAGES = [
    "README.md",
    "clients/python/README.md",
    *sorted(f"docs/guides/{path.name}" for path in (ROOT / "docs" / "guides").glob("*.md")),
]
# Where only a section is run here.
SECTIONS = {"docs/guides/front-ends.md": "## Python"}
ADDRESS = "http://127.0.0.1:8000"

# Blocks of shell by their beginning, and why they are not run here.
NOT_RUN = {
    "make demo": "it is tested by itself",
    ". .venv/bin/activate\nmsd up": "the tests have a service",
    "msd doctor": "it downloads",
    "make check": "it is what runs the tests",
    "pip install": "the wheel has a test",
    "npm": "the tests of the client for TypeScript install it",
    "<models>": "these are names of files",
    "const events": "this is for a browser",
    "export MSD_REDIS_URL": "the tests have a service",
    "MSD_CONTAINER_RUNTIME": "it needs Docker",
    '{"index"': "this is an answer",
    "msd train": "it takes hours",
    "msd data": "it needs footage and large models",
    "git clone": "it downloads",
    "msd eval": "it takes minutes",
    "msd up --model sdxl": "it needs a large model",
    "[filters]": "this is a file of settings",
    "[caption]": "so is this",
}
# What is shortened, or would take long, on the page.
INSTEAD: Mapping[str, str] = {
    "[...]": json.dumps(good_request()["subjects"]),
    "--width 1024 --height 1024": "--width 64 --height 64",
    "range(4)": "range(1)",
    "seed=seed)": "seed=seed, num_inference_steps=2)",
}


def shell(page: str) -> list[str]:
    """Blocks of shell; those that are only indented are such, too."""
    return blocks(page, "sh") + indented_blocks(page)


def python(page: str) -> list[str]:
    return blocks(page, "python", SECTIONS.get(page, ""))


def is_run(code: str) -> bool:
    return not code.startswith(tuple(NOT_RUN))


SHELL = [(page, index) for page in PAGES for index, code in enumerate(shell(page)) if is_run(code)]


@pytest.fixture(scope="session")
def reader(service: HttpService, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of somebody who has read the pages, and has a few pictures."""
    service.wait_until_ready()
    folder = tmp_path_factory.mktemp("reader")
    for picture in (ASSETS / "demo").glob("*.png"):
        (folder / "assets" / "demo").mkdir(parents=True, exist_ok=True)
        # A control picture must have the size of the result.
        Image.open(picture).resize((64, 64)).save(folder / "assets" / "demo" / picture.name)
    for name in ("cat.png", "cat.jpg", "dog.png", "other-cat.png", "pot.png", "teapot.png", "out.png"):
        drawing("orange").save(folder / name)
    (folder / "models").mkdir()
    (folder / "models" / "mini").symlink_to(MINI)
    (folder / "request.json").write_text(json.dumps(good_request()))
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "activate").touch()
    add_command(folder, "msd", f'exec {sys.executable} -m cli.main "$@"')
    add_command(folder, "uuidgen", f"exec {sys.executable} -c 'import uuid; print(uuid.uuid4())'")
    return folder


def add_command(folder: Path, name: str, line: str) -> None:
    path = folder / ".venv" / "bin" / name
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


def as_run(code: str, service: HttpService) -> str:
    for shown, instead in {**INSTEAD, ADDRESS: service.url}.items():
        code = code.replace(shown, instead)
    return code


@pytest.mark.parametrize("page", [page for page in PAGES if python(page)])
def test_the_python_of_a_page_runs(
    page: str, service: HttpService, reader: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(reader)
    names: dict[str, Any] = {"__name__": "reader"}
    for code in python(page):
        exec(compile(as_run(code, service), page, "exec"), names)


@pytest.mark.parametrize(("page", "index"), SHELL, ids=lambda value: str(value))
def test_the_shell_of_a_page_runs(page: str, index: int, service: HttpService, reader: Path) -> None:
    code = as_run(shell(page)[index], service)
    first, _, rest = code.partition("jobs/ID")
    # What is done with a job's id comes after the request that gives it.
    request, _, follow = first.rpartition("\n") if rest else (code, "", "")
    answer = run(request, service, reader)
    if rest:
        job = service.wait_for_end(json.loads(answer))
        run((follow + "jobs/ID" + rest).replace("jobs/ID", f"jobs/{job['id']}"), service, reader)


def run(code: str, service: HttpService, folder: Path) -> str:
    """Run lines of shell, pictures in two steps; curl fails by the status."""
    path = f"{folder / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {
        "PATH": path,
        "PYTHONPATH": PYTHON_PATH,
        "MSD_URL": service.url,
        "CURL_HOME": str(folder),
    }
    (folder / ".curlrc").write_text("fail-with-body\n")
    script = re.sub(r"^(msd generate .*?[^\\])$", r"\1 --force --steps 2", code, flags=re.MULTILINE | re.DOTALL)
    result = subprocess.run(
        ["sh", "-e", "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_every_reason_not_to_run_a_block_has_its_block() -> None:
    shown = [code for page in PAGES for code in shell(page)]
    assert [begin for begin in NOT_RUN if not any(code.startswith(begin) for code in shown)] == []
