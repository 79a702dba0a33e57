"""A device's failures become errors of this project."""

from __future__ import annotations

import pytest
import torch

from ms_core.devices import device_errors
from ms_core.errors import DeviceLostError, DeviceOutOfMemoryError


def test_out_of_memory_on_a_device() -> None:
    with pytest.raises(DeviceOutOfMemoryError, match="smaller picture"), device_errors():
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_out_of_memory_on_the_host() -> None:
    with pytest.raises(DeviceOutOfMemoryError), device_errors():
        torch.empty(2**60, dtype=torch.uint8)


def test_a_broken_context() -> None:
    with pytest.raises(DeviceLostError, match="illegal memory access"), device_errors():
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")


def test_other_errors_pass_through() -> None:
    with pytest.raises(RuntimeError, match="shapes"), device_errors():
        raise RuntimeError("shapes do not match")
