"""What ends a training early: it says what and where, and no finished step is lost."""

from __future__ import annotations

import errno
import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import IterableDataset

from ms_core.errors import (
    CheckpointError,
    DeviceLostError,
    DeviceOutOfMemoryError,
    ModelError,
    StartupError,
    StorageFullError,
)
from ms_lab.data.writing import files
from ms_lab.mini.batches import Share
from ms_lab.training import checkpoints, loop
from ms_lab.training.checkpoints import AVERAGE, STATE, WEIGHTS, Snapshot, StageFiles
from ms_lab.training.log import TrainingLog
from ms_lab.training.loop import DONE, LOG, StageConfig, Trainer
from ms_lab.training.weight_average import WeightAverage


class Numbers:
    """A batch: the numbers of its rows."""

    def __init__(self, numbers: list[int]) -> None:
        self.numbers = numbers

    def to(self, device: torch.device) -> Numbers:
        return self


class NumberStream(IterableDataset[Numbers]):
    def __init__(self, share: Share) -> None:
        self.share = share

    def __iter__(self) -> Iterator[Numbers]:
        size = self.share.batch_size
        return (Numbers(list(range(number * size, (number + 1) * size))) for number in self.share.numbers())


class Counting:
    """A stage that learns one number, and fails at a row."""

    name = "counting"

    def __init__(self, at: int = -1, error: Exception | None = None) -> None:
        self.trained = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.trained.weight)
        self.at, self.error = at, error
        self.seen: list[int] = []

    def loss(self, batch: Numbers, progress: float) -> Tensor:
        if self.at in batch.numbers and self.error is not None:
            raise self.error
        self.seen += batch.numbers
        target = float("nan") if self.at in batch.numbers else 1.0
        return (self.trained.weight - target).square().mean()

    def sheet(self) -> Image.Image | None:
        return None

    def telemetry(self) -> dict[str, float]:
        return {"weight": float(self.trained.weight.detach())}


def trainer(folder: Path, stage: Counting, **changes: object) -> Trainer[Numbers]:
    values = {
        "pictures": 32,
        "batch_size": 4,
        "micro_batch_size": 2,
        "warmup": 1,
        "log_every": 1,
        "checkpoint_steps": 2,
    }
    return Trainer(stage, StageConfig(**{**values, **changes}), folder)


def step_on_disk(folder: Path) -> int:
    return torch.load(folder / STATE, weights_only=True)["step"]


def test_micro_batches_make_up_the_batches_in_order(tmp_path: Path) -> None:
    stage = Counting()
    assert trainer(tmp_path, stage).run(NumberStream)
    assert stage.seen == list(range(32))


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_batch(tmp_path: Path) -> None:
    stage = Counting(at=14)
    with pytest.raises(ModelError, match=r"loss of step 4 is nan .* The 3 steps before are saved"):
        trainer(tmp_path, stage).run(NumberStream)
    assert step_on_disk(tmp_path) == 3
    assert bool(torch.isfinite(stage.trained.weight).all())
    [kept] = (tmp_path / "post-mortem").iterdir()
    assert kept.name == "step-0000003-process-0.pt"
    parts = torch.load(kept, weights_only=False)
    assert [batch.numbers for batch in parts] == [[12, 13], [14, 15]]


def test_a_lost_device_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    lost = torch.AcceleratorError("CUDA error: unspecified launch failure")
    with pytest.raises(DeviceLostError, match=r"last checkpoint has 2 steps; run the same command again"):
        trainer(tmp_path, Counting(at=14, error=lost)).run(NumberStream)
    assert step_on_disk(tmp_path) == 2
    again = Counting()
    assert trainer(tmp_path, again).run(NumberStream)
    assert again.seen == list(range(8, 32))


def test_too_little_memory_keeps_every_step(tmp_path: Path) -> None:
    with pytest.raises(DeviceOutOfMemoryError):
        trainer(tmp_path, Counting(at=14, error=torch.OutOfMemoryError("CUDA out of memory"))).run(NumberStream)
    assert step_on_disk(tmp_path) == 3


