"""Another try after a device ran out of memory: everything freed, in the next smaller mode, one picture at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace

from ms_core.device.devices import release_memory
from ms_core.device.modes import smaller_mode
from ms_core.device.residency import Residency
from ms_core.errors import DeviceOutOfMemoryError
from ms_core.sampling.draws import Draw
from ms_core.sampling.events import Event, Finished, Generation, Progress
from ms_core.spec import GenerationWarning

log = logging.getLogger(__name__)

# Makes the pictures of one batch: its progress, and the pictures last.
MakeBatch = Callable[[Sequence[Draw]], Generator[Event]]


def make_with_retry(make: MakeBatch, batch: Sequence[Draw], residency: Residency) -> Generator[Event]:
    """The events of a batch; when memory runs out, those of one more try, which begin at the first step again.

    The pictures are the same: size, steps and seeds stay. Each carries a warning ``memory_retry``. The mode is the former
    one again afterwards.

    Raises:
        DeviceOutOfMemoryError: the second try failed as well, or there is no way to need less.
    """
    failure = yield from _try(make(batch))
    if failure is None:
        return
    release_memory(residency.device)
    mode = smaller_mode(residency.mode)
    if mode == residency.mode and len(batch) == 1:
        raise DeviceOutOfMemoryError(failure)
    warning = GenerationWarning(
        "memory_retry",
        f"The device ran out of memory in mode {residency.mode}, so this picture was made again in mode {mode}, one "
        "picture at a time; sizes, steps and seeds are unchanged.",
    )
    log.warning("out of memory in mode %s; trying again in mode %s, one picture at a time", residency.mode, mode)
    with residency.switched(mode):
        failure = yield from _try(_make_one_by_one(make, batch, warning))
    if failure is not None:
        release_memory(residency.device)
        raise DeviceOutOfMemoryError(
            f"{failure} A second try in memory mode {mode}, one picture at a time, failed too."
        )


def _try(events: Generator[Event]) -> Generator[Event, None, str | None]:
    """The events, and in the end why memory ran out, if it did; nothing then holds on to what had been computed."""
    try:
        yield from events
    except DeviceOutOfMemoryError as error:
        return error.detail
    return None


def _make_one_by_one(make: MakeBatch, batch: Sequence[Draw], warning: GenerationWarning) -> Generator[Event]:
    """The events of a batch whose pictures are made one after the other; steps count on from picture to picture."""
    warnings: list[tuple[GenerationWarning, ...]] = [(warning,)] * len(batch)
    generations: list[Generation] = []
    for index, draw in enumerate(batch):
        for event in make([draw]):
            if isinstance(event, Finished):
                [generation] = event.generations
                generations.append(replace(generation, warnings=(*generation.warnings, warning)))
                continue
            if event.warnings:
                warnings[index] = (*event.warnings[0], warning)
            steps = event.num_inference_steps
            preview = event.preview if index == 0 else None
            yield Progress(event.phase, index * steps + event.step, len(batch) * steps, tuple(warnings), preview)
    yield Finished(tuple(generations))
