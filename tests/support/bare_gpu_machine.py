"""An import blocker: leaves what a bare GPU machine has and what ``benchmarks/gpu.sh`` brings as wheels.

Run as a program, it collects the GPU tests and imports the GPU benchmark and ``msd train`` behind the blocker.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import entry_points, packages_distributions
from types import ModuleType

from tests.support.paths import ROOT

# PyTorch, transformers 5, accelerate, safetensors, numpy, Pillow and pytest, with what these cannot be imported without.
THERE = (
    "torch transformers accelerate safetensors numpy pillow pytest iniconfig pluggy packaging pygments tokenizers psutil pyyaml regex"
    " requests urllib3 charset-normalizer idna certifi tqdm filelock fsspec jinja2 markupsafe sympy mpmath networkx setuptools pip"
    " typing-extensions"
)


def brought() -> set[str]:
    """The distributions that the script fetches as wheels."""
    lists = re.search(r"PACKAGES=\((.*?)\)", (ROOT / "benchmarks/gpu.sh").read_text(), re.S)
    assert lists is not None
    return {_canonical(name) for name in lists[1].split()}


def had() -> set[str]:
    """All distributions of such a machine."""
    return {_canonical(name) for name in THERE.split()} | brought() | {"ms-diffusion-service"}


def missing_plugins() -> list[str]:
    """Names of pytest's plugins that are here, but not there."""
    return [
        entry.name
        for entry in entry_points(group="pytest11")
        if entry.dist is not None and _canonical(entry.dist.name) not in had()
    ]


def block_the_rest() -> None:
    """Let ``PathFinder`` find no top-level module of a distribution that is neither there nor brought."""
    have = had()
    distributions = packages_distributions()
    blocked = {module for module, names in distributions.items() if not have & {_canonical(name) for name in names}}
    find_spec = PathFinder.find_spec

    @classmethod
    def find_what_is_there(
        _cls: type, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return None if fullname.partition(".")[0] in blocked else find_spec(fullname, path, target)

    PathFinder.find_spec = find_what_is_there


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> int:
    """Import behind the blocker what the script runs."""
    block_the_rest()
    sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
    import pytest

    # First, for pytest wants to be the first that imports its plugins.
    options = ["--collect-only", "-q", *(f"-pno:{name}" for name in ("cacheprovider", *missing_plugins()))]
    status = pytest.main([*options, str(ROOT / "tests/gpu")])
    import gpu  # noqa: F401
    import gpu_training  # noqa: F401

    import cli.main
    import ms_lab.training.mini  # noqa: F401

    assert callable(cli.main.run)
    return status


if __name__ == "__main__":
    sys.exit(main())
