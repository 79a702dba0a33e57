"""For each test a desk of its own (its own model name, so its own queue and keys), and a worker's surroundings."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from ms_jobs.records import WorkerRecord, WorkerState
from tests.support.job_helpers import Desk
from tests.support.job_keys import Ledger
from tests.worker.flat_runtime import FlatRuntime
from worker.job_run import WorkerContext
from worker.pulse import Pulse


@pytest.fixture
def desk(redis_url: str, tmp_path: Path) -> Iterator[Desk]:
    desk = Desk.open(redis_url, tmp_path / "data", f"test-{secrets.token_hex(4)}")
    yield desk
    desk.client.close()


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
        patient_jobs=desk.jobs,
        queue=desk.queue,
        artifacts=desk.artifacts,
        pulse=Pulse(record, lambda beat: None, lambda phase: None, 1),
        runtime=runtime,
    )


@pytest.fixture
def ledger(desk: Desk) -> Ledger:
    return Ledger.open(desk.client, desk.model)
