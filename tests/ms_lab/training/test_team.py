"""Several processes that train one model."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import nn
from torch.multiprocessing import ProcessRaisedException

from ms_core.errors import InvalidInputError
from ms_lab.mini.batches import SceneStream
from ms_lab.mini.random_scenes import PLAIN_SCENES
from ms_lab.mini.sprites import SpritePack
from ms_lab.training import team as team_room
from ms_lab.training.loop import DONE, StageConfig, Trainer
from ms_lab.training.team import ALONE, Gradients, Team, require_cpu, run_team
from tests.ms_lab.training.mean_colour import MeanColour
from tests.support.paths import ASSETS


@pytest.fixture
def layer() -> nn.Linear:
    return nn.Linear(2, 2)


def test_gradients_gather_in_one_buffer(layer: nn.Linear) -> None:
    gradients = Gradients(list(layer.parameters()))
    layer(torch.ones(1, 2)).sum().backward()
    layer(torch.ones(1, 2)).sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.tolist() == [[2.0, 2.0], [2.0, 2.0]]
    gradients.clear()
    assert layer.weight.grad.tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_large_gradients_are_clipped_and_small_ones_left(layer: nn.Linear) -> None:
    gradients = Gradients(list(layer.parameters()))
    layer(torch.ones(1, 2)).sum().backward()
    gradients.clip(100.0)
    assert layer.weight.grad is not None
    assert layer.weight.grad.tolist() == [[1.0, 1.0], [1.0, 1.0]]
    gradients.clip(1.0)
    total = sum(float(parameter.grad.square().sum()) for parameter in layer.parameters())
    assert total == pytest.approx(1.0, abs=1e-4)


def test_alone_one_stops_when_one_wants(layer: nn.Linear) -> None:
    gradients = Gradients(list(layer.parameters()))
    assert not gradients.average(ALONE, stop=False)
    assert gradients.average(ALONE, stop=True)


def test_more_processes_than_cores_are_refused_before_any_starts() -> None:
    with pytest.raises(InvalidInputError, match="20000 processes cannot train together on this machine; give at most"):
        run_team(20_000, _average_and_stop)


def _average_and_stop(team: Team, folder: Path) -> None:
    layer = nn.Linear(1, 1)
    gradients = Gradients(list(layer.parameters()))
    layer(torch.tensor([[float(team.rank)]])).sum().backward()
    stop = gradients.average(team, stop=team.rank == 1)
    team.wait()
    torch.save((layer.weight.grad, stop, torch.get_num_threads()), folder / f"{team.rank}.pt")


def _tell_patience(team: Team, folder: Path) -> None:
    group: Any = cast("Any", torch.distributed.distributed_c10d)._get_default_group()  # noqa: SLF001 - nothing public tells
    patience: timedelta = group._get_backend(torch.device("cpu")).options._timeout  # noqa: SLF001 - the same
    (folder / f"{team.rank}").write_text(str(patience.total_seconds()))


def _fail_in_the_second(team: Team) -> None:
    if team.rank == 1:
        raise ValueError("out of artwork")
    team.wait()


def _refuse(team: Team) -> None:
    raise InvalidInputError("The box is outside.")


def _train(team: Team, folder: Path) -> None:
    pack = SpritePack.load(ASSETS / "smoke-sprites.zip")
    stage = MeanColour()
    config = StageConfig(pictures=8, batch_size=4, learning_rate=0.1, warmup=1, average_decay=0.5)
    trainer = Trainer(stage, config, folder / "stage", team=team)
    assert trainer.run(partial(SceneStream, pack, PLAIN_SCENES))
    torch.save(stage.trained.weight.detach(), folder / f"{team.rank}.pt")


@pytest.mark.faults
def test_two_processes_average_gradients_and_stop_together(tmp_path: Path) -> None:
    run_team(2, _average_and_stop, tmp_path)
    for rank in (0, 1):
        gradient, stop, threads = torch.load(tmp_path / f"{rank}.pt")
        assert gradient.item() == 0.5
        assert stop
        assert threads == 1


@pytest.mark.faults
def test_one_that_fails_ends_all(tmp_path: Path) -> None:
    with pytest.raises(ProcessRaisedException, match="out of artwork"):
        run_team(2, _fail_in_the_second)


@pytest.mark.faults
def test_an_error_of_ours_comes_as_it_is() -> None:
    with pytest.raises(InvalidInputError, match="^The box is outside[.]$"):
        run_team(2, _refuse)


def test_processes_of_a_cpu_are_not_started_beside_a_gpu() -> None:
    require_cpu("cpu", 2)
    require_cpu("cuda", 1)
    with pytest.raises(InvalidInputError, match="cannot be 2 with --device cuda"):
        require_cpu("cuda", 2)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_launched_processes_wait_while_the_first_one_saves(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    asked: dict[str, Any] = {}

    class State:
        process_index, num_processes, device = 1, 2, torch.device("cpu")

        def __init__(self, **named: Any) -> None:
            asked.update(named)

        def destroy_process_group(self) -> None:
            pass

    monkeypatch.setattr(team_room, "PartialState", State)
    with team_room.launched_team(device) as (own, _):
        assert own == Team(1, 2)
    assert asked["cpu"] == (device == "cpu")
    assert asked["timeout"] >= timedelta(hours=1)


@pytest.mark.faults
def test_processes_wait_for_each_other_while_a_computer_sleeps(tmp_path: Path) -> None:
    run_team(2, _tell_patience, tmp_path)
    day_s = 24 * 3600.0
    assert [float((tmp_path / name).read_text()) > day_s for name in ("0", "1")] == [True, True]


@pytest.mark.slow
def test_two_processes_train_one_model_and_one_writes_it(tmp_path: Path) -> None:
    run_team(2, _train, tmp_path)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert torch.equal(first, second)
    assert float(first.abs().sum()) > 0
    assert (tmp_path / "stage" / DONE).is_file()
    # One row for each step would be written twice if both wrote.
    assert len((tmp_path / "stage" / "log.jsonl").read_text().splitlines()) == 1
