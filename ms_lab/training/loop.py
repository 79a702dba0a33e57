"""One resumable training loop for every stage: weights, log, sample sheet and telemetry at each checkpoint."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Generic, NoReturn, Protocol, Self, TypeVar, cast

import torch
from jaxtyping import Float
from PIL import Image
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.utils.data import IterableDataset

from ms_core.device.devices import device_errors, multiplies_bfloat16
from ms_core.errors import CheckpointError, DeviceLostError, InvalidInputError, ModelError
from ms_lab.folder_lock import sole_writer
from ms_lab.mini.batches import Share, load_batches
from ms_lab.training.checkpoints import Checkpoints, Snapshot, StageFiles
from ms_lab.training.interrupts import held_interrupts
from ms_lab.training.log import TrainingLog
from ms_lab.training.team import ALONE, Gradients, Team
from ms_lab.training.weight_average import WeightAverage

LOG, DONE, POST_MORTEM = "log.jsonl", "done.json", "post-mortem"


@dataclass(frozen=True, slots=True)
class StageConfig:
    """How long and how fast a stage trains.

    Attributes:
        pictures: to be seen in all.
        batch_size: pictures for each step, of all processes together.
        learning_rate: after the warm-up; falls linearly to zero over the last ``decay`` of the pictures.
        warmup: steps.
        decay: share of the pictures.
        weight_decay, clip_norm: of AdamW and of the gradient.
        average_decay: of the running average of the weights, for each step.
        seed: of the scenes and of every random draw.
        checkpoint_minutes: between checkpoints.
        checkpoint_steps: the same in steps; ``None`` goes by time alone.
        betas: of AdamW.
        average_every: steps between two updates of the average.
        log_every: steps between two rows of the log.
        micro_batch_size: pictures that a process computes at once; ``None``: all of its share.
        autocast: whether matrix products and convolutions run in bfloat16, where the hardware multiplies it.
    """

    pictures: int
    batch_size: int = 32
    learning_rate: float = 6e-4
    warmup: int = 100
    decay: float = 0.3
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    average_decay: float = 0.998
    seed: int = 0
    checkpoint_minutes: float = 10.0
    autocast: bool = True
    checkpoint_steps: int | None = None
    betas: tuple[float, float] = (0.9, 0.98)
    average_every: int = 4
    log_every: int = 20
    micro_batch_size: int | None = None

    def micro_batches(self, processes: int) -> tuple[int, int]:
        """How many micro-batches each process computes for one step, and how many pictures each of them has.

        Raises:
            InvalidInputError: the batch cannot be divided so.
        """
        size = self.micro_batch_size
        if size is None:
            if self.batch_size % processes:
                raise InvalidInputError(
                    f"The batch of {self.batch_size} pictures cannot be divided among {processes} processes: give another "
                    "number of --processes."
                )
            return 1, self.batch_size // processes
        if self.batch_size % (processes * size):
            raise InvalidInputError(
                f"The batch of {self.batch_size} pictures cannot be divided among {processes} processes in micro-batches of "
                f"{size}: make batch_size a multiple of {processes * size}."
            )
        return self.batch_size // (processes * size), size


class Movable(Protocol):
    """A batch."""

    def to(self, device: torch.device) -> Self:
        """The same batch on a device."""
        ...


Batch = TypeVar("Batch", bound=Movable)
BatchIn = TypeVar("BatchIn", bound=Movable, contravariant=True)


class Stage(Protocol[BatchIn]):
    """What a stage brings to the loop."""

    name: str

    @property
    def trained(self) -> nn.Module:
        """What is trained, averaged and saved."""
        ...

    def loss(self, batch: BatchIn, progress: float) -> Float[Tensor, ""]:
        """Loss of one batch, with gradients; ``progress`` runs from 0 to 1 over the stage."""
        ...

    def sheet(self) -> Image.Image | None:
        """Samples to look at, made with the averaged weights, if any."""
        ...

    def telemetry(self) -> dict[str, float]:
        """Figures on held-out artwork, measured with the averaged weights."""
        ...


def seed_everything(seed: int) -> None:
    """Seed torch's own generators, which initialise weights and draw noise in training."""
    cast("Any", torch).manual_seed(seed)


