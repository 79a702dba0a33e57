"""Pictures of one small model, made in several processes: each has the model, and computes with one thread."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from PIL import Image

from ms_core.sampling.pipeline import MSDiffusionPipeline
from ms_core.spec import GenerationSpec

# The model, in a process that makes pictures.
_pipelines: list[MSDiffusionPipeline] = []


def generate_in_processes(
    model: Path, processes: int, batches: Iterable[Sequence[GenerationSpec]]
) -> Iterator[list[Image.Image]]:
    """The pictures of each batch, in order; the same as one process would make.

    Args:
        model: its directory.
        processes: that work at once, each on a batch of its own.
        batches: of specs that can be made together.
    """
    # Processes begin anew, for a fork would share torch's threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, _begin_process, (model,)) as executor:
        try:
            yield from executor.map(_generate_here, batches)
        finally:
            executor.shutdown(cancel_futures=True)


def _begin_process(model: Path) -> None:
    # Ctrl-C reaches all processes; the one that started them answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _pipelines.append(MSDiffusionPipeline.from_pretrained(model))


def _generate_here(specs: Sequence[GenerationSpec]) -> list[Image.Image]:
    return [generation.image for generation in _pipelines[0].run(specs)]
