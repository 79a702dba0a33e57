"""Every part of the pipeline on a device that refuses to mix its tensors with the CPU's, as a GPU does."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.support.paths import ROOT

PROGRAM = "tests.support.pictures_on_second_device"


# The smallest moves most; the others are long, and show less.
MODES = ["8gb", *(pytest.param(mode, marks=pytest.mark.faults) for mode in ("12gb", "24gb"))]


@pytest.fixture(scope="module", params=MODES)
def differences(request: pytest.FixtureRequest) -> dict[str, float]:
    """Largest difference of the final latents to the CPU's, by case; in a process of its own, see ``second_device``."""
    command = [sys.executable, "-m", PROGRAM, request.param]
    result = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize("case", ["mixed batch", "soft masks", "additions", "redrawing"])
def test_pictures_of_another_device_equal_the_cpus(differences: dict[str, float], case: str) -> None:
    # Attention is fused on the CPU and not on the second device, so the last digits differ.
    assert differences[case] < 1e-3


@pytest.mark.parametrize("scheduler", ["ddim", "dpmpp_2m", "euler_ancestral", "heun", "lcm", "unipc"])
def test_schedulers_work_on_another_device(differences: dict[str, float], scheduler: str) -> None:
    assert differences[scheduler] < 1e-3