def test_rows_that_a_killed_run_wrote_after_its_checkpoint_are_dropped(tmp_path: Path) -> None:
    trainer(tmp_path, Counting(), pictures=16).run(NumberStream)
    rows = (tmp_path / LOG).read_text()
    with (tmp_path / LOG).open("a") as file:
        file.write('{"stage": "counting", "pictures": 20, "seconds": 1.0, "loss": 1.0}\n{"stage": "cou')
    trainer(tmp_path, Counting()).resume()
    assert (tmp_path / LOG).read_text() == rows


def test_without_decay_the_learning_rate_stays(tmp_path: Path) -> None:
    own = trainer(tmp_path, Counting(), decay=0.0, learning_rate=0.5)
    rates = []
    for own.step in range(8):
        rates.append(own.learning_rate())
    assert rates == [0.5] * 8


def test_an_average_without_decay_is_the_weights(tmp_path: Path) -> None:
    own = trainer(tmp_path, Counting(), average_decay=0.0, average_every=1)
    own.run(NumberStream)
    assert torch.equal(own.average.shadow[0], own.stage.trained.weight)


def test_tensorboard_gets_every_figure(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event

    log = TrainingLog(tmp_path / LOG, "adapter", tmp_path / "tensorboard")
    log.write(8, 1.5, {"loss": 0.25, "learning_rate": 1e-4})
    log.write(16, 2.5, {"loss": 0.125})
    log.close()
    [path] = (tmp_path / "tensorboard").iterdir()
    content, found = path.read_bytes(), []
    while content:
        length = int.from_bytes(content[:8], "little")
        event = Event.FromString(content[12 : 12 + length])
        found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
        content = content[12 + length + 4 :]
    assert found == [
        ("adapter/loss", 8, 0.25),
        ("adapter/learning_rate", 8, pytest.approx(1e-4)),
        ("adapter/loss", 16, 0.125),
    ]
    assert [json.loads(line)["loss"] for line in (tmp_path / LOG).read_text().splitlines()] == [0.25, 0.125]


def test_without_the_package_tensorboard_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tensorboardX", None)
    with pytest.raises(StartupError, match="tensorboard = false"):
        TrainingLog(tmp_path / LOG, "adapter", tmp_path / "tensorboard")


def test_a_second_run_in_the_same_folder_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    begun: list[str] = []

    class Twice(Counting):
        def loss(self, batch: Numbers, progress: float) -> Tensor:
            with pytest.raises(StartupError, match="Another run works"):
                trainer(tmp_path, Counting()).run(NumberStream, begin=lambda: begun.append("second"))
            return super().loss(batch, progress)

    assert trainer(tmp_path, Twice()).run(NumberStream, begin=lambda: begun.append("first"))
    assert begun == ["first"]
    # The folder is free again.
    assert trainer(tmp_path, Counting()).run(NumberStream)


def interrupting(call: Callable[..., object], at: int) -> Callable[..., object]:
    """The same call, which is met by Ctrl-C as it ends for the ``at``-th time."""
    calls: list[int] = []

    def wrapped(*arguments: object, **named: object) -> object:
        found = call(*arguments, **named)
        calls.append(1)
        if len(calls) == at:
            signal.raise_signal(signal.SIGINT)
        return found

    return wrapped


def interrupt_step(own: Trainer[Numbers], patch: pytest.MonkeyPatch) -> None:
    patch.setattr(own.optimizer, "step", interrupting(own.optimizer.step, 3))


def interrupt_average(own: Trainer[Numbers], patch: pytest.MonkeyPatch) -> None:
    patch.setattr(WeightAverage, "update", interrupting(WeightAverage.update, 3))


def interrupt_save(own: Trainer[Numbers], patch: pytest.MonkeyPatch) -> None:
    # The second copy is of the average, in the place of the weights.
    patch.setattr(loop, "_on_host", interrupting(loop._on_host, 2))


def interrupt_show(own: Trainer[Numbers], patch: pytest.MonkeyPatch) -> None:
    patch.setattr(own.stage, "telemetry", interrupting(own.stage.telemetry, 1))


@pytest.mark.parametrize("interrupt", [interrupt_step, interrupt_average, interrupt_save, interrupt_show])
def test_ctrl_c_at_any_moment_loses_nothing_and_changes_nothing(
    tmp_path: Path, interrupt: Callable[[Trainer[Numbers], pytest.MonkeyPatch], None]
) -> None:
    whole = trainer(tmp_path / "whole", Counting(), average_every=1)
    assert whole.run(NumberStream)
    with pytest.MonkeyPatch.context() as patch:
        own = trainer(tmp_path / "stopped", Counting(), average_every=1)
        interrupt(own, patch)
        with pytest.raises(KeyboardInterrupt):
            own.run(NumberStream)
    assert step_on_disk(tmp_path / "stopped") >= 2
    again = trainer(tmp_path / "stopped", Counting(), average_every=1)
    assert again.run(NumberStream)
    assert torch.equal(again.stage.trained.weight, whole.stage.trained.weight)
    assert torch.equal(again.average.shadow[0], whole.average.shadow[0])


def snapshot(step: int) -> Snapshot:
    weights = {"weight": torch.full((2,), float(step))}
    return Snapshot(weights, weights, {"step": step}, {})


def kept(folder: Path) -> tuple[float, int, float]:
    """Of a stage's files: the weights, the step and the average."""
    found = StageFiles(folder).read(torch.device("cpu"))
    assert found is not None
    weights, state = found
    assert state is not None
    return float(weights["weight"][0]), state["step"], float(load_file(folder / AVERAGE)["weight"][0])


@pytest.mark.parametrize("whole", [0, 1, 2])
def test_a_stage_that_is_killed_while_it_saves_goes_on_from_one_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: int
) -> None:
    StageFiles(tmp_path).write(snapshot(1))
    written: list[Path] = []

    def write(path: Path, content: bytes) -> None:
        if len(written) == whole:
            raise KeyboardInterrupt
        written.append(path)
        files.write_whole(path, content)

    monkeypatch.setattr(checkpoints, "write_whole", write)
    with pytest.raises(KeyboardInterrupt):
        StageFiles(tmp_path).write(snapshot(2))
    weights, step, average = kept(tmp_path)
    assert weights == step
    # A step that is saved has its average.
    assert average >= step


