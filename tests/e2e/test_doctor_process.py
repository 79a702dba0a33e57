"""``msd doctor`` as a real process, with the bundled model."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.service_processes import run_msd


@pytest.mark.faults
def test_a_healthy_machine_and_model(tmp_path: Path) -> None:
    result = run_msd("doctor", "--model", "mini", "--data", tmp_path / "data", MSD_DEVICE="cpu")
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stderr == ""
    assert "  error" not in result.stdout
    assert "One tiny picture with mini on cpu\n  ok       A picture of 64 x 64, 2 steps: " in result.stdout
    assert not (tmp_path / "data").exists()
