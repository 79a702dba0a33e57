"""What an installed service needs is in its wheel, code or not; a whole installation is too slow for every run."""

from __future__ import annotations

import tomllib
from contextlib import chdir
from pathlib import Path

import pytest
from setuptools import find_namespace_packages
from setuptools.command.build_py import build_py
from setuptools.dist import Distribution

from cli.demo import REFERENCES
from tests.support.paths import ROOT
from worker.models import BUNDLED_MODELS

ROOMS = ("app", "worker", "ms_jobs", "ms_core", "ms_lab", "cli")


@pytest.fixture(scope="module")
def wheel_files() -> set[Path]:
    """All files that setuptools would put into a wheel, as paths below the repository."""
    with chdir(ROOT):
        distribution = Distribution({"script_name": "setup.py"})
        distribution.parse_config_files(["pyproject.toml"])
        command = build_py(distribution)
        command.ensure_finalized()
        modules = {Path(file) for _, _, file in command.find_all_modules()}
        data = command.get_data_files_without_manifest()
    return modules | {Path(folder, name) for _, folder, _, names in data for name in names}


def files_below(folder: Path) -> set[Path]:
    found = {path.relative_to(ROOT) for path in folder.rglob("*") if path.is_file()}
    return {path for path in found if "__pycache__" not in path.parts}


@pytest.mark.parametrize(
    "folder", [*(ROOT / room for room in ROOMS), BUNDLED_MODELS / "mini", REFERENCES], ids=lambda path: path.name
)
def test_nothing_is_missing_from_the_wheel(wheel_files: set[Path], folder: Path) -> None:
    wanted = files_below(folder)
    assert wanted
    assert wanted - wheel_files == set()


def test_only_the_bundled_model_is_in_the_wheel(tmp_path: Path) -> None:
    """``msd download sdxl`` may have left 13 GB beside it."""
    for name in ("models/mini/unet", "models/sdxl/unet", "assets/demo"):
        (tmp_path / name).mkdir(parents=True)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    included = project["tool"]["setuptools"]["packages"]["find"]["include"]
    assert set(find_namespace_packages(str(tmp_path), include=included)) == {
        "models.mini",
        "models.mini.unet",
        "assets.demo",
    }
