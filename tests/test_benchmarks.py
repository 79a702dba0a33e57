"""The benchmarks run: their dry run goes through every line that a GPU would, but for the tests marked ``gpu``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT


@pytest.mark.faults
def test_the_dry_run_says_so_and_measures_everything(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    command = [sys.executable, ROOT / "benchmarks" / "gpu.py", "--dry-run", "--out", out]
    subprocess.run(command, check=True, cwd=ROOT)
    results = json.loads(out.read_text())
    assert results["dry_run"] is True
    assert [row["batch"] for row in results["batches"]] == [1, 2, 4, 8]
    assert [(row["mode"], row["seconds"] > 0) for row in results["memory_modes"]] == [("8gb", True)]
    # The fast path gives what the formula gives when it is written down plainly.
    assert results["comparison"]["latents_max_difference_to_plain_reference"] < 1e-3


@pytest.mark.faults
def test_the_dry_run_of_training_takes_steps_of_every_size(tmp_path: Path) -> None:
    out = tmp_path / "gpu-training.json"
    command = [sys.executable, ROOT / "benchmarks" / "gpu_training.py", "--dry-run", "--out", out]
    subprocess.run(command, check=True, cwd=ROOT)
    results = json.loads(out.read_text())
    assert results["dry_run"] is True
    sizes = [(row["gradient_checkpointing"], row["micro_batch"]) for row in results["rows"]]
    assert sizes == [(checkpointing, size) for checkpointing in (True, False) for size in (1, 2, 4, 8, 16)]
    assert all(row["pictures_per_s"] > 0 and row["encoded_per_s"] > 0 for row in results["rows"])


def test_a_bare_gpu_machine_with_the_wheels_imports_all_that_the_script_runs() -> None:
    subprocess.run([sys.executable, "-m", "tests.support.bare_gpu_machine"], check=True, cwd=ROOT)
