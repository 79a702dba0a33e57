"""A whole run: exact resume after a kill, checkpoints that can be served, and what ends a run without losing work."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from ms_core.config import WEIGHTS_FILE, ModelCard
from ms_core.sampling.pipeline import MSDiffusionPipeline
from ms_core.spec import Box, GenerationSpec, Subject
from ms_lab.training.adapter.config import AdapterConfig, load_config
from ms_lab.training.adapter.model_checkpoints import TRAINING, all_checkpoints, newest_checkpoint
from ms_lab.training.adapter.run import AdapterTraining
from ms_lab.training.checkpoints import STATE, WEIGHTS
from tests.ms_lab.training.adapter.small_set import small_config


@pytest.fixture(scope="module")
def whole_run(
    golden_model_directory: Path, small_set: Path, tmp_path_factory: pytest.TempPathFactory
) -> AdapterTraining:
    """Four steps without an interruption."""
    folder = tmp_path_factory.mktemp("whole")
    training = AdapterTraining(
        small_config(small_set, log={"held_out": 2, "pictures": 1, "picture_steps": 1}), golden_model_directory, folder
    )
    assert training.run()
    return training


def newest(folder: Path) -> Path:
    found = newest_checkpoint(folder)
    assert found is not None
    return found


def same(one: Any, other: Any) -> bool:
    """Whether two states are the same, bit for bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def assert_same_checkpoint(one: Path, other: Path) -> None:
    for name in (WEIGHTS_FILE, f"{TRAINING}/{WEIGHTS}"):
        assert same(load_file(one / name), load_file(other / name))
    states = [torch.load(path / TRAINING / STATE, weights_only=True) for path in (one, other)]
    for state in states:
        del state["seconds"]
    assert same(*states)


def test_a_run_leaves_checkpoints_log_sheet_and_configuration(whole_run: AdapterTraining) -> None:
    folder = whole_run.folder
    assert [path.name for path in all_checkpoints(folder / "checkpoints")] == ["step-0000002", "step-0000004"]
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [row["pictures"] for row in rows if "loss" in row] == [4, 8, 12, 16]
    assert {"reference_gain_200", "reference_gain_450", "reference_gain_700"} <= set(rows[-1])
    assert len(list(folder.glob("sheet-*.png"))) == 2
    assert (len(whole_run.set.train), len(whole_run.set.held_out)) == (10, 3)
    # Each checkpoint's card has its own figures.
    figures = {row["pictures"]: row for row in rows if "reference_gain_200" in row}
    for path, pictures in zip(all_checkpoints(folder / "checkpoints"), (8, 16), strict=True):
        facts = ModelCard.load(path).training["adapter"]
        assert facts["pictures"] == pictures
        assert facts["reference_gain_200"] == pytest.approx(figures[pictures]["reference_gain_200"], abs=1e-6)
    assert figures[8]["reference_gain_200"] != figures[16]["reference_gain_200"]
    assert not list((folder / "checkpoints").glob(".*"))
    assert load_config(newest(folder) / TRAINING / "config.toml") == whole_run.config
    assert load_config(folder / "config.toml") == whole_run.config


def test_a_checkpoint_is_served_with_the_averaged_weights(whole_run: AdapterTraining) -> None:
    checkpoint = newest(whole_run.folder)
    pipeline = MSDiffusionPipeline.from_pretrained(checkpoint, "cpu")
    shadow = dict(zip(whole_run.trainer.average.names, whole_run.trainer.average.shadow, strict=True))
    for name, weight in pipeline.adapter.named_parameters():
        assert torch.equal(weight, shadow[name])
    assert ModelCard.load(checkpoint).training["adapter"]["pictures"] == 16
    spec = GenerationSpec(
        "a cat",
        (Subject("cat", whole_run.set.pictures.record(0).image, Box(0.1, 0.1, 0.6, 0.9)),),
        num_inference_steps=1,
    )
    assert pipeline.run(spec)[0].image.size == (256, 256)


def test_the_weights_of_the_base_are_linked_and_what_may_be_edited_is_copied(
    whole_run: AdapterTraining, golden_model_directory: Path
) -> None:
    weights = "unet/diffusion_pytorch_model.safetensors"
    assert (newest(whole_run.folder) / weights).samefile(golden_model_directory / weights)
    for name in ("model_index.json", "scheduler/scheduler_config.json"):
        copy, own = newest(whole_run.folder) / name, golden_model_directory / name
        assert copy.read_bytes() == own.read_bytes()
        assert not copy.samefile(own)


def test_training_changes_the_adapter(whole_run: AdapterTraining, golden_model_directory: Path) -> None:
    before = load_file(golden_model_directory / WEIGHTS_FILE)
    after = load_file(newest(whole_run.folder) / TRAINING / WEIGHTS)
    unchanged = [name for name, value in after.items() if torch.equal(value, before[name])]
    assert unchanged == ["dummy_tokens"]


_TRAIN = """
import sys
from pathlib import Path
from ms_lab.training.adapter.config import load_config
from ms_lab.training.adapter.run import train_adapter
config, directory, folder, processes = sys.argv[1:]
train_adapter(load_config(Path(config)), Path(directory), Path(folder), "cpu", int(processes))
"""


def started(config: AdapterConfig, directory: Path, folder: Path, processes: int = 1) -> subprocess.Popen[bytes]:
    folder.mkdir(exist_ok=True)
    path = folder.with_suffix(".toml")
    path.write_text(config.to_toml())
    command = [sys.executable, "-c", _TRAIN, str(path), str(directory), str(folder), str(processes)]
    # In a group of its own, so that all of it can be killed at once.
    return subprocess.Popen(command, start_new_session=True)


def kill_after(process: subprocess.Popen[bytes], folder: Path, rows: int) -> None:
    """Kill all of a run once its log has so many rows."""
    deadline = time.monotonic() + 900
    log = folder / "log.jsonl"
    while not log.is_file() or len(log.read_text().splitlines()) < rows:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_a_run_that_was_killed_and_resumed_gives_the_same_bits(
    whole_run: AdapterTraining, golden_model_directory: Path, small_set: Path, tmp_path: Path
) -> None:
    config, folder = small_config(small_set, log={"held_out": 0}), tmp_path / "run"
    # Killed after the third step: the checkpoint is of the second.
    kill_after(started(config, golden_model_directory, folder), folder, 3)
    assert newest(folder).name == "step-0000002"
    training = AdapterTraining(whole_run.config, golden_model_directory, folder)
    training.trainer.resume()
    assert training.trainer.step == 2
    assert training.run()
    assert_same_checkpoint(newest(folder), newest(whole_run.folder))
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [row["pictures"] for row in rows if "loss" in row] == [4, 8, 12, 16]
    losses = [
        json.loads(line)["loss"] for line in (whole_run.folder / "log.jsonl").read_text().splitlines() if "loss" in line
    ]
    assert [row["loss"] for row in rows if "loss" in row] == losses


@pytest.mark.faults
def test_two_processes_that_were_killed_and_resumed_give_the_same_bits(
    golden_model_directory: Path, small_set: Path, tmp_path: Path
) -> None:
    config = small_config(small_set)
    for name, killed in (("whole", False), ("parts", True)):
        folder = tmp_path / name
        if killed:
            kill_after(started(config, golden_model_directory, folder, 2), folder, 3)
            assert newest(folder).name == "step-0000002"
        assert started(config, golden_model_directory, folder, 2).wait() == 0
    assert_same_checkpoint(newest(tmp_path / "parts"), newest(tmp_path / "whole"))
