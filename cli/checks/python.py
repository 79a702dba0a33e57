"""The Python that runs all this."""

from __future__ import annotations

import platform
import sys

from cli.checks.section import Section
from ms_core.model_dir.inspection import Finding

OLDEST, NEXT = (3, 11), (3, 14)


def check_python(version: tuple[int, int] = sys.version_info[:2]) -> Section:
    """Whether the project is made for this version."""
    facts = {"version": platform.python_version(), "executable": sys.executable, "system": platform.platform()}
    if OLDEST <= version < NEXT:
        finding = Finding.ok(f"Python {platform.python_version()} at {sys.executable}.")
    else:
        finding = Finding.error(
            "python_version",
            f"Python {'.'.join(map(str, version))} is not supported (3.11 to 3.13 are).",
            "Make the environment again with a supported version: make clean, then make install PYTHON=python3.12.",
        )
    return Section((finding,), facts)
