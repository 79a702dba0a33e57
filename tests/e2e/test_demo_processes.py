"""``msd demo`` as a real process: it makes its picture anew, leaves nothing behind, and says why it cannot work."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest
from PIL import Image, ImageChops

from ms_core.config import ModelCard
from tests.support.demo_page import panel
from tests.support.job_helpers import wait_until
from tests.support.paths import ROOT
from tests.support.service_processes import environment, msd, processes_of, run_msd

pytestmark = pytest.mark.slow

REFERENCES = ROOT / "assets" / "demo"


def demo_run(model: Path, out: Path, *options: object) -> Image.Image:
    """Run the demo to its end and return the result that it shows."""
    temporary = out.with_suffix(".tmp")
    temporary.mkdir()
    finished = run_msd("demo", "--model", model, "--out", out, *options, TMPDIR=str(temporary), MSD_DEVICE="cpu")
    assert (finished.returncode, finished.stderr) == (0, "")
    assert finished.stdout.count(" s  ") == 4
    assert list(temporary.iterdir()) == []
    with Image.open(out) as page:
        return panel(page, 2)


@pytest.mark.faults
def test_a_changed_reference_changes_the_picture(golden_model_directory: Path, tmp_path: Path) -> None:
    """The seed is the same; that a seed stands for one picture is tested with the live service."""
    first = demo_run(golden_model_directory, tmp_path / "first.png")
    changed = demo_run(
        golden_model_directory,
        tmp_path / "changed.png",
        *("--subject", f"tomato={REFERENCES / 'leafy-green.png'}@0.05,0.34,0.45,0.74"),
        *("--subject", f"leafy green={REFERENCES / 'leafy-green.png'}@0.55,0.34,0.95,0.74"),
    )
    assert ImageChops.difference(first, changed).getbbox() is not None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing(
    golden_model_directory: Path, tmp_path: Path, number: signal.Signals
) -> None:
    command = msd("demo", "--model", golden_model_directory, "--out", tmp_path / "demo.png")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    env = environment(TMPDIR=str(temporary), MSD_DEVICE="cpu")
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: "worker.main" in "".join(processes_of(temporary).values()), "a worker")
        process.send_signal(number)
        _, told = process.communicate(timeout=60)
    assert (process.returncode, told) == (130, "Stopped.\n")
    assert processes_of(temporary) == {}
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["temporary"]


def test_nothing_outlives_a_killed_demo(golden_model_directory: Path, tmp_path: Path) -> None:
    command = msd("demo", "--model", golden_model_directory, "--out", tmp_path / "demo.png")
    with subprocess.Popen(command, env=environment(TMPDIR=str(tmp_path), MSD_DEVICE="cpu")) as process:
        wait_until(lambda: "worker.main" in "".join(processes_of(tmp_path).values()), "a worker")
        process.kill()
    wait_until(lambda: processes_of(tmp_path) == {}, "the end of every process", patience_s=20)


def test_a_model_that_cannot_be_loaded_is_explained(tmp_path: Path) -> None:
    model = tmp_path / "empty"
    model.mkdir()
    ModelCard().save(model)
    finished = run_msd("demo", "--model", model, "--out", tmp_path / "demo.png", TMPDIR=str(tmp_path))
    assert finished.returncode == 1
    assert finished.stderr.startswith("msd: The service cannot work. Workers: 1 ")
    assert finished.stderr.count("\n") == 1
    assert processes_of(tmp_path) == {}