def test_a_disk_that_is_full_leaves_what_a_stage_had_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    StageFiles(tmp_path).write(snapshot(1))

    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(StorageFullError, match=r"average\.safetensors could not be written"):
        StageFiles(tmp_path).write(snapshot(2))
    assert kept(tmp_path) == (1.0, 1, 1.0)


def test_a_stage_that_an_earlier_version_saved_goes_on(tmp_path: Path) -> None:
    """Its weights were in their own file alone."""
    StageFiles(tmp_path).write(snapshot(1))
    torch.save({"step": 1}, tmp_path / STATE)
    assert kept(tmp_path) == (1.0, 1, 1.0)


@pytest.mark.parametrize("name", [STATE, WEIGHTS])
def test_a_damaged_file_of_a_stage_is_told(tmp_path: Path, name: str) -> None:
    StageFiles(tmp_path).write(snapshot(1))
    if name == WEIGHTS:
        (tmp_path / STATE).unlink()
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:20])
    with pytest.raises(CheckpointError, match="cannot be read .* remove the folder to train it anew"):
        StageFiles(tmp_path).read(torch.device("cpu"))


def test_a_run_that_goes_on_is_not_done(tmp_path: Path) -> None:
    assert trainer(tmp_path, Counting()).run(NumberStream)
    assert (tmp_path / DONE).is_file()
    assert not trainer(tmp_path, Counting(), pictures=64).run(NumberStream, minutes=0.0)
    assert not (tmp_path / DONE).is_file()
