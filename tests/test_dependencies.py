"""What the project imports is declared, and what it installs is pinned."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.paths import CLIENT, ROOT

ROOMS = ("app", "worker", "ms_jobs", "ms_core", "ms_lab", "cli")
# In this repository, so not pinned.
OUR_OWN = "msd-client"
# Names of one distribution that are, by design, reached through another.
COMES_WITH = {"anyio": "fastapi", "starlette": "fastapi", "pydantic-core": "pydantic"}


def project_in(folder: Path) -> dict[str, Any]:
    """The table ``project`` of a ``pyproject.toml``."""
    return tomllib.loads((folder / "pyproject.toml").read_text())["project"]


def requirements_in(folder: Path) -> dict[str, list[Requirement]]:
    """The requirements of a ``pyproject.toml``, by extra; "" has those without one."""
    project = project_in(folder)
    groups = {"": project["dependencies"], **project["optional-dependencies"]}
    return {extra: [Requirement(line) for line in lines] for extra, lines in groups.items()}


@pytest.fixture(scope="module")
def declared() -> dict[str, list[Requirement]]:
    return requirements_in(ROOT)


def pins() -> list[str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [line for line in lines if not line.startswith("#")]


def names(requirements: list[Requirement]) -> set[str]:
    return {canonicalize_name(requirement.name) for requirement in requirements}


def needed(requirements: list[Requirement]) -> set[str]:
    """Names of these distributions and all they need here; of torch only its name, for its needs differ by build."""
    seen: set[tuple[str, str]] = set()
    todo = [(requirement, "") for requirement in requirements]
    while todo:
        requirement, extra = todo.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        for chosen in {"", *requirement.extras} - {known for other, known in seen if other == name}:
            seen.add((name, chosen))
            below = [] if name == "torch" else _requirements_of(name)
            todo += [(Requirement(line), chosen) for line in below]
    return {name for name, _ in seen}


def _requirements_of(name: str) -> list[str]:
    try:
        return requires(name) or []
    except PackageNotFoundError:
        return []  # An extra of this machine's Python does without it.


def imports(folder: Path) -> Iterator[tuple[str, Path]]:
    """Top-level names of all absolute imports below a folder, with the file."""
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from ((alias.name.partition(".")[0], path) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module is not None and not node.level:
                yield node.module.partition(".")[0], path


def undeclared(folders: list[Path], allowed: set[str]) -> list[str]:
    """Imports of distributions that are not allowed, with their files."""
    providers = packages_distributions()
    found: set[str] = set()
    for module, path in (item for folder in folders for item in imports(folder)):
        given = {canonicalize_name(name) for name in providers.get(module, ())}
        if module in sys.stdlib_module_names or not given or module in (*ROOMS, "msd_client"):
            continue
        if not {COMES_WITH.get(name, name) for name in given} & allowed:
            found.add(f"{module} in {path.relative_to(ROOT)}")
    return sorted(found)


def test_every_pin_is_a_name_and_a_version_only() -> None:
    assert [line for line in pins() if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*", line)] == []


def test_everything_needed_is_pinned(declared: dict[str, list[Requirement]]) -> None:
    pinned = {canonicalize_name(line.partition("==")[0]) for line in pins()}
    groups = [*declared.values(), *requirements_in(CLIENT).values()]
    wanted = needed([requirement for group in groups for requirement in group])
    assert wanted - pinned == {OUR_OWN}


def test_every_pin_is_within_the_declared_range(declared: dict[str, list[Requirement]]) -> None:
    versions = {canonicalize_name(line.partition("==")[0]): line.partition("==")[2] for line in pins()}
    groups = [*declared.values(), *requirements_in(CLIENT).values()]
    everything = [requirement for group in groups for requirement in group if requirement.name != OUR_OWN]
    outside = [str(r) for r in everything if not r.specifier.contains(versions[canonicalize_name(r.name)])]
    assert outside == []


def test_the_service_needs_the_client_beside_it(declared: dict[str, list[Requirement]]) -> None:
    assert [str(r.specifier) for r in declared[""] if r.name == OUR_OWN] == [f"=={project_in(CLIENT)['version']}"]


def test_torch_is_the_one_that_everything_was_measured_with(declared: dict[str, list[Requirement]]) -> None:
    assert [str(r.specifier) for r in declared["worker"] if r.name == "torch"] == ["==2.13.0"]


def test_nothing_needs_torchvision(declared: dict[str, list[Requirement]]) -> None:
    assert "torchvision" not in needed([requirement for group in declared.values() for requirement in group])


def test_the_rooms_import_only_what_is_declared_for_running(declared: dict[str, list[Requirement]]) -> None:
    running = names(declared[""] + declared["worker"] + declared["artwork"] + declared["data"])
    assert undeclared([ROOT / room for room in ROOMS], running) == []


def test_the_api_imports_only_what_is_installed_without_extras(declared: dict[str, list[Requirement]]) -> None:
    assert undeclared([ROOT / "app"], names(declared[""])) == []


def test_the_client_imports_only_what_is_declared_for_it() -> None:
    mine = requirements_in(CLIENT)
    assert names(mine[""]) == {"httpx2", "pillow"}
    assert undeclared([CLIENT / "msd_client"], names(mine[""])) == ["rich in clients/python/msd_client/bar.py"]
    assert names(mine["bar"]) == {"rich"}


def test_the_tests_import_only_what_is_declared(declared: dict[str, list[Requirement]]) -> None:
    assert undeclared([ROOT / "tests"], names([item for group in declared.values() for item in group])) == []
