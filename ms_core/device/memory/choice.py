"""Which memory mode fits, and a sentence where none does."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import torch

from ms_core.config import ModelCard
from ms_core.device.devices import DeviceMemory, read_memory
from ms_core.device.memory.estimate import Estimate, Job, estimate_memory
from ms_core.device.memory.sizes import ModelSizes, Precision
from ms_core.device.modes import DEVICE_MODES, MemoryMode, MemorySetting, smaller_mode
from ms_core.errors import InsufficientMemoryError
from ms_core.model_dir.inspection.headers import format_size

log = logging.getLogger(__name__)


def choose_mode(
    directory: Path, device: torch.device, dtype: torch.dtype, wanted: MemorySetting = "auto"
) -> MemoryMode:
    """The mode for a model directory on a device: the one that is wanted, or the largest that fits into its free
    memory.

    A picture of the card's default size is reckoned with; larger ones and batches may still run out of memory.

    Args:
        directory: of the model.
        device: where it is to work; the CPU has one mode only.
        dtype: it will be loaded in.
        wanted: "auto" for the largest.

    Raises:
        ModelNotFoundError, CheckpointError: there is no valid card.
        InsufficientMemoryError: the wanted mode, or every mode, needs more than there is.
    """
    card = ModelCard.load(directory)
    sizes = ModelSizes.read(directory, card)
    job = Job(card.defaults.height, card.defaults.width, num_subjects=card.max_subjects)
    modes = _modes(device, wanted)
    memory = read_memory(device)
    if memory is None:
        return modes[0]
    precision = Precision.of(dtype, sizes)
    chosen = first_that_fits([estimate_memory(sizes, mode, job, precision) for mode in modes], memory)
    needed, free = format_size(chosen.peak), format_size(memory.free)
    log.info("memory mode %s: needs about %s of the %s that are free", chosen.mode, needed, free)
    return chosen.mode


def first_that_fits(estimates: Sequence[Estimate], memory: DeviceMemory) -> Estimate:
    """The first of ``estimates``, largest first and at least one, that fits into what is free.

    Raises:
        InsufficientMemoryError: none fits; says what is needed, what there is, and what to do.
    """
    for estimate in estimates:
        if estimate.peak <= memory.free:
            return estimate
    smallest = estimates[-1]
    place = "this machine" if smallest.mode == "cpu" else "the device"
    raise InsufficientMemoryError(
        f"The model needs about {format_size(smallest.peak)} in memory mode {smallest.mode}; {place} has "
        f"{format_size(memory.free)} free of {format_size(memory.total)}, and {format_size(memory.used_by_others)} are "
        f"used by other processes. {_remedy(smallest, memory)}"
    )


def _modes(device: torch.device, wanted: MemorySetting) -> tuple[MemoryMode, ...]:
    if device.type == "cpu" or wanted == "cpu":
        return ("cpu",)
    return DEVICE_MODES if wanted == "auto" else (wanted,)


def _remedy(estimate: Estimate, memory: DeviceMemory) -> str:
    is_on_cpu = estimate.mode == "cpu"
    if estimate.peak <= memory.free + memory.used_by_others:
        return "Close some of them." if is_on_cpu else "Close some of them, or choose another device."
    if is_on_cpu:
        return "Use a machine with more memory."
    smaller = smaller_mode(estimate.mode)
    if smaller != estimate.mode:
        return f"Choose a smaller memory mode, such as {smaller}."
    return "Choose a device with more memory, or the memory mode cpu, which is far slower."
