from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from ms_core.errors import StartupError
from worker import devices
from worker.devices import Device, find_devices


class NVMLError(Exception):
    pass


class FakeNVML(SimpleNamespace):
    """A machine of two GPUs, the second sliced in two; handles are the UUIDs themselves."""

    NVMLError = NVMLError
    NVML_DEVICE_MIG_ENABLE = 1
    slices = ("MIG-bbbb-0", "MIG-bbbb-1")

    def nvmlInit(self) -> None: ...

    def nvmlShutdown(self) -> None: ...

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return ("GPU-aaaa", "GPU-bbbb")[index]

    def nvmlDeviceGetUUID(self, handle: str) -> str:
        return handle

    def nvmlDeviceGetMigMode(self, handle: str) -> list[int]:
        if handle == "GPU-aaaa":
            raise NVMLError("not supported")
        return [1, 1]

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: str) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: str, index: int) -> str:
        if index >= len(self.slices):
            raise NVMLError("not found")
        return self.slices[index]


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNVML())
    monkeypatch.setattr(devices, "_torch_is_for_cpu", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def uuids(found: list[Device]) -> list[str | None]:
    return [device.uuid for device in found]


@pytest.mark.usefixtures("two_gpus")
def test_every_device_and_every_slice_is_found() -> None:
    assert uuids(find_devices("auto")) == ["GPU-aaaa", "MIG-bbbb-0", "MIG-bbbb-1"]


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("visible", "expected"),
    [("1", ["MIG-bbbb-0"]), ("GPU-aa", ["GPU-aaaa"]), ("2,0", ["MIG-bbbb-1", "GPU-aaaa"]), ("0,9,1", ["GPU-aaaa"])],
)
def test_the_environment_narrows_the_choice(monkeypatch: pytest.MonkeyPatch, visible: str, expected: list[str]) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert uuids(find_devices("auto")) == expected


@pytest.mark.usefixtures("two_gpus")
def test_no_visible_device_means_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert uuids(find_devices("auto")) == [None]
    with pytest.raises(StartupError, match="no CUDA device"):
        find_devices("cuda")


@pytest.mark.usefixtures("two_gpus")
def test_the_cpu_can_be_chosen() -> None:
    assert uuids(find_devices("cpu")) == [None]


@pytest.mark.usefixtures("two_gpus")
def test_a_torch_for_the_cpu_leaves_the_gpus_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_torch_is_for_cpu", lambda: True)
    assert uuids(find_devices("auto")) == [None]


def test_a_machine_without_driver_has_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Any) -> None:
        raise NVMLError("library not found")

    monkeypatch.setattr(FakeNVML, "nvmlInit", fail)
    monkeypatch.setitem(sys.modules, "pynvml", FakeNVML())
    monkeypatch.setattr(devices, "_torch_is_for_cpu", lambda: False)
    assert uuids(find_devices("auto")) == [None]


def test_a_worker_sees_its_device_alone() -> None:
    assert Device("GPU-aaaa").environment() == {
        "MSD_DEVICE": "cuda",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": "GPU-aaaa",
    }
    assert Device().environment() == {"MSD_DEVICE": "cpu", "CUDA_VISIBLE_DEVICES": ""}