class Trainer(Generic[Batch]):
    """Trains one stage in its own folder; started again, it continues from the last checkpoint."""

    def __init__(  # noqa: PLR0913 - what a training is made of
        self,
        stage: Stage[Batch],
        config: StageConfig,
        folder: Path,
        device: torch.device | str = "cpu",
        team: Team = ALONE,
        checkpoints: Checkpoints | None = None,
        tensorboard: Path | None = None,
        loaders: int | None = None,
    ) -> None:
        """Prepare a stage whose modules are on ``device`` already.

        Args:
            stage: what is trained.
            config: for how long and how fast.
            folder: of log and sheets, and of the checkpoints by default.
            device: to train on.
            team: the processes that train this stage together, each with its own part of every batch.
            checkpoints: where they are kept; ``None``: as files of the folder.
            tensorboard: folder for TensorBoard's files; ``None`` writes none.
            loaders: processes that read ahead beside a GPU; ``None``: nearly as many as there are cores.

        Raises:
            InvalidInputError: the batches cannot be divided among the processes.
            StartupError: TensorBoard's files cannot be written.
        """
        self.stage, self.config, self.folder, self.device = stage, config, folder, torch.device(device)
        self.team = team
        self.autocast = config.autocast and multiplies_bfloat16(self.device)
        self.micro_batches, self.micro_batch_size = config.micro_batches(team.size)
        # Beside a GPU, composing the scenes is what takes the time; beside a CPU it takes next to none.
        ahead = max(1, (os.cpu_count() or 1) - 2) if loaders is None else loaders
        self.loaders = 0 if self.device.type == "cpu" else ahead
        folder.mkdir(parents=True, exist_ok=True)
        self.checkpoints = StageFiles(folder) if checkpoints is None else checkpoints
        self.log = TrainingLog(folder / LOG, stage.name, tensorboard if team.leads else None)
        parameters = [parameter for parameter in stage.trained.parameters() if parameter.requires_grad]
        self.optimizer: Any = torch.optim.AdamW(
            parameters, lr=config.learning_rate, weight_decay=config.weight_decay, betas=config.betas, fused=True
        )
        self.gradients = Gradients(parameters)
        self.average = WeightAverage(stage.trained, config.average_decay)
        self.step = self.saved_step = 0
        self.seconds = 0.0
        self.figures: dict[str, float] = {}

    @property
    def num_steps(self) -> int:
        """Steps of the whole stage."""
        return math.ceil(self.config.pictures / self.config.batch_size)

    @property
    def pictures(self) -> int:
        """Seen so far."""
        return self.step * self.config.batch_size

    def run(
        self,
        stream_of: Callable[[Share], IterableDataset[Batch]],
        minutes: float | None = None,
        begin: Callable[[], None] = lambda: None,
    ) -> bool:
        """Train until the stage is done, or for ``minutes``; returns whether it is done.

        Args:
            stream_of: the batches of this process's share.
            minutes: to train for, at most.
            begin: called by the process that writes, once no other run can write in the folder.

        Raises:
            ModelError: the loss is not a number; the batch is kept in ``post-mortem``, and the steps before are saved.
            DeviceLostError: the device failed; what the last checkpoint holds stays.
            StorageFullError: a checkpoint could not be written; the one before stays.
            StartupError: another run trains in the folder.
        """
        with sole_writer(self.folder) if self.team.leads else nullcontext():
            if self.team.leads:
                (self.folder / DONE).unlink(missing_ok=True)
                begin()
            return self._run_alone(stream_of, minutes)

    def _run_alone(self, stream_of: Callable[[Share], IterableDataset[Batch]], minutes: float | None) -> bool:
        self.resume()
        deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes
        columns = TextColumn(self.stage.name), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        bar = Progress(*columns, TextColumn("loss {task.fields[loss]}"), disable=not self.team.leads)
        with bar:
            task = bar.add_task("", total=self.num_steps, completed=self.step, loss="–")
            self._run(
                self._steps(self._batches(stream_of), deadline),
                lambda loss: bar.update(task, completed=self.step, loss=f"{loss:.4f}"),
            )
        self._show_saved()
        self.log.close()
        done = self.step >= self.num_steps
        if done and self.team.leads:
            (self.folder / DONE).write_text(json.dumps({"pictures": self.pictures}) + "\n")
        self.team.wait()
        return done

    def _run(self, steps: Iterable[float], show: Callable[[float], None]) -> None:
        """Take all steps; an interrupted run keeps every step it took."""
        try:
            with device_errors():
                for loss in steps:
                    show(loss)
        except DeviceLostError as error:
            # Nothing can be read from the device any more.
            raise DeviceLostError(
                f"{error.detail} The last checkpoint has {self.saved_step} steps; run the same command again to continue."
            ) from error
        except BaseException:
            self.save()
            raise
        self.save()

    def _batches(self, stream_of: Callable[[Share], IterableDataset[Batch]]) -> Iterator[Batch]:
        """This process's part of every batch from the next one on."""
        rank, size = self.team.rank, self.team.size
        first = self.step * self.micro_batches * size + rank
        share = Share(self.micro_batch_size, self.config.seed, first=first, every=size)
        return iter(load_batches(stream_of(share), self.loaders))

    def _steps(self, batches: Iterator[Batch], deadline: float) -> Iterable[float]:
        """Take steps until the stage or the time ends; yields the loss."""
        if self.step >= self.num_steps:
            return
        checkpoint_at = time.monotonic() + 60 * self.config.checkpoint_minutes
        while parts := list(islice(batches, self.micro_batches)):
            started = time.monotonic()
            loss, stop = self._train(parts, stop=started > deadline)
            self.seconds += time.monotonic() - started
            if self.step % self.config.log_every == 0:
                self._log({"loss": loss, "learning_rate": self.learning_rate()})
            yield loss
            if self.step >= self.num_steps or stop:
                return
            if time.monotonic() > checkpoint_at or self._is_checkpoint():
                self.save()
                self._show_saved()
                checkpoint_at = time.monotonic() + 60 * self.config.checkpoint_minutes

    def _is_checkpoint(self) -> bool:
        """Whether the configuration asks for a checkpoint after so many steps."""
        return self.config.checkpoint_steps is not None and self.step % self.config.checkpoint_steps == 0

    def _train(self, parts: Sequence[Batch], stop: bool) -> tuple[float, bool]:
        """Take one step; returns the loss, and whether any process of the team wants this step to be the last."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        seed_everything(self.config.seed * 1_000_003 + self.step * self.team.size + self.team.rank)
        self.gradients.clear()
        loss = sum(self._backward(batch) for batch in parts)
        stop = self.gradients.average(self.team, stop)
        norm = self.gradients.clip(self.config.clip_norm)
        if not math.isfinite(norm):
            self._give_up(parts, loss)
        # Weights, their average and the number of steps are saved together.
        with held_interrupts():
            self.optimizer.step()
            self.step += 1
            if self.step % self.config.average_every == 0:
                self.average.update(self.config.average_every)
        return loss, stop

    def _backward(self, batch: Batch) -> float:
        """Add one micro-batch's gradients; returns its part of the loss."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            loss: Any = self.stage.loss(batch.to(self.device), self.step / self.num_steps)
        if self.micro_batches > 1:
            loss = loss / self.micro_batches
        loss.backward()
        return float(loss.detach())

    def _give_up(self, parts: Sequence[Batch], loss: float) -> NoReturn:
        """Keep a batch whose gradients are not numbers, and stop; every process of the team comes here at once."""
        path = self.folder / POST_MORTEM / f"step-{self.step:07d}-process-{self.team.rank}.pt"
        path.parent.mkdir(exist_ok=True)
        torch.save(list(parts), path)
        raise ModelError(
            f"The loss of step {self.step + 1} is {loss} and its gradients are not numbers. The {self.step} steps before are "
            f"saved, and the batch is kept in {path}. A smaller learning_rate or clip_norm may help, in a run of its own."
        )

    def learning_rate(self) -> float:
        """Of the next step: linear warm-up, level, linear fall to zero."""
        rise = min(1.0, (self.step + 1) / self.config.warmup)
        fall = min(1.0, (1 - self.step / self.num_steps) / self.config.decay) if self.config.decay else 1.0
        return self.config.learning_rate * max(0.0, min(rise, fall))

    def save(self) -> None:
        """Write weights, their average and the optimiser."""
        if not self.team.leads:
            return
        self.average.put_back()
        weights = _on_host(self.stage.trained)
        with self.average.in_place():
            average = _on_host(self.stage.trained)
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "optimizer": self.optimizer.state_dict(),
            "shadow": self.average.shadow,
            "updates": self.average.updates,
        }
        self.checkpoints.write(Snapshot(weights, average, state, self._facts()))
        self.saved_step = self.step

    def _facts(self) -> dict[str, Any]:
        return {"pictures": self.pictures, "minutes": round(self.seconds / 60, 1)}

    def _show_saved(self) -> None:
        """Show the step that has just been saved, and note its figures with it."""
        self.show()
        if self.team.leads:
            self.checkpoints.note({**self._facts(), **self.figures})

    @torch.no_grad()
    def show(self) -> None:
        """Make a sheet and telemetry with the averaged weights."""
        if not self.team.leads:
            return
        with self.average.in_place():
            sheet = self.stage.sheet()
            if sheet is not None:
                sheet.save(self.folder / f"sheet-{self.pictures:07d}.png")
            self.figures = self.stage.telemetry()
            self._log(self.figures)

    def resume(self) -> None:
        """Load the last checkpoint, if there is one; weights without a state start a fresh optimiser."""
        found = self.checkpoints.read(self.device)
        if found is None:
            return
        weights, state = found
        try:
            self.stage.trained.load_state_dict(weights)
        except RuntimeError as error:
            raise CheckpointError(f"The checkpoint in {self.folder.name} is of another model: {error}") from error
        self.average = WeightAverage(self.stage.trained, self.config.average_decay)
        if state is None:
            return
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = self.saved_step = state["step"]
        self.seconds = state["seconds"]
        self.average.shadow, self.average.updates = state["shadow"], state["updates"]
        if self.team.leads:
            self.log.forget_after(self.pictures)

    def _log(self, values: dict[str, float]) -> None:
        if self.team.leads:
            self.log.write(self.pictures, self.seconds, values)


def _on_host(module: nn.Module) -> dict[str, Tensor]:
    """A copy of a module's weights, in the host's memory."""
    return {name: value.to("cpu", copy=True).contiguous() for name, value in module.state_dict().items()}
