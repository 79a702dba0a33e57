"""CUDA devices as NVML shows them: names, memory, and who uses them; without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cli.checks.section import Section
from ms_core.model_dir.inspection import Finding
from worker.devices import as_text, cuda_handles

_OWN_WORKER = "worker.main"
_NO_NVML = "the package nvidia-ml-py is not installed"
# From here on another program's share is worth a warning; a desktop takes less.
_MUCH_BYTES = 10**9


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process on a device: its id, its name (``None`` if it runs outside this container), its memory in bytes."""

    pid: int
    name: str | None
    used: int | None

    @property
    def is_ours(self) -> bool:
        """Whether it is a worker of this service."""
        return self.name == _OWN_WORKER


@dataclass(frozen=True, slots=True)
class Gpu:
    """One device; memory in bytes; ``processes`` is ``None`` where the driver does not report them."""

    uuid: str
    name: str
    total: int
    free: int
    processes: tuple[GpuProcess, ...] | None


@dataclass(frozen=True, slots=True)
class GpuList:
    """What NVML reports.

    Attributes:
        gpus: in the order of the PCI bus.
        driver: its version, if there is one.
        driver_cuda: the newest CUDA that it supports, as (major, minor).
        problem: why NVML cannot tell, in its own words; ``None`` if it can, or there is no driver at all.
    """

    gpus: tuple[Gpu, ...] = ()
    driver: str | None = None
    driver_cuda: tuple[int, int] | None = None
    problem: str | None = None


def list_gpus() -> GpuList:
    """All CUDA devices of this machine, whatever ``CUDA_VISIBLE_DEVICES`` says."""
    try:
        import pynvml
    except ImportError:
        return GpuList(problem=_NO_NVML)
    nvml: Any = pynvml
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        has_driver = error.value != nvml.NVML_ERROR_LIBRARY_NOT_FOUND
        return GpuList(problem=str(error) if has_driver else None)
    try:
        cuda = nvml.nvmlSystemGetCudaDriverVersion()
        return GpuList(
            tuple(_read_gpu(nvml, handle) for handle in cuda_handles(nvml)),
            as_text(nvml.nvmlSystemGetDriverVersion()),
            (cuda // 1000, cuda % 1000 // 10),
        )
    except nvml.NVMLError as error:
        return GpuList(problem=str(error))
    finally:
        nvml.nvmlShutdown()


def check_gpus(found: GpuList) -> Section:
    """What each device is, what is free on it, and who else is on it."""
    if found.problem is not None:
        return Section((_explain(found.problem),), {"problem": found.problem})
    facts = {"driver": found.driver, "gpus": [asdict(gpu) for gpu in found.gpus]}
    if not found.gpus:
        return Section((Finding.ok("No NVIDIA device here: pictures are made on the CPU."),), facts)
    return Section(tuple(finding for gpu in found.gpus for finding in _describe(gpu)), facts)


def _read_gpu(nvml: Any, handle: Any) -> Gpu:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    name, uuid = as_text(nvml.nvmlDeviceGetName(handle)), as_text(nvml.nvmlDeviceGetUUID(handle))
    return Gpu(uuid, name, int(memory.total), int(memory.free), _read_processes(nvml, handle))


def _read_processes(nvml: Any, handle: Any) -> tuple[GpuProcess, ...] | None:
    try:
        running = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
    except nvml.NVMLError:
        return None  # slices and old drivers do not report it
    return tuple(GpuProcess(int(one.pid), _process_name(int(one.pid)), one.usedGpuMemory) for one in running)


def _process_name(pid: int) -> str | None:
    """Name of a process, or of the module that its Python runs."""
    try:
        arguments = [part.decode(errors="replace") for part in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")]
        if "-m" in arguments[:-1]:
            return arguments[arguments.index("-m") + 1]
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
    except OSError:
        return None


def _describe(gpu: Gpu) -> list[Finding]:
    findings = [Finding.ok(f"{gpu.name} ({gpu.uuid}): {_gib(gpu.free)} of {_gib(gpu.total)} free.")]
    for process in gpu.processes or ():
        who = f"process {process.pid} ({process.name or 'outside this container'})"
        share = "an unknown share" if process.used is None else _gib(process.used)
        if process.is_ours:
            findings.append(Finding.ok(f"{gpu.name}: {who}, a worker of this service, holds {share}."))
        elif process.used is None or process.used >= _MUCH_BYTES:
            remedy = (
                f"If it is not needed, end it (kill {process.pid}), or leave this device out of CUDA_VISIBLE_DEVICES."
            )
            findings.append(Finding.warning("gpu_shared", f"{gpu.name}: {who} holds {share} of its memory.", remedy))
        else:
            findings.append(Finding.ok(f"{gpu.name}: {who} holds {share}."))
    return findings


def _explain(problem: str) -> Finding:
    """A driver that does not answer, with the remedy that its words ask for."""
    if problem == _NO_NVML:
        sentence = f"The NVIDIA devices cannot be listed: {problem}."
        return Finding.warning("nvml_missing", sentence, "Install what a worker needs: make install.")
    sentence = f"The NVIDIA driver does not answer: {problem}."
    if "mismatch" in problem.lower():
        return Finding.error("driver_mismatch", sentence, "The driver was updated while it ran: restart the machine.")
    return Finding.error(
        "driver_problem",
        sentence,
        "Check what nvidia-smi says; load the driver (modprobe nvidia), or install it again.",
    )


def _gib(size: int) -> str:
    """Memory of a device, in the unit that its makers mean by GB."""
    return f"{size / 2**30:.1f} GiB"


def names(gpus: Sequence[Gpu]) -> str:
    """The devices' names, for a sentence."""
    return ", ".join(gpu.name for gpu in gpus)
