"""What only a CUDA device can tell of itself."""

from __future__ import annotations

import pytest
import torch

from worker.devices import find_devices
from worker.telemetry import device_usage, open_device

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def test_a_device_is_found_by_its_uuid_and_tells_its_memory() -> None:
    uuid = find_devices("cuda")[0].uuid
    torch.zeros(1, device="cuda")
    usage = device_usage(*open_device(uuid))
    assert 0 < usage["memory_used_bytes"] <= usage["memory_total_bytes"]
