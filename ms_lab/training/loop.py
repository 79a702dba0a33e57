"""One resumable training loop for every stage: weights, log, sample sheet and telemetry at each checkpoint."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar, cast

import torch
from jaxtyping import Float
from PIL import Image
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import (
    load_file,  # pyright: ignore[reportUnknownVariableType] - safetensors leaves PathLike's parameter open
    save_file,  # pyright: ignore[reportUnknownVariableType] - the same
)
from torch import Tensor, nn
from torch.utils.data import IterableDataset

from ms_core.device.devices import multiplies_bfloat16
from ms_core.errors import CheckpointError
from ms_lab.mini.batches import Share, load_batches
from ms_lab.training.team import ALONE, Gradients, Team

WEIGHTS, AVERAGE, STATE, LOG, DONE = "weights.safetensors", "average.safetensors", "state.pt", "log.jsonl", "done.json"


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

    def sheet(self) -> Image.Image:
        """Samples to look at, made with the averaged weights."""
        ...

    def telemetry(self) -> dict[str, float]:
        """Figures on held-out artwork, measured with the averaged weights."""
        ...


def seed_everything(seed: int) -> None:
    """Seed torch's own generators, which initialise weights and draw noise in training."""
    cast("Any", torch).manual_seed(seed)


class WeightAverage:
    """Exponential moving average of a module's trainable weights; ``swap`` puts it in their place and back."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self.names = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
        self.shadow = [parameter.detach().clone() for parameter in self.parameters]
        self.updates = 0

    @torch.no_grad()
    def update(self, steps: int) -> None:
        """Move the average towards the weights, as ``steps`` single updates would."""
        self.updates += steps
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates)) ** steps
        for shadow, parameter in zip(self.shadow, self.parameters, strict=True):
            shadow.lerp_(parameter.detach(), 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange weights and average."""
        for parameter, shadow in zip(self.parameters, self.shadow, strict=True):
            kept = parameter.detach().clone()
            parameter.copy_(shadow)
            shadow.copy_(kept)


