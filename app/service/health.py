"""Health endpoints (Redis, storage, workers) and the pages of problem types."""

from __future__ import annotations

import time
from collections import Counter
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Literal

import redis
from fastapi import APIRouter, Response
from fastapi import Path as PathParameter

from app.config import MEBIBYTE
from app.dependencies import given
from app.schemas import CheckResource, LivenessResource, ProblemTypeResource, ReadinessResource
from app.service.errors import RETRY_AFTER_S, HTTPProblem
from app.service.problems import NOT_FOUND, problem_of_code, problem_responses
from ms_core.errors import StorageError
from ms_jobs.artifacts import ArtifactStore
from ms_jobs.connection import ReasonLog, refusal
from ms_jobs.probe import WriteProbe
from ms_jobs.records import WorkerRecord, WorkerState
from ms_jobs.redis_checks import redis_warnings
from ms_jobs.registry import Registry

Readiness = Literal["ready", "degraded", "starting", "unavailable"]

NO_WORKER = "waiting for a worker"
PROBE_AGE_S = 1.0
_SUSPENDED = "Workers take no jobs: somebody ran `rq suspend` on this Redis; run `rq resume`."

router = APIRouter(tags=["service"])


class Health:
    """Checks everything that the jobs of one model need."""

    def __init__(self, client: redis.Redis, data_dir: Path, model: str, min_free_disk_mb: int = 0) -> None:
        self._client = client
        self._registry = Registry(client)
        self._probe = WriteProbe(client)
        self._probed: tuple[float, bool] | None = None
        self._reasons = ReasonLog()
        self._data_dir = data_dir
        self._min_free_disk_mb = min_free_disk_mb
        self._model = model

    def readiness(self) -> ReadinessResource:
        """Check Redis, storage and workers; a part that is down raises nothing."""
        storage = self._check_storage()
        try:
            is_suspended = self._is_suspended()
            workers = self._registry.workers(self._model)
        except redis.RedisError as error:
            self._reasons.tell(error)
            down = CheckResource(ok=False, detail=_reason(error))
            unknown = CheckResource(ok=False, detail="Unknown without Redis.")
            checks = {"redis": down, "storage": storage, "workers": unknown}
            return ReadinessResource(status="unavailable", phase=None, checks=checks)
        status, phase = _judge(workers)
        checks = {
            "redis": CheckResource(ok=True, detail="Redis answers."),
            "storage": storage,
            "workers": CheckResource(ok=False, detail=_SUSPENDED)
            if is_suspended
            else _check_workers(workers, self._model),
        }
        if is_suspended or not storage.ok:
            return ReadinessResource(status="unavailable", phase=None, checks=checks)
        return ReadinessResource(status=status, phase=phase, checks=checks, warnings=redis_warnings(self._client))

    def _is_suspended(self) -> bool:
        """Ask Redis, but not with each request: every probe writes a little into its append-only file."""
        if self._probed is None or time.monotonic() - self._probed[0] > PROBE_AGE_S:
            self._probed = None
            self._probed = time.monotonic(), self._probe.is_suspended()
        return self._probed[1]

    def _check_storage(self) -> CheckResource:
        store = ArtifactStore(self._data_dir)
        try:
            store.require_writable()
            store.require_room(self._min_free_disk_mb * MEBIBYTE)
        except StorageError as error:
            return CheckResource(ok=False, detail=error.detail)
        return CheckResource(ok=True, detail="The storage is writable.")


def _reason(error: redis.RedisError) -> str:
    refused = refusal(error)
    return "Redis does not answer." if refused is None else f"Redis refuses: {refused.rstrip('.')}."


HealthDependency = Annotated[Health, given("health")]


def _judge(workers: list[WorkerRecord]) -> tuple[Readiness, str | None]:
    """Derive the service's state from its workers, and what a start waits for."""
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
        return CheckResource(ok=False, detail=f"No worker of model {model} is alive.")
    counts = Counter(worker.state.value for worker in workers)
    detail = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    modes = sorted({worker.memory_mode for worker in workers if worker.memory_mode is not None})
    more = [f"Memory mode: {', '.join(modes)}."] if modes else []
    more += [worker.error.detail for worker in workers if worker.error is not None]
    return CheckResource(ok=serving, detail=" ".join([f"Workers: {detail}.", *more]))


@router.get("/livez", operation_id="live", summary="Check that the process is alive")
async def live() -> LivenessResource:
    """Checks nothing else."""
    # A coroutine, as all that asks nobody: threads may all be waiting for Redis.
    return LivenessResource()


@router.get(
    "/readyz",
    operation_id="ready",
    summary="Check that pictures can be made",
    responses={503: {"model": ReadinessResource, "description": "Starting or unavailable; see `Retry-After`."}},
)
def ready(health: HealthDependency, response: Response) -> ReadinessResource:
    """200 for `ready` and `degraded` (not all workers serve), 503 for `starting` and `unavailable`.

    Jobs are accepted while workers start, if Redis and the storage work.
    """
    readiness = health.readiness()
    response.headers["Cache-Control"] = "no-store"
    if readiness.status in ("starting", "unavailable"):
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return readiness


@router.get(
    "/problems/{code}",
    operation_id="get_problem_type",
    summary="Get a problem type",
    responses=problem_responses(404),
)
async def get_problem_type(
    code: Annotated[str, PathParameter(description="The `code` of a problem.", examples=["invalid_box"])],
) -> ProblemTypeResource:
    """The `type` of every problem links here."""
    kind = problem_of_code(code)
    if kind is None:
        raise HTTPProblem(NOT_FOUND, "There is no problem type with this code.")
    return ProblemTypeResource(code=kind.code, status=kind.status, title=kind.title)
