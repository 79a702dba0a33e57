"""The playground as it lies in the repository: built from its source, typed, small; its arithmetic."""

from __future__ import annotations

import gzip
import json
import sys
import tomllib
from pathlib import Path

from app.playground.page import BUILT
from tests.support.paths import ROOT
from tests.support.typescript import node, run

WEB = ROOT / "web"
MODULES = WEB / "node_modules"
MAX_SCRIPT_BYTES = 60_000
REMEDY = "run .venv/bin/python scripts/make-playground"


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_served_is_built_from_the_source(tmp_path: Path) -> None:
    node(MODULES)
    run([sys.executable, ROOT / "scripts" / "make-playground", tmp_path / "built"], ROOT)
    assert files_below(tmp_path / "built") == files_below(BUILT), REMEDY


def test_the_scripts_of_the_first_view_are_small() -> None:
    scripts = [gzip.compress(path.read_bytes()) for path in BUILT.rglob("*.js")]
    assert scripts
    assert sum(map(len, scripts)) <= MAX_SCRIPT_BYTES


def test_nothing_comes_from_elsewhere() -> None:
    sources = [*(WEB / "src").rglob("*.css"), WEB / "index.html"]
    assert [path.name for path in sources if "//" in path.read_text()] == []


def test_its_types_fit() -> None:
    run([node(MODULES), MODULES / "typescript" / "bin" / "tsc", "--noEmit", "-p", WEB], WEB)


def test_its_arithmetic() -> None:
    run([node(MODULES), "--test", *sorted((WEB / "tests").glob("*.test.ts"))], WEB)


def test_it_has_the_version_of_the_service() -> None:
    package = json.loads((WEB / "package.json").read_text())
    assert package["version"] == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_its_lock_file_names_no_registry() -> None:
    assert "resolved" not in (WEB / "package-lock.json").read_text()
