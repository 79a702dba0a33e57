"""A device's failures become errors of this project; its memory, and what it computes in."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ms_core.device.devices import DeviceMemory, default_dtype, device_errors, multiplies_bfloat16, read_memory
from ms_core.errors import DeviceLostError, DeviceOutOfMemoryError


def test_out_of_memory_on_a_device() -> None:
    with pytest.raises(DeviceOutOfMemoryError, match="smaller picture"), device_errors():
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_out_of_memory_on_the_host() -> None:
    with pytest.raises(DeviceOutOfMemoryError), device_errors():
        torch.empty(2**60, dtype=torch.uint8)


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ],
)
def test_out_of_memory_beside_torchs_own_allocator(error: RuntimeError) -> None:
    with pytest.raises(DeviceOutOfMemoryError), device_errors():
        raise error


def test_a_broken_context() -> None:
    with pytest.raises(DeviceLostError, match="illegal memory access"), device_errors():
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")


def test_other_errors_pass_through() -> None:
    with pytest.raises(RuntimeError, match="shapes"), device_errors():
        raise RuntimeError("shapes do not match")


def test_the_hosts_memory_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text(
        "MemTotal:  8000 kB\nMemFree:   100 kB\nMemAvailable:    5000 kB\nHugePages_Total:  0\n"
    )
    monkeypatch.setattr("ms_core.device.devices._HOST_MEMORY", tmp_path / "meminfo")
    assert read_memory(torch.device("cpu")) == DeviceMemory(5000 * 1024, 8000 * 1024, 3000 * 1024)


@pytest.mark.parametrize("text", [None, "MemTotal: 8000 kB\n"])
def test_a_host_may_tell_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "meminfo").write_text(text)
    monkeypatch.setattr("ms_core.device.devices._HOST_MEMORY", tmp_path / "meminfo")
    assert read_memory(torch.device("cpu")) is None


def test_what_the_allocator_keeps_without_need_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 24000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 5000)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 2000)
    assert read_memory(torch.device("cuda")) == DeviceMemory(free=4000, total=24000, used_by_others=18000)


@pytest.mark.parametrize(
    ("capability", "dtype"), [((7, 5), torch.float16), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)]
)
def test_a_device_computes_in_what_it_knows(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], dtype: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert default_dtype(torch.device("cuda")) is dtype
    assert default_dtype(torch.device("cpu")) is torch.float32


@pytest.mark.parametrize("known", [True, False])
def test_a_cpu_says_whether_it_multiplies_bfloat16(monkeypatch: pytest.MonkeyPatch, known: bool) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": known})
    assert multiplies_bfloat16(torch.device("cpu")) is known
