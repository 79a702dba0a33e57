"""Whether the service can make pictures: Redis, storage, workers."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Literal

import redis

from app.config import MEBIBYTE
from app.schemas import CheckResource, ReadinessResource
from ms_core.errors import StorageError
from ms_jobs.artifacts import ArtifactStore
from ms_jobs.records import WorkerRecord, WorkerState
from ms_jobs.registry import Registry

Readiness = Literal["ready", "degraded", "starting", "unavailable"]

NO_WORKER = "waiting for a worker"


class Health:
    """Looks at everything that the jobs of one model need."""

    def __init__(self, client: redis.Redis, data_dir: Path, model: str, min_free_disk_mb: int = 0) -> None:
        self._registry = Registry(client)
        self._data_dir = data_dir
        self._min_free_disk_mb = min_free_disk_mb
        self._model = model

    def readiness(self) -> ReadinessResource:
        """The state of the service; never raises for a part that is away."""
        storage = self._check_storage()
        try:
            workers = self._registry.workers(self._model)
        except redis.RedisError:
            down = CheckResource(ok=False, detail="Redis does not answer.")
            unknown = CheckResource(ok=False, detail="Unknown without Redis.")
            checks = {"redis": down, "storage": storage, "workers": unknown}
            return ReadinessResource(status="unavailable", phase=None, checks=checks)
        status, phase = _judge(workers)
        checks = {
            "redis": CheckResource(ok=True, detail="Redis answers."),
            "storage": storage,
            "workers": _check_workers(workers, self._model),
        }
        if not storage.ok:
            return ReadinessResource(status="unavailable", phase=None, checks=checks)
        return ReadinessResource(status=status, phase=phase, checks=checks)

    def _check_storage(self) -> CheckResource:
        # The store makes its folder when it is first needed.
        folder = next(path for path in (self._data_dir, *self._data_dir.resolve().parents) if path.exists())
        if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
            return CheckResource(ok=False, detail="The storage cannot be written.")
        try:
            ArtifactStore(folder).require_room(self._min_free_disk_mb * MEBIBYTE)
        except StorageError as error:
            return CheckResource(ok=False, detail=error.detail)
        return CheckResource(ok=True, detail="The storage can be written.")


def _judge(workers: list[WorkerRecord]) -> tuple[Readiness, str | None]:
    """The state that the workers bring the service to, and what a start waits for."""
    serving = [worker for worker in workers if worker.state.serves]
    starting = [worker for worker in workers if worker.state is WorkerState.STARTING]
    if serving:
        return ("ready" if len(serving) == len(workers) else "degraded"), None
    if starting:
        return "starting", starting[0].phase or "start"
    return ("unavailable", None) if workers else ("starting", NO_WORKER)


def _check_workers(workers: list[WorkerRecord], model: str) -> CheckResource:
    serving = any(worker.state.serves for worker in workers)
    if not workers:
        return CheckResource(ok=False, detail=f"No worker of the model {model} is alive.")
    counts = Counter(worker.state.value for worker in workers)
    detail = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    modes = sorted({worker.memory_mode for worker in workers if worker.memory_mode is not None})
    more = [f"Memory mode: {', '.join(modes)}."] if modes else []
    more += [worker.error.detail for worker in workers if worker.error is not None]
    return CheckResource(ok=serving, detail=" ".join([f"Workers: {detail}.", *more]))
