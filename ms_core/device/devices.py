"""A device's failures as errors of this project, the only place that maps them; its memory, and what it computes in."""

from __future__ import annotations

import gc
import re
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from ms_core.errors import DeviceError, DeviceLostError, DeviceOutOfMemoryError

_OUT_OF_MEMORY = "The device has too little free memory; ask for a smaller picture or fewer at once."
_HOST_MEMORY = Path("/proc/meminfo")


# Errors without a torch class: the CPU's allocator, and what cuBLAS and cuDNN ask the device for by themselves.
_ALLOCATION_FAILED = (
    "DefaultCPUAllocator: can't allocate memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """Memory of one device, in bytes.

    Attributes:
        free: what this process can still take.
        total: of the device.
        used_by_others: by other processes; a few hundred megabytes of the driver's own are counted in.
    """

    free: int
    total: int
    used_by_others: int


def usable_device(name: torch.device | str) -> torch.device:
    """The device of this name.

    Raises:
        DeviceError: this machine has none.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"{name!r} is no device; use cpu or cuda.") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(
            f"PyTorch sees no CUDA device for {str(device)!r}; use cpu, or run `msd doctor`, which says what is missing."
        )
    return device


@contextmanager
def device_errors() -> Generator[None]:
    """Map torch's device errors inside a ``with`` block.

    Raises:
        DeviceOutOfMemoryError: the device, or the host, has too little memory; the process can go on.
        DeviceLostError: the CUDA context is broken; the process must end.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise DeviceOutOfMemoryError(_OUT_OF_MEMORY) from error
    except torch.AcceleratorError as error:
        # A failed allocation outside torch's own allocator leaves the context as it was.
        if "out of memory" in str(error):
            raise DeviceOutOfMemoryError(_OUT_OF_MEMORY) from error
        raise DeviceLostError(f"The device failed and this process cannot use it any more: {error}") from error
    except RuntimeError as error:
        if not any(sign in str(error) for sign in _ALLOCATION_FAILED):
            raise
        raise DeviceOutOfMemoryError(_OUT_OF_MEMORY) from error


def read_memory(device: torch.device) -> DeviceMemory | None:
    """Memory of a device; of the host for the CPU, or ``None`` where the host does not report it (Linux does)."""
    if device.type == "cuda":
        with device_errors():
            free, total = torch.cuda.mem_get_info(device)
            mine = torch.cuda.memory_reserved(device)
        # What the allocator holds without need, it gives up when it is asked for more.
        unused = mine - torch.cuda.memory_allocated(device)
        return DeviceMemory(free + unused, total, total - free - mine)
    return _read_host_memory()


def release_memory(device: torch.device) -> None:
    """Give back all memory that nothing refers to any more; call it when no exception holds on to frames."""
    gc.collect()
    release_cached_memory(device)


def release_cached_memory(device: torch.device) -> None:
    """Give back what the device's allocator keeps for later."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def default_dtype(device: torch.device) -> torch.dtype:
    """What models compute in: bfloat16 on CUDA devices that know it, float16 on older ones, float32 on the CPU.

    SDXL's own VAE overflows in float16 and must then run in float32, which doubles the memory of decoding, the largest of
    all phases; bfloat16 has float32's range.
    """
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if multiplies_bfloat16(device) else torch.float16


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16; a CPU that must emulate it is some forty times slower than in float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return bool(torch.cpu.get_capabilities().get("avx512_bf16"))


def _read_host_memory() -> DeviceMemory | None:
    try:
        text = _HOST_MEMORY.read_text(encoding="ascii")
    except OSError:
        return None
    kilobytes = dict(re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE))
    if not {"MemAvailable", "MemTotal"} <= kilobytes.keys():
        return None
    free, total = (1024 * int(kilobytes[name]) for name in ("MemAvailable", "MemTotal"))
    return DeviceMemory(free, total, total - free)
