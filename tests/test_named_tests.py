"""The tests that the documents name are there."""

from __future__ import annotations

import re

from tests.support.paths import ROOT

TESTS = ROOT / "tests"
FILES = {path.name for path in TESTS.rglob("test_*.py")}
FUNCTIONS = {name for path in TESTS.rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())}


def texts() -> list[tuple[str, str]]:
    """What names tests: the documents, and what runs the tests; each with its path."""
    below = [path for path in TESTS.rglob("*.md") if "node_modules" not in path.parts]
    paths = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *below]
    paths += [ROOT / "Makefile", ROOT / "pyproject.toml", ROOT / ".ci" / "run", ROOT / "benchmarks" / "gpu.sh"]
    return [(str(path.relative_to(ROOT)), path.read_text()) for path in paths]


def test_every_path_below_tests_exists() -> None:
    named = [(where, path) for where, text in texts() for path in re.findall(r"\btests/[\w/.-]*\w", text)]
    assert named
    # Packages of npm are there where they were installed.
    missing = [(where, path) for where, path in named if not (ROOT / path).exists() and "node_modules" not in path]
    assert missing == []


def test_every_test_that_a_document_names_exists() -> None:
    named = [(where, name) for where, text in texts() for name in re.findall(r"\btest_\w+(?:\.py)?\b", text)]
    assert named
    assert [(where, name) for where, name in named if name not in FILES | FUNCTIONS] == []
