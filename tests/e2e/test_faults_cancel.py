"""Jobs are canceled at every moment of their lives: the answer is kept, no picture is served, and nobody else is hit."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ms_jobs.records import JobState
from tests.e2e.fault_service import FaultService

pytestmark = pytest.mark.slow

CANCELED, SUCCEEDED = JobState.CANCELED, JobState.SUCCEEDED
AT_ONCE = 4


@pytest.fixture(scope="module")
def service() -> Iterator[FaultService]:
    settings = {"MSD_RUNTIME": "tests.support.hanging_runtime:HangingRuntime"}
    with FaultService(**settings, MSD_BENCH_STEP_S="0.1") as service:
        service.data_dir.mkdir()
        yield service.start()


@pytest.fixture(autouse=True)
def _one_warm_worker(service: FaultService) -> Iterator[None]:
    """Whatever is canceled, the worker stays the same process and does the next job."""
    worker = service.idle_worker()
    yield
    (service.data_dir / "linger").unlink(missing_ok=True)
    done = service.wait_for_end(service.submit(num_inference_steps=1))
    assert (done.state, done.worker) == (SUCCEEDED, worker.name)
    assert service.idle_worker().pid == worker.pid


def cancel(service: FaultService, job_id: str) -> tuple[int, dict[str, Any]]:
    answer = service.http.post(f"/jobs/{job_id}/cancel")
    return answer.status_code, answer.json()


def image_status(service: FaultService, job_id: str) -> int:
    return service.http.get(f"/jobs/{job_id}/images/0").status_code


def test_a_job_canceled_before_its_start_is_never_begun(service: FaultService) -> None:
    (service.data_dir / "linger").touch()
    running = service.submit(prompt="a cat and a teapot lingers-in-denoise")
    service.wait_for(running, lambda record: record.phase == "denoise", "phase denoise")
    waiting = service.submit()
    status, body = cancel(service, waiting)
    assert (status, body["status"]) == (200, "canceled")
    assert cancel(service, waiting)[0] == 200
    (service.data_dir / "linger").unlink()
    assert service.wait_for_end(running).state is SUCCEEDED
    record = service.record(waiting)
    assert (record.state, record.attempt) == (CANCELED, 0)
    assert image_status(service, waiting) == 404


@pytest.mark.parametrize("phase", ["encode", "denoise", "decode", "store"])
def test_a_job_canceled_in_a_phase_ends_with_it(service: FaultService, phase: str) -> None:
    (service.data_dir / "linger").touch()
    job_id = service.submit(prompt=f"a cat and a teapot lingers-in-{phase}")
    other = service.submit()
    service.wait_for(job_id, lambda record: record.phase == phase, f"phase {phase}")
    status, body = cancel(service, job_id)
    assert (status, body["status"], body["cancel_requested"]) == (202, "running", True)
    assert cancel(service, job_id)[0] == 202
    asked = service.record(job_id)
    (service.data_dir / "linger").unlink()
    record = service.wait_for_end(job_id)
    assert (record.state, record.attempt, record.images) == (CANCELED, 1, ())
    # One more report of progress, to which the answer was to stop, and the end.
    assert record.version - asked.version <= 2
    assert image_status(service, job_id) == 404
    assert cancel(service, job_id)[0] == 200
    assert service.wait_for_end(other).state is SUCCEEDED


def test_a_job_that_has_ended_is_canceled_no_more(service: FaultService) -> None:
    job_id = service.submit()
    service.wait_for_end(job_id)
    status, body = cancel(service, job_id)
    assert (status, body["code"]) == (409, "job_conflict")
    assert service.record(job_id).state is SUCCEEDED
    assert image_status(service, job_id) == 200


@pytest.mark.parametrize("count", [60, pytest.param(200, marks=pytest.mark.faults)])
def test_the_answer_is_kept_at_random_moments(service: FaultService, count: int) -> None:
    chance = random.Random(4)
    moments = [chance.uniform(0, 0.8) for _ in range(count)]
    bystanders = [service.submit(num_inference_steps=4) for _ in range(5)]

    def cancel_after(seconds: float) -> tuple[str, int]:
        job_id = service.submit(num_inference_steps=8)
        time.sleep(seconds)
        return job_id, cancel(service, job_id)[0]

    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(cancel_after, moments))
    bystanders += [service.submit(num_inference_steps=4) for _ in range(5)]
    expected = {200: CANCELED, 202: CANCELED, 409: SUCCEEDED}
    for job_id, status in answers:
        record = service.wait_for_end(job_id)
        assert record.state is expected[status], (job_id, status)
        assert image_status(service, job_id) == (200 if status == 409 else 404), (job_id, status)
    # Each kind of moment was met.
    assert min(Counter(status for _, status in answers)[status] for status in expected) > 0
    assert {service.wait_for_end(job_id).state for job_id in bystanders} == {SUCCEEDED}
