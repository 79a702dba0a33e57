"""A pipeline for benchmarks of the service: it sleeps where the real one computes, and makes flat pictures.

Everything around it is the real thing: queue, job records, files, heartbeats, deadlines. A worker takes it instead of the
real one by ``MSD_RUNTIME``, and has the rest of its settings from the environment, like any worker::

    PYTHONPATH=. MSD_RUNTIME=benchmarks.sleeping_runtime:SleepingRuntime msd worker

    MSD_BENCH_STEP_S  seconds that one step sleeps, for one picture of the model's default size; more pictures and more
                      pixels take longer in proportion, as on a device. Default 0.05; 0 does not sleep.
    MSD_BENCH_NOISE   part by which a job as a whole may be faster or slower than that, drawn from its seed; default 0.

Of the model directory only the card is read, and torch is not imported, so that a worker starts in a moment.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, Self

from PIL import Image

from ms_core.config import ModelCard
from ms_core.device.modes import MemoryMode
from ms_core.errors import StartupError
from ms_core.spec import GenerationSpec, Subject
from ms_core.spec.resolve import resolve_batch
from worker.config import WorkerSettings
from worker.job_run import Picture, Report

DEFAULT_STEP_S = 0.05


class SleepingRuntime:
    """Stands in for ``worker.runtime.PipelineRuntime``; limits and defaults of the model's card hold as there."""

    memory_mode: MemoryMode = "cpu"

    def __init__(self, card: ModelCard, model: str, device: str, step_s: float, noise: float) -> None:
        self.card = card
        self.device = device
        self._model = model
        self._step_s = step_s
        self._noise = noise

    @classmethod
    def setup(cls, settings: WorkerSettings, directory: Path, device: str) -> Self:
        """Read the model's card; arguments as ``worker.runtime.PipelineRuntime.setup``.

        Raises:
            ModelNotFoundError: the directory holds no card.
            CheckpointError: the card is not valid.
            StartupError: a variable of the environment is not a number from 0 on.
        """
        step_s = _number("MSD_BENCH_STEP_S", DEFAULT_STEP_S)
        return cls(ModelCard.load(directory), directory.name, device, step_s, _number("MSD_BENCH_NOISE", 0.0))

    def run(self, specs: list[GenerationSpec]) -> Generator[Report | list[Picture]]:
        """One flat picture for each spec, with the reports that the real pipeline gives on the way.

        Raises:
            InvalidInputError: the model's card does not allow what a spec asks for.
        """
        rows = resolve_batch(specs, self.card)
        steps, height, width = rows[0].num_kept_steps, rows[0].height, rows[0].width
        defaults = self.card.defaults
        work = len(rows) * height * width / (defaults.height * defaults.width)
        luck = random.Random(specs[0].seed).uniform(1 - self._noise, 1 + self._noise)
        yield Report("encode", 0, steps)
        yield Report("denoise", 0, steps)
        for step in range(steps):
            time.sleep(max(0.0, self._step_s * work * luck))
            yield Report("denoise", step + 1, steps)
        yield Report("decode", steps, steps)
        yield [Picture(Image.new("RGB", (width, height), _colour(spec))) for spec in specs]

    def preview(self, subject: Subject) -> Image.Image:
        """The first picture of a subject; nothing is cut out."""
        return subject.images[0]

    def recipe(self, spec: GenerationSpec) -> dict[str, Any]:
        """Says that nothing was computed."""
        return {"model": {"name": self._model, "card": self.card.name}, "values": {}, "versions": {"sleeping": True}}


def _colour(spec: GenerationSpec) -> tuple[int, int, int]:
    """A colour that goes with the seed."""
    red, green, blue = spec.seed.to_bytes(8, "big")[-3:]
    return red, green, blue


def _number(name: str, default: float) -> float:
    text = os.environ.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise StartupError(f"{name} cannot be {text!r}: give a number from 0 on.")
    return value
