"""Finds and locks the devices of this machine, by NVML's UUIDs and without loading torch."""

from __future__ import annotations

import fcntl
import logging
import os
import tempfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from ms_core.errors import StartupError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Device:
    """A device: ``uuid`` is NVML's, such as ``GPU-<uuid>`` or ``MIG-<uuid>``; ``None`` is the CPU."""

    uuid: str | None = None

    @property
    def label(self) -> str:
        """Short name for logs and worker names."""
        return "cpu" if self.uuid is None else f"cuda-{self.uuid.lower()[:12]}"

    def environment(self) -> dict[str, str]:
        """Make the environment in which a worker's torch sees only this device."""
        if self.uuid is None:
            return {"MSD_DEVICE": "cpu", "CUDA_VISIBLE_DEVICES": ""}
        return {"MSD_DEVICE": "cuda", "CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": self.uuid}


def find_devices(wanted: Literal["auto", "cpu", "cuda"]) -> list[Device]:
    """Find the devices to start workers on: every CUDA device, else the CPU.

    ``CUDA_VISIBLE_DEVICES`` in this process's environment narrows the choice.

    Raises:
        StartupError: CUDA is wanted and there is no CUDA device.
    """
    if wanted == "cpu" or (wanted == "auto" and _torch_is_for_cpu()):
        return [Device()]
    uuids = _visible(_nvml_uuids(), os.environ.get("CUDA_VISIBLE_DEVICES"))
    if not uuids and wanted == "cuda":
        raise StartupError("MSD_DEVICE=cuda, but this machine has no CUDA device. Check nvidia-smi, or use cpu.")
    return [Device(uuid) for uuid in uuids] or [Device()]


class DeviceLock:
    """Locks a CUDA device for one supervisor of this user on this host, until ``release``.

    The kernel frees the lock when the process ends, however it ends. Each MIG slice has its own UUID and lock; the CPU is
    shared.
    """

    def __init__(self, device: Device, folder: Path | None = None) -> None:
        """Lock a device.

        Args:
            device: with a UUID.
            folder: of the lock files; by default this user's in the system's temporary folder.

        Raises:
            StartupError: another process has the device, or the folder cannot be used.
        """
        folder = Path(tempfile.gettempdir()) / f"ms-diffusion-{os.getuid()}" if folder is None else folder
        path = folder / f"{device.uuid}.lock"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise StartupError(
                f"The lock of device {device.uuid} cannot be created in {folder} ({error.strerror}); set TMPDIR to a folder "
                "that you own, the same for all workers."
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(self._file, 32, 0).decode(errors="replace").strip() or "unknown"
            self.release()
            raise StartupError(
                f"Device {device.uuid} is taken by the workers of process {holder}; a device runs one model at a time. "
                "Stop them, or choose other devices with CUDA_VISIBLE_DEVICES."
            ) from error
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Release the device."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def lock_devices(devices: list[Device], folder: Path | None = None) -> list[DeviceLock]:
    """Lock all CUDA devices of a list, or none; arguments and errors as ``DeviceLock``."""
    locks: list[DeviceLock] = []
    try:
        for device in devices:
            if device.uuid is not None:
                locks.append(DeviceLock(device, folder))
    except StartupError:
        for lock in locks:
            lock.release()
        raise
    return locks


def _torch_is_for_cpu() -> bool:
    try:
        return version("torch").endswith("+cpu")
    except PackageNotFoundError:
        return False


def _visible(uuids: list[str], narrowed: str | None) -> list[str]:
    """Select the devices in ``CUDA_VISIBLE_DEVICES``, given by index or by a prefix of their UUID."""
    if narrowed is None:
        return uuids
    chosen: list[str] = []
    for entry in (part.strip() for part in narrowed.split(",")):
        if entry.isdigit():
            matches = uuids[int(entry) : int(entry) + 1]
        else:
            matches = [uuid for uuid in uuids if entry and uuid.startswith(entry)][:1]
        if not matches:
            break  # as in CUDA: the first unknown entry ends the list
        chosen += matches
    return chosen


def _nvml_uuids() -> list[str]:
    """List the UUIDs of all CUDA devices in PCI bus order; MIG slices in place of the device they slice."""
    try:
        import pynvml
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        return [as_text(pynvml.nvmlDeviceGetUUID(handle)) for handle in cuda_handles(pynvml)]
    except pynvml.NVMLError as error:
        log.warning("NVML cannot list the CUDA devices: %s", error)
        return []
    finally:
        pynvml.nvmlShutdown()


def cuda_handles(nvml: Any) -> list[Any]:
    """List NVML's handles of all CUDA devices in PCI bus order; MIG slices in place of the device they slice.

    Args:
        nvml: the module ``pynvml``, initialised.
    """
    handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
    return [part for handle in handles for part in _parts_of(nvml, handle)]


def _parts_of(nvml: Any, handle: Any) -> list[Any]:
    try:
        enabled = nvml.nvmlDeviceGetMigMode(handle)[0] == nvml.NVML_DEVICE_MIG_ENABLE
    except nvml.NVMLError:
        enabled = False  # the device cannot be sliced
    if not enabled:
        return [handle]
    slices: list[Any] = []
    for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            slices.append(nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index))
        except nvml.NVMLError:
            continue  # an unused index
    return slices


def as_text(value: str | bytes) -> str:
    """Decode a name from NVML, which older versions return as bytes."""
    return value.decode() if isinstance(value, bytes) else value
