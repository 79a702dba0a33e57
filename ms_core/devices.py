"""A device's failures as errors of this project: the only place that maps them."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch

from ms_core.errors import DeviceLostError, DeviceOutOfMemoryError

_OUT_OF_MEMORY = "The device has too little free memory; ask for a smaller picture or fewer at once."


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
        raise DeviceLostError(f"The device failed and this process cannot use it any more: {error}") from error
    except RuntimeError as error:
        # On the CPU torch has no class of its own for this.
        if "DefaultCPUAllocator: can't allocate memory" not in str(error):
            raise
        raise DeviceOutOfMemoryError(_OUT_OF_MEMORY) from error
