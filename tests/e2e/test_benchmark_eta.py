"""The benchmark of estimates runs, with few and short jobs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT


@pytest.mark.faults
def test_how_far_estimates_are_off_is_measured(tmp_path: Path) -> None:
    out = tmp_path / "eta.json"
    command = [sys.executable, ROOT / "benchmarks" / "eta.py", "--quick", "--out", out]
    subprocess.run(command, check=True, cwd=ROOT, timeout=120)
    results = json.loads(out.read_text())
    assert results["steady"]["jobs"] == 6
    assert results["all_at_once"]["median_error"] is not None
