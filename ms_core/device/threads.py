"""How many threads a model on the CPU computes with."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing, contextmanager
from typing import TypeVar

import torch
from torch import nn

Item = TypeVar("Item")

# A UNet below this is so small that its threads wait for each other more than they compute.
_SMALL = 100_000_000


def threads_of(unet: nn.Module, device: torch.device) -> int | None:
    """One for a small model on the CPU; ``None``, as torch chooses, for all others.

    Beside other programs a second thread makes a small model's picture several times slower, and alone hardly faster.
    The number never follows what else runs: it changes the last bits of a sum, and so the picture.
    """
    is_small = sum(parameter.numel() for parameter in unet.parameters()) < _SMALL
    return 1 if is_small and device.type == "cpu" else None


def iterate_with(threads: int | None, work: Generator[Item]) -> Generator[Item]:
    """Do the work of a generator with so many threads; whoever receives its items computes with as many as before.

    ``None`` changes nothing.
    """
    with closing(work):
        while True:
            with _computing_with(threads):
                try:
                    item = next(work)
                except StopIteration:
                    return
            yield item


@contextmanager
def _computing_with(threads: int | None) -> Generator[None]:
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        if threads is not None:
            torch.set_num_threads(before)
