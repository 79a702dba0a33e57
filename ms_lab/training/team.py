"""Training in several processes, one thread each, whose gradients are averaged after every step.

Gradients are averaged by one call over one buffer, on CPUs (gloo) and GPUs (NCCL) alike.

On a CPU two processes of one thread see more pictures a second than one process of two threads: its threads wait for each
other at the end of every small kernel, and beside other programs they mostly wait.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed
import torch.multiprocessing as multiprocessing
from accelerate import PartialState  # pyright: ignore[reportMissingTypeStubs] - it has none
from jaxtyping import Float
from torch import Tensor, nn
from torch.multiprocessing.spawn import ProcessRaisedException

from ms_core.errors import InvalidInputError, MSDiffusionError

_dist: Any = torch.distributed

# For how long one that lost another waits for it to be heard first.
PATIENCE_SECONDS = 5.0
# A computer may sleep, or be busy with other things, between two averages; gloo gives up after half an hour. A process that
# ended is noticed at once by its closed connection.
AVERAGING_LIMIT = timedelta(days=30)
# NCCL gives up after ten minutes; meanwhile the first process may save a checkpoint and draw a sheet.
GPU_AVERAGING_LIMIT = timedelta(hours=6)


@dataclass(frozen=True, slots=True)
class Team:
    """The processes that train together.

    Attributes:
        rank: of this process; the first one, 0, writes all files.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes checkpoints, logs and sheets."""
        return self.rank == 0

    def average(self, values: Tensor) -> None:
        """Put the mean over all processes in the place of ``values``."""
        if self.size > 1:
            _dist.all_reduce(values)
            values.div_(self.size)

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.size > 1:
            _dist.barrier()


ALONE = Team()


class Gradients:
    """All gradients of a stage in one buffer, so that one call averages them."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        """Make ``parameters`` write their gradients into the buffer."""
        self._parameters = parameters
        length = sum(parameter.numel() for parameter in parameters)
        # The last number says whether any process wants to stop.
        self._values: Float[Tensor, " n"] = torch.zeros(length + 1, device=parameters[0].device)
        start = 0
        for parameter in parameters:
            end = start + parameter.numel()
            parameter.grad = self._values[start:end].view_as(parameter)
            start = end

    def clear(self) -> None:
        """Set all gradients to zero."""
        self._values.zero_()

    def average(self, team: Team, stop: bool) -> bool:
        """Average the gradients over the team; returns whether any of its processes wants to stop."""
        self._values[-1] = float(stop)
        team.average(self._values)
        return bool(self._values[-1] > 0)

    def clip(self, norm: float) -> float:
        """Scale the gradients down to this norm where theirs is larger; returns what theirs was."""
        return float(nn.utils.clip_grad_norm_(self._parameters, norm))


@contextmanager
def launched_team(device: str) -> Generator[tuple[Team, torch.device]]:
    """This process's place among those that ``accelerate launch`` or ``torchrun`` started, and its own device.

    Alone, where neither did.

    Args:
        device: cpu or cuda; several processes take one GPU each.
    """
    limit = AVERAGING_LIMIT if device == "cpu" else GPU_AVERAGING_LIMIT
    state: Any = cast("Any", PartialState)(cpu=device == "cpu", timeout=limit)
    try:
        yield Team(state.process_index, state.num_processes), state.device
    finally:
        state.destroy_process_group()


def run_team(size: int, train: Callable[..., None], *arguments: object) -> None:
    """Call ``train(team, *arguments)`` in ``size`` processes of one thread each, and wait for all of them.

    Args:
        size: at least two.
        train: a function of a module; it and its arguments must be picklable.
        arguments: of every call.

    Raises:
        InvalidInputError: they are more than the machine's cores.
        MSDiffusionError: of one of them; the others are stopped.
        torch.multiprocessing.ProcessRaisedException: one of them failed in another way; the same.
    """
    most = max(2, os.cpu_count() or 1)
    if size > most:
        raise InvalidInputError(f"{size} processes cannot train together on this machine; give at most {most}.")
    told: Any = cast("Any", multiprocessing).get_context("spawn").SimpleQueue()
    with tempfile.TemporaryDirectory() as folder:
        meeting = (Path(folder) / "meeting").as_uri()
        try:
            cast("Any", multiprocessing).spawn(_join, args=(size, meeting, told, train, arguments), nprocs=size)
        except ProcessRaisedException as error:
            if told.empty():
                raise
            raise told.get() from error


def require_cpu(device: str, processes: int) -> None:
    """Refuse to start several processes beside a GPU.

    Raises:
        InvalidInputError: that is asked for.
    """
    if processes > 1 and device != "cpu":
        raise InvalidInputError(
            f"--processes starts processes on the CPU, so it cannot be {processes} with --device {device}. Leave it out; "
            "docs/training.md says how several GPUs train together."
        )


def _join(  # noqa: PLR0913 - what a process is told
    rank: int, size: int, meeting: str, told: Any, train: Callable[..., None], arguments: tuple[object, ...]
) -> None:
    torch.set_num_threads(1)
    _dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=size, timeout=AVERAGING_LIMIT)
    try:
        train(Team(rank, size), *arguments)
    except MSDiffusionError as error:
        told.put(error)
        raise
    except RuntimeError as error:
        if "gloo" in str(error):
            # It only lost another one, which must report why it failed before this one ends.
            time.sleep(PATIENCE_SECONDS)
        raise
    finally:
        _dist.destroy_process_group()
