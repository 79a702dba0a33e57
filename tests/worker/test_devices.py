from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ms_core.errors import StartupError
from tests.support.paths import ROOT
from worker import devices
from worker.config import WorkerSettings
from worker.devices import Device, DeviceLock, find_devices, lock_devices
from worker.supervisor import Supervisor


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


GPU, SLICE = Device("GPU-1b2c3d4e-0000"), Device("MIG-1b2c3d4e-0001")
HOLD = """
import sys
from pathlib import Path
from worker.devices import Device, lock_devices
locks = lock_devices([Device(uuid) for uuid in sys.argv[2:]], Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def holder(folder: Path, *held: Device) -> Iterator[subprocess.Popen[str]]:
    """Another process that has devices until its input ends."""
    argv = [sys.executable, "-c", HOLD, str(folder), *(str(device.uuid) for device in held)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_a_device_that_another_process_has_is_refused_with_its_pid(tmp_path: Path) -> None:
    with (
        holder(tmp_path, GPU) as process,
        pytest.raises(StartupError, match=rf"{GPU.uuid} is taken by the workers of process {process.pid};"),
    ):
        DeviceLock(GPU, tmp_path)


def test_other_devices_and_slices_are_free(tmp_path: Path) -> None:
    with holder(tmp_path, GPU):
        DeviceLock(SLICE, tmp_path).release()


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_the_kernel_frees_the_device_of_a_process_that_ends(tmp_path: Path, ending: signal.Signals) -> None:
    with holder(tmp_path, GPU) as process:
        process.send_signal(ending)
        process.wait()
        DeviceLock(GPU, tmp_path).release()


def test_a_released_device_is_free(tmp_path: Path) -> None:
    lock = DeviceLock(GPU, tmp_path)
    lock.release()
    lock.release()
    with holder(tmp_path, GPU) as process:
        assert (tmp_path / f"{GPU.uuid}.lock").read_text() == f"{process.pid}\n"


def test_all_devices_are_taken_or_none(tmp_path: Path) -> None:
    with holder(tmp_path, SLICE):
        with pytest.raises(StartupError, match=str(SLICE.uuid)):
            lock_devices([GPU, SLICE], tmp_path)
        with holder(tmp_path, GPU):
            pass


def test_no_child_inherits_a_device(tmp_path: Path) -> None:
    lock = DeviceLock(GPU, tmp_path)
    argv = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, close_fds=False) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        lock.release()
        DeviceLock(GPU, tmp_path).release()
        child.kill()


def test_the_cpu_is_for_all(tmp_path: Path) -> None:
    assert lock_devices([Device()], tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("in_the_way", ["a file", "a link"])
def test_locks_that_cannot_be_made_are_named(tmp_path: Path, in_the_way: str) -> None:
    folder = tmp_path / "locks"
    if in_the_way == "a file":
        folder.write_text("")
    else:
        folder.mkdir()
        (folder / f"{GPU.uuid}.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StartupError, match="TMPDIR"):
        DeviceLock(GPU, folder)


def test_a_second_supervisor_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, golden_model_directory: Path, redis_url: str
) -> None:
    monkeypatch.setattr("worker.supervisor.find_devices", lambda wanted: [GPU])
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    settings = WorkerSettings(redis_url=redis_url, data_dir=tmp_path / "data", model=str(golden_model_directory))
    with holder(tmp_path / f"ms-diffusion-{os.getuid()}", GPU), pytest.raises(StartupError, match="is taken"):
        Supervisor(settings)
    first = Supervisor(settings)
    with pytest.raises(StartupError, match=f"process {os.getpid()};"):
        Supervisor(settings)
    first.stop()
    Supervisor(settings).stop()


def test_the_memory_mode_cpu_starts_a_worker_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, golden_model_directory: Path, redis_url: str
) -> None:
    settings = WorkerSettings(
        redis_url=redis_url,
        data_dir=tmp_path / "data",
        model=str(golden_model_directory),
        device="cuda",
        memory_mode="cpu",
    )
    assert Supervisor(settings).devices == ["cpu"]
    assert settings.to_environment()["MSD_MEMORY_MODE"] == "cpu"
