"""The TypeScript client against the live service; its own tests are in ``clients/typescript/tests``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.http_service import HttpService
from tests.support import typescript
from tests.support.sample_requests import drawing, encoded


@pytest.fixture(scope="module")
def tests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("client") / "client.test.mjs"
    return typescript.bundle(typescript.CLIENT / "tests" / "client.test.ts", out, "node")


@pytest.fixture(scope="module")
def node_20(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return typescript.node_20(tmp_path_factory.mktemp("node"))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for name, colour in (("cat", "orange"), ("teapot", "teal")):
        (tmp_path / f"{name}.png").write_bytes(encoded(drawing(colour)))
    return tmp_path


def run_tests(node: Path, tests: Path, service: HttpService, pictures: Path) -> None:
    service.wait_until_ready()
    command: list[object] = [node, "--test", "--test-reporter=spec", tests]
    typescript.run(command, pictures, MSD_URL=service.url, MSD_PICTURES=str(pictures))


def test_in_node(service: HttpService, tests: Path, pictures: Path) -> None:
    run_tests(typescript.node(), tests, service, pictures)
    assert (pictures / "made.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.faults
def test_in_node_20(service: HttpService, tests: Path, node_20: Path, pictures: Path) -> None:
    run_tests(node_20, tests, service, pictures)
