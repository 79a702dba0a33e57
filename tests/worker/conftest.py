"""A worker's surroundings."""

from __future__ import annotations

import pytest

from ms_jobs.records import WorkerRecord, WorkerState
from tests.support.job_helpers import Desk
from tests.worker.flat_runtime import FlatRuntime
from worker.heartbeat import Heartbeat
from worker.job_run import WorkerContext


@pytest.fixture
def runtime() -> FlatRuntime:
    return FlatRuntime()


@pytest.fixture
def context(desk: Desk, runtime: FlatRuntime) -> WorkerContext:
    record = WorkerRecord(
        name="w1", model=desk.model, state=WorkerState.IDLE, device="cpu", host="h", pid=1, started_at=0.0
    )
    return WorkerContext(
        name="w1",
        job_timeout_s=60,
        jobs=desk.jobs,
        blocking_jobs=desk.jobs,
        queue=desk.queue,
        artifacts=desk.artifacts,
        heartbeat=Heartbeat(record, lambda beat: None, lambda phase: None, 1),
        runtime=runtime,
    )
