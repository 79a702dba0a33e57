"""Which room may know of which: the contracts in ``pyproject.toml``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.paths import PYTHON_PATH, ROOT


def test_the_layers_hold() -> None:
    lint_imports = Path(sys.executable).parent / "lint-imports"
    command = [lint_imports, "--no-cache"]
    environment = os.environ | {"PYTHONPATH": PYTHON_PATH}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
