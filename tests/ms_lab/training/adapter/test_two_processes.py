"""The step of two processes, and that of micro-batches, is the step of one process with the joined batch."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from ms_core.errors import InvalidInputError
from ms_lab.mini.sprites import SpritePack
from ms_lab.training import mini
from ms_lab.training.adapter import run
from ms_lab.training.adapter.config import AdapterConfig
from ms_lab.training.adapter.run import AdapterTraining
from ms_lab.training.loop import StageConfig
from ms_lab.training.mini import FULL, default_processes
from ms_lab.training.team import ALONE, Team, run_team
from tests.ms_lab.training.adapter.small_set import small_config
from tests.support.paths import ASSETS


def joined(folder: Path, micro_batch_size: int) -> AdapterConfig:
    """One step of eight pictures whose gradients are not clipped; many drops, so that rows differ in kind.

    With fewer than four rows at once the CPU takes other kernels, which round otherwise (2e-6 here).
    """
    return small_config(
        folder,
        train={
            "steps": 1,
            "batch_size": 8,
            "micro_batch_size": micro_batch_size,
            "clip_norm": 1e9,
            "min_snr_gamma": 5.0,
        },
        drops={"text": 0.2, "image": 0.2, "both": 0.1, "grounding": 0.3},
    )


def write_gradients(team: Team, config: AdapterConfig, directory: Path, folder: Path) -> None:
    """Take the step and keep its gradients."""
    training = AdapterTraining(config, directory, folder, team=team)
    assert training.run()
    gradients = {name: weight.grad for name, weight in training.stage.trained.named_parameters()}
    torch.save(gradients, folder / f"gradients-{team.rank}.pt")


def difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Norm of the difference by the norm of the gradients."""
    apart = sum(float((one[name] - other[name]).double().square().sum()) for name in one)
    return (apart / sum(float(value.double().square().sum()) for value in one.values())) ** 0.5


@pytest.fixture(scope="module")
def gradients(
    golden_model_directory: Path, small_set: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, torch.Tensor]:
    """Of one process with the whole batch at once."""
    folder = tmp_path_factory.mktemp("joined")
    write_gradients(ALONE, joined(small_set, 8), golden_model_directory, folder)
    return torch.load(folder / "gradients-0.pt")


def test_micro_batches_give_the_gradients_of_the_batch(
    gradients: dict[str, torch.Tensor], golden_model_directory: Path, small_set: Path, tmp_path: Path
) -> None:
    write_gradients(ALONE, joined(small_set, 4), golden_model_directory, tmp_path)
    assert difference(gradients, torch.load(tmp_path / "gradients-0.pt")) < 1e-6


@pytest.mark.slow
def test_two_processes_give_the_gradients_of_one(
    gradients: dict[str, torch.Tensor], golden_model_directory: Path, small_set: Path, tmp_path: Path
) -> None:
    run_team(2, write_gradients, joined(small_set, 4), golden_model_directory, tmp_path)
    first, second = (torch.load(tmp_path / f"gradients-{rank}.pt") for rank in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert difference(gradients, first) < 1e-6


def test_a_batch_that_cannot_be_divided_is_refused() -> None:
    config = StageConfig(pictures=10, batch_size=10, micro_batch_size=4)
    with pytest.raises(
        InvalidInputError, match="among 2 processes in micro-batches of 4: make batch_size a multiple of 8"
    ):
        config.micro_batches(2)
    assert StageConfig(pictures=24, batch_size=24, micro_batch_size=4).micro_batches(2) == (3, 4)
    assert StageConfig(pictures=24, batch_size=24).micro_batches(2) == (1, 12)
    with pytest.raises(InvalidInputError, match="16 pictures cannot be divided among 3 processes"):
        StageConfig(pictures=32, batch_size=16).micro_batches(3)


@pytest.mark.parametrize(("cores", "count"), [(1, 1), (2, 2), (3, 2), (4, 4), (6, 4), (None, 1)])
def test_as_many_processes_are_started_as_share_a_batch_evenly(
    monkeypatch: pytest.MonkeyPatch, cores: int | None, count: int
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert default_processes("cpu") == count
    assert default_processes("cuda") == 1
    for stage in (FULL.vae, FULL.references, FULL.base):
        assert stage.micro_batches(count) == (1, stage.batch_size // count)


def test_more_processes_than_can_share_a_batch_are_refused_before_any_is_started(
    golden_model_directory: Path, small_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for room in (run, mini):
        monkeypatch.setattr(room, "run_team", lambda *_: pytest.fail("processes were started"))
    with pytest.raises(InvalidInputError, match="among 20000 processes"):
        run.train_adapter(small_config(small_set), golden_model_directory, tmp_path, "cpu", 20000)
    pack = SpritePack.load(ASSETS / mini.SMOKE_PACK).subset(range(4))
    with pytest.raises(InvalidInputError, match="among 20000 processes"):
        mini.train_model(tmp_path, pack, pack, mini.SMOKE, "cpu", 20000)
    assert not list(tmp_path.iterdir())
