"""The TypeScript client as it lies in the repository: made of this service, typed, small."""

from __future__ import annotations

import gzip
import json
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from app.config import Settings
from app.main import create_app
from tests.support import typescript
from tests.support.guides import blocks
from tests.support.paths import ROOT
from tests.support.typescript import CLIENT

MAX_BYTES = 12_000
REMEDY = "run .venv/bin/python scripts/make-client"


@pytest.fixture(scope="module")
def package() -> dict[str, Any]:
    return json.loads((CLIENT / "package.json").read_text())


def files_below(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_it_has_the_document_of_this_service() -> None:
    assert json.loads((CLIENT / "openapi.json").read_text()) == create_app(Settings()).openapi(), REMEDY


def test_its_generated_part_is_what_is_generated_from_it(tmp_path: Path) -> None:
    # Where there is no Node this is skipped.
    typescript.node()
    (tmp_path / "src").mkdir()
    typescript.run([sys.executable, ROOT / "scripts" / "make-client", tmp_path], ROOT)
    assert files_below(tmp_path / "src" / "generated") == files_below(CLIENT / "src" / "generated"), REMEDY
    assert (tmp_path / "openapi.json").read_text() == (CLIENT / "openapi.json").read_text(), REMEDY


def test_types_fit_in_the_client_its_tests_and_the_guide(tmp_path: Path) -> None:
    typescript.node()
    sections = {"node.ts": "### In Node", "browser.ts": "### In a browser"}
    for name, section in sections.items():
        (tmp_path / name).write_text(*blocks("docs/guides/front-ends.md", "ts", section))
    (tmp_path / "readme.ts").write_text(*blocks("clients/typescript/README.md", "ts", "# msd-client"))
    # Node reads it to know that these are modules.
    (tmp_path / "package.json").write_text('{"type": "module"}')
    typescript.check_types(*sorted(tmp_path.glob("*.ts")))


def test_it_is_small_and_needs_nothing_of_node_in_a_browser(tmp_path: Path) -> None:
    typescript.node()
    bundle = typescript.bundle(CLIENT / "src" / "index.ts", tmp_path / "bundle.js")
    assert len(gzip.compress(bundle.read_bytes())) <= MAX_BYTES


def test_it_brings_no_other_packages(package: dict[str, Any]) -> None:
    assert not package.keys() & {"dependencies", "peerDependencies", "optionalDependencies"}


def test_it_has_the_version_of_the_service(package: dict[str, Any]) -> None:
    assert package["version"] == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_its_lock_file_names_no_registry() -> None:
    assert "resolved" not in (CLIENT / "package-lock.json").read_text()