class Trainer(Generic[Batch]):
    """Trains one stage in its own folder; started again, it continues from the last checkpoint."""

    AVERAGE_EVERY = 4
    LOG_EVERY = 20

    def __init__(
        self,
        stage: Stage[Batch],
        config: StageConfig,
        folder: Path,
        device: torch.device | str = "cpu",
        team: Team = ALONE,
    ) -> None:
        """Prepare a stage whose modules are on ``device`` already.

        Args:
            stage: what is trained.
            config: for how long and how fast.
            folder: of the checkpoints.
            device: to train on.
            team: the processes that train this stage together, each with its own part of every batch.
        """
        self.stage, self.config, self.folder, self.device = stage, config, folder, torch.device(device)
        self.team = team
        self.autocast = config.autocast and multiplies_bfloat16(self.device)
        folder.mkdir(parents=True, exist_ok=True)
        parameters = [parameter for parameter in stage.trained.parameters() if parameter.requires_grad]
        self.optimizer: Any = torch.optim.AdamW(
            parameters, lr=config.learning_rate, weight_decay=config.weight_decay, betas=(0.9, 0.98), fused=True
        )
        self.gradients = Gradients(parameters)
        self.average = WeightAverage(stage.trained, config.average_decay)
        self.step = 0
        self.seconds = 0.0

    @property
    def num_steps(self) -> int:
        """Steps of the whole stage."""
        return math.ceil(self.config.pictures / self.config.batch_size)

    def run(self, stream_of: Callable[[Share], IterableDataset[Batch]], minutes: float | None = None) -> bool:
        """Train until the stage is done, or for ``minutes``; returns whether it is done.

        Args:
            stream_of: the batches of this process's share.
            minutes: to train for, at most.
        """
        self.resume()
        deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes
        columns = TextColumn(self.stage.name), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        bar = Progress(*columns, TextColumn("loss {task.fields[loss]:.4f}"), disable=not self.team.leads)
        with bar:
            task = bar.add_task("", total=self.num_steps, completed=self.step, loss=math.nan)
            try:
                for loss in self._steps(self._batches(stream_of), deadline):
                    bar.update(task, completed=self.step, loss=loss)
            finally:
                # An interrupted run keeps every step it took.
                self.save()
        self.show()
        done = self.step >= self.num_steps
        if done and self.team.leads:
            (self.folder / DONE).write_text(json.dumps({"pictures": self.step * self.config.batch_size}) + "\n")
        self.team.wait()
        return done

    def _batches(self, stream_of: Callable[[Share], IterableDataset[Batch]]) -> Iterable[Batch]:
        """This process's part of every batch from the next one on."""
        rank, size = self.team.rank, self.team.size
        share = Share(self.config.batch_size // size, self.config.seed, first=self.step * size + rank, every=size)
        # Beside a GPU, composing the scenes is what takes the time; beside a CPU it takes next to none.
        processes = 0 if self.device.type == "cpu" else max(1, (os.cpu_count() or 1) - 2)
        return load_batches(stream_of(share), processes)

    def _steps(self, batches: Iterable[Batch], deadline: float) -> Iterable[float]:
        """Take steps until the stage or the time ends; yields the loss."""
        if self.step >= self.num_steps:
            return
        checkpoint_at = time.monotonic() + 60 * self.config.checkpoint_minutes
        for batch in batches:
            started = time.monotonic()
            loss, stop = self._train(batch, stop=started > deadline)
            self.seconds += time.monotonic() - started
            if self.step % self.LOG_EVERY == 0:
                self._log({"loss": loss, "learning_rate": self.learning_rate()})
            yield loss
            if self.step >= self.num_steps or stop:
                return
            if time.monotonic() > checkpoint_at:
                self.save()
                self.show()
                checkpoint_at = time.monotonic() + 60 * self.config.checkpoint_minutes

    def _train(self, batch: Batch, stop: bool) -> tuple[float, bool]:
        """Take one step; returns the loss, and whether any process of the team wants this step to be the last."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        seed_everything(self.config.seed * 1_000_003 + self.step * self.team.size + self.team.rank)
        self.gradients.clear()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            loss: Any = self.stage.loss(batch.to(self.device), self.step / self.num_steps)
        loss.backward()
        stop = self.gradients.average(self.team, stop)
        self.gradients.clip(self.config.clip_norm)
        self.optimizer.step()
        self.step += 1
        if self.step % self.AVERAGE_EVERY == 0:
            self.average.update(self.AVERAGE_EVERY)
        return float(loss.detach()), stop

    def learning_rate(self) -> float:
        """Of the next step: linear warm-up, level, linear fall to zero."""
        rise = min(1.0, (self.step + 1) / self.config.warmup)
        fall = min(1.0, (1 - self.step / self.num_steps) / self.config.decay)
        return self.config.learning_rate * max(0.0, min(rise, fall))

    def save(self) -> None:
        """Write weights, their average and the optimiser."""
        if not self.team.leads:
            return
        trained = self.stage.trained.state_dict()
        save_file({name: value.cpu().contiguous() for name, value in trained.items()}, self.folder / WEIGHTS)
        torch.save(
            {
                "step": self.step,
                "seconds": self.seconds,
                "optimizer": self.optimizer.state_dict(),
                "shadow": self.average.shadow,
                "updates": self.average.updates,
            },
            self.folder / STATE,
        )
        self.average.swap()
        averaged = self.stage.trained.state_dict()
        save_file({name: value.cpu().contiguous() for name, value in averaged.items()}, self.folder / AVERAGE)
        self.average.swap()

    @torch.no_grad()
    def show(self) -> None:
        """Make a sheet and telemetry with the averaged weights."""
        if not self.team.leads:
            return
        self.average.swap()
        try:
            self.stage.sheet().save(self.folder / f"sheet-{self.step * self.config.batch_size:07d}.png")
            self._log(self.stage.telemetry())
        finally:
            self.average.swap()

    def resume(self) -> None:
        """Load the last checkpoint, if there is one; weights without a state start a fresh optimiser."""
        if not (self.folder / WEIGHTS).is_file():
            return
        try:
            self.stage.trained.load_state_dict(load_file(self.folder / WEIGHTS))
        except RuntimeError as error:
            raise CheckpointError(f"{self.folder.name}/{WEIGHTS} is of another model: {error}") from error
        self.average = WeightAverage(self.stage.trained, self.config.average_decay)
        if not (self.folder / STATE).is_file():
            return
        state = torch.load(self.folder / STATE, map_location=self.device, weights_only=True)
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.average.shadow, self.average.updates = state["shadow"], state["updates"]

    def _log(self, values: dict[str, float]) -> None:
        if not self.team.leads:
            return
        row = {"stage": self.stage.name, "pictures": self.step * self.config.batch_size, "seconds": self.seconds}
        row |= values
        rounded = {key: round(value, 6) if isinstance(value, float) else value for key, value in row.items()}
        with (self.folder / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(rounded) + "\n")
