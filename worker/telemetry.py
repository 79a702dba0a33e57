"""Measures a worker: how long phases take, and which resources it uses."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError

from ms_jobs.measures import Measures
from ms_jobs.pace import Pace
from ms_jobs.records import Usage
from worker.devices import as_text, cuda_handles

log = logging.getLogger(__name__)

USAGE_EVERY_S = 5.0


class PhaseTimes:
    """Times the phases of a job, by the monotonic clock.

    Attributes:
        seconds: of each finished phase; repeated phases are summed.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._phase: str | None = None
        self._since = 0.0

    def enter(self, phase: str | None) -> None:
        """Enter a phase, ``None`` after the last; entering the current phase again changes nothing."""
        if phase == self._phase:
            return
        now = time.monotonic()
        if self._phase is not None:
            seconds = now - self._since
            self.seconds[self._phase] = self.seconds.get(self._phase, 0.0) + seconds
            log.info("phase over", extra={"phase": self._phase, "seconds": round(seconds, 4)})
        if phase is not None:
            log.debug("phase begun", extra={"phase": phase})
        self._phase, self._since = phase, now


class Telemetry:
    """Stores in Redis how long jobs took. Failures are only logged."""

    def __init__(self, measures: Measures, pace: Pace) -> None:
        """Their clients should have a short timeout."""
        self._measures = measures
        self._pace = pace

    def keep(self, shape: str, seconds: float, phases_s: Mapping[str, float]) -> None:
        """Store the times of a succeeded job.

        Args:
            shape: see ``ms_jobs.pace``.
            seconds: from its start to its end.
            phases_s: seconds in each phase.
        """
        try:
            self._pace.learn(shape, seconds)
            self._measures.observe("phase", phases_s)
        except RedisError as error:
            log.warning("the times of this job are not stored: %s", error)

    def keep_load(self, seconds: float) -> None:
        """Store how long the model took to load."""
        try:
            self._measures.observe("phase", {"load": seconds})
        except RedisError as error:
            log.warning("the load time of the model is not stored: %s", error)


class UsageProbe:
    """Samples the resources of this process and its device every few seconds, in a separate thread.

    NVML can hang with a broken device; heartbeats must not wait for it.
    """

    def __init__(self, device_uuid: str | None) -> None:
        """``device_uuid`` is NVML's, of a CUDA device or a slice of one; ``None`` for the CPU."""
        self._uuid = device_uuid
        self.latest = Usage(device_uuid=device_uuid, rss_bytes=resident_bytes())
        self._thread = threading.Thread(target=self._look_forever, name="usage", daemon=True)

    def start(self) -> None:
        """Start sampling; the thread ends with the process."""
        self._thread.start()

    def _look_forever(self) -> None:
        nvml, handle = open_device(self._uuid)
        while True:
            usage = {} if handle is None else device_usage(nvml, handle)
            self.latest = Usage(device_uuid=self._uuid, rss_bytes=resident_bytes(), **usage)
            time.sleep(USAGE_EVERY_S)


def resident_bytes() -> int | None:
    """Get the resident memory of this process, in bytes; ``None`` outside Linux."""
    if sys.platform != "linux":
        return None
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def open_device(uuid: str | None) -> tuple[Any, Any]:
    """Get the module ``pynvml`` and NVML's handle of the device; ``None`` if unavailable."""
    if uuid is None:
        return None, None
    try:
        import pynvml
    except ImportError:
        return None, None
    try:
        pynvml.nvmlInit()
        handles = cuda_handles(pynvml)
        return pynvml, next((h for h in handles if as_text(pynvml.nvmlDeviceGetUUID(h)) == uuid), None)
    except pynvml.NVMLError as error:
        log.warning("the usage of device %s is unknown: %s", uuid, error)
        return pynvml, None


def device_usage(nvml: Any, handle: Any) -> dict[str, Any]:
    """Get memory and utilisation of a device; MIG slices have no utilisation."""
    usage: dict[str, Any] = {}
    with suppress(nvml.NVMLError):
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        usage |= {"memory_used_bytes": int(memory.used), "memory_total_bytes": int(memory.total)}
        usage["utilisation"] = nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
    return usage
