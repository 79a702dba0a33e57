"""The queue and the workers at a glance."""

from __future__ import annotations

from typing import Annotated

import redis
from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from app.dependencies import given
from app.jobs.eta import Forecast, rounded
from app.service.problems import problem_responses
from ms_jobs.queue import JobQueue
from ms_jobs.records import WorkerRecord, WorkerState
from ms_jobs.registry import Registry

router = APIRouter(tags=["service"])


class WorkerResource(BaseModel):
    """A worker."""

    name: str
    device: str = Field(description="Such as `cpu` or `cuda GPU-<uuid>`.")
    state: WorkerState = Field(
        description="`idle` and `busy` ones take jobs; `failed` could not load the model, `defunct` broke and is replaced."
    )
    model: str = Field(description="Name of the model.")


class QueueResource(BaseModel):
    """The queue and the workers of this service."""

    depth: int = Field(description="Jobs that no worker has taken.")
    oldest_age_s: float | None = Field(description="Seconds that the oldest of them has waited; null if none waits.")
    expected_wait_s: float | None = Field(
        description="Seconds until a job that is sent now would start, by past jobs; null if no worker serves, and if jobs are "
        "ahead before the first has succeeded."
    )
    workers: list[WorkerResource]


class QueueState:
    """Looks at the queue and the workers of one model."""

    def __init__(self, client: redis.Redis, forecast: Forecast, model: str) -> None:
        self._queue = JobQueue(client, model)
        self._registry = Registry(client)
        self._forecast = forecast
        self._model = model

    def now(self) -> QueueResource:
        """What waits, and who works.

        Raises:
            redis.exceptions.RedisError: Redis cannot be reached.
        """
        line, workers = self._queue.line(), self._registry.workers(self._model)
        is_free = not line.depth and any(worker.state is WorkerState.IDLE for worker in workers)
        return QueueResource(
            depth=line.depth,
            oldest_age_s=rounded(line.oldest_s),
            expected_wait_s=0.0 if is_free else rounded(self._forecast.wait_s(line.depth)),
            workers=[_worker(worker) for worker in workers],
        )


QueueStateDependency = Annotated[QueueState, given("queue_state")]


@router.get("/queue", operation_id="get_queue", summary="Get the state of the queue", responses=problem_responses(503))
def get_queue(state: QueueStateDependency, response: Response) -> QueueResource:
    """How many jobs wait and for how long, and the workers with their devices."""
    response.headers["Cache-Control"] = "no-store"
    return state.now()


def _worker(record: WorkerRecord) -> WorkerResource:
    # Names of workers begin with that of their host, which is nobody's business here.
    name = record.name.removeprefix(f"{record.host}-")
    return WorkerResource(name=name, device=record.device, state=record.state, model=record.model)
