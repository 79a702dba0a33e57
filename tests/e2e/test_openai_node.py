"""Other people's clients for Node against the live service; their tests are in ``tests/clients/node``."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.e2e.http_service import HttpService
from tests.support import typescript
from tests.support.guides import blocks
from tests.support.paths import ASSETS, ROOT
from tests.support.sample_requests import drawing, encoded

FOLDER = ROOT / "tests" / "clients" / "node"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for name, colour in (("cat", "orange"), ("teapot", "teal")):
        (tmp_path / f"{name}.png").write_bytes(encoded(drawing(colour)))
    return tmp_path


def node_with_packages() -> Path:
    if not (FOLDER / "node_modules").exists():
        typescript.skip("the packages of other people's clients are not installed; `make install` does that")
    return typescript.node()


@pytest.mark.parametrize("client", ["openai", "ai-sdk"])
def test_the_client_works_unchanged(service: HttpService, pictures: Path, client: str) -> None:
    node = node_with_packages()
    service.wait_until_ready()
    command: list[object] = [node, "--test", "--test-reporter=spec", FOLDER / f"{client}.test.js"]
    typescript.run(command, FOLDER, MSD_URL=service.url, MSD_PICTURES=str(pictures))


@pytest.mark.parametrize("number", [0, 1])
def test_the_code_of_the_guide_works(service: HttpService, tmp_path: Path, number: int) -> None:
    node = node_with_packages()
    service.wait_until_ready()
    shutil.copytree(ASSETS / "demo", tmp_path / "assets" / "demo")
    (tmp_path / "node_modules").symlink_to(FOLDER / "node_modules")
    code = blocks("docs/guides/front-ends.md", "js", "## OpenAI's images interface")[number]
    code = code.replace("http://127.0.0.1:8000", service.url).replace('imageModel("mini")', 'imageModel("golden")')
    (tmp_path / "code.mjs").write_text(code)
    typescript.run([node, "code.mjs"], tmp_path)
    assert (tmp_path / "beach.png").read_bytes().startswith(b"\x89PNG")
