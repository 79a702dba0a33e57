"""What an installed service needs is in its wheel, code or not; a whole installation is too slow for every run."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from contextlib import chdir
from importlib.metadata import distribution, distributions
from pathlib import Path

import pytest
from setuptools import find_namespace_packages
from setuptools.command.build_py import build_py
from setuptools.dist import Distribution

from cli.demo import REFERENCES
from tests.support.paths import CLIENT, ROOT
from worker.models import BUNDLED_MODELS

INSTALLED = {item.name for item in distributions()}
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


def distributions_below(name: str) -> set[str]:
    """A distribution that is installed here, and all that it needs without extras."""
    needed = [
        re.split(r"[^A-Za-z0-9._-]", line)[0] for line in distribution(name).requires or () if "extra ==" not in line
    ]
    found = {name}
    for other in needed:
        if other in INSTALLED:
            found |= distributions_below(other)
    return found


def test_the_client_alone_is_enough_to_ask_a_service(tmp_path: Path) -> None:
    """Its wheel beside what it declares, and nothing else of this environment."""
    source = tmp_path / "source"
    shutil.copytree(CLIENT, source, ignore=shutil.ignore_patterns("*.egg-info", "build", "__pycache__"))
    build = f"from setuptools.build_meta import build_wheel; build_wheel({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    assert {path.relative_to(site).as_posix() for path in site.glob("msd_client/*")} == {
        path.relative_to(CLIENT).as_posix() for path in CLIENT.glob("msd_client/*") if path.is_file()
    }
    for name in distributions_below("httpx2") | distributions_below("pillow"):
        link_modules(name, site)
    script = (
        "import sys; import msd_client; msd_client.Client().close(); print(msd_client.__file__, 'torch' in sys.modules)"
    )
    told = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(site)!r}); {script}"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert told.stdout.split() == [str(site / "msd_client" / "__init__.py"), "False"]


def link_modules(name: str, site: Path) -> None:
    """The top folders and files of a distribution, as links."""
    tops = {file.parts[0] for file in distribution(name).files or () if file.parts[0] != ".."}
    for top in tops - {"__pycache__"}:
        (site / top).symlink_to(Path(str(distribution(name).locate_file(top))))
