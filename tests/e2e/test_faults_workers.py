"""Workers are killed, hang and lose their device: every job comes to its end, and the service works on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ms_jobs.records import JobRecord, JobState
from tests.e2e.fault_service import FaultService
from tests.support.job_helpers import wait_until
from tests.support.service_processes import processes_of

pytestmark = pytest.mark.slow

SUCCEEDED, FAILED = JobState.SUCCEEDED, JobState.FAILED
# What the service promises.
NEXT_ATTEMPT_WITHIN_S = 15
STEP_BUDGET_S = 3
REPLACED_WITHIN_S = STEP_BUDGET_S + 5


@pytest.fixture(scope="module")
def real(golden_model_directory: Any) -> Iterator[FaultService]:
    """A service with the real pipeline, of which only the CUDA errors are simulated."""
    settings = {"MSD_RUNTIME": "tests.support.faulty_runtime:FaultyRuntime", "MSD_CPU_THREADS": "1"}
    with FaultService(model=str(golden_model_directory), **settings) as service:
        yield service.start()


@pytest.fixture(scope="module")
def quick() -> Iterator[FaultService]:
    """A service with workers that start in a moment, sleep, and hang when told."""
    settings = {"MSD_RUNTIME": "tests.support.hanging_runtime:HangingRuntime"}
    with FaultService(**settings, MSD_STEP_BUDGET_S=str(STEP_BUDGET_S), MSD_BENCH_STEP_S="1") as service:
        yield service.start()


def events(service: FaultService, job_id: str) -> list[tuple[str, int, float]]:
    """The job's event log: event, attempt, moment."""
    entries: Any = service.client.xrange(f"msd:events:local:{job_id}")
    return [(fields[b"event"].decode(), int(fields[b"attempt"]), float(fields[b"at"])) for _, fields in entries]


def pid_of(service: FaultService, record: JobRecord) -> int:
    """The process that works on the job."""

    def found() -> list[int]:
        return [worker.pid for worker in service.registry.workers(service.model) if worker.name == record.worker]

    return wait_until(found, "the worker's record")[0]


def worker_pids(service: FaultService) -> set[int]:
    return {pid for pid, line in processes_of(service.folder).items() if "worker.main" in line}


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def readiness(service: FaultService) -> tuple[str, str]:
    """The status of ``/readyz`` and what it says of the workers."""
    answer = service.http.get("/readyz").json()
    return answer["status"], answer["checks"]["workers"]["detail"]


def picture(service: FaultService, job_id: str) -> bytes:
    answer = service.http.get(f"/jobs/{job_id}/images/0")
    assert answer.status_code == 200
    return answer.content


@pytest.mark.alone
@pytest.mark.parametrize("kind", ["quick", pytest.param("real", marks=pytest.mark.faults)])
def test_the_job_of_a_killed_worker_is_begun_again_soon(request: pytest.FixtureRequest, kind: str) -> None:
    """The real worker spends most of this time on importing torch and diffusers, so it wants a machine of its own."""
    service: FaultService = request.getfixturevalue(kind)
    service.idle_worker()
    job_id = service.submit(num_inference_steps=100)
    os.kill(pid_of(service, service.wait_for_step(job_id)), signal.SIGKILL)
    killed_at = time.time()
    service.wait_for(job_id, lambda record: record.attempt == 2, "the next attempt")
    [begun_again_at] = [at for event, attempt, at in events(service, job_id) if (event, attempt) == ("running", 2)]
    assert begun_again_at - killed_at < NEXT_ATTEMPT_WITHIN_S
    service.jobs.request_cancel(job_id)
    service.wait_for_end(job_id)


def test_the_job_of_a_killed_worker_gives_the_same_picture(real: FaultService) -> None:
    asked = {"width": 512, "height": 512, "num_inference_steps": 12, "seed": 11}
    undisturbed = real.submit(**asked)
    assert real.wait_for_end(undisturbed).state is SUCCEEDED
    job_id = real.submit(**asked)
    first = real.wait_for_step(job_id)
    os.kill(pid_of(real, first), signal.SIGKILL)
    record = real.wait_for_end(job_id)
    assert (record.state, record.attempt, record.seed) == (SUCCEEDED, 2, 11)
    assert record.worker != first.worker
    assert picture(real, job_id) == picture(real, undisturbed)


def test_memory_that_runs_out_once_is_done_without_in_the_same_attempt(real: FaultService) -> None:
    pid = real.idle_worker().pid
    record = real.wait_for_end(real.submit(prompt="a cat and a teapot memory-out-once", num_images=2))
    assert (record.state, record.attempt, len(record.images)) == (SUCCEEDED, 1, 2)
    assert "memory_retry" in {warning.code for warning in record.warnings}
    assert real.idle_worker().pid == pid


def test_memory_that_never_suffices_fails_this_job_alone(real: FaultService) -> None:
    pid = real.idle_worker().pid
    too_large = real.submit(prompt="a cat and a teapot memory-out", num_images=2)
    other = real.submit()
    record = real.wait_for_end(too_large)
    assert record.error is not None
    assert (record.state, record.error.code, record.attempt) == (FAILED, "device_out_of_memory", 1)
    assert real.wait_for_end(other).state is SUCCEEDED
    assert real.idle_worker().pid == pid


@pytest.mark.faults
def test_a_lost_device_replaces_the_worker_and_fails_only_the_job_that_breaks_it_twice(real: FaultService) -> None:
    before = real.idle_worker()
    breaking = real.submit(prompt="a cat and a teapot device-breaks")
    other = real.submit()
    told = wait_until(lambda: {status: told for status, told in [readiness(real)] if "defunct" in told}, "defunct")
    assert "ready" not in told
    wait_until(lambda: "lost its device; a new one is starting" in readiness(real)[1], "the reason")
    record = real.wait_for_end(breaking)
    assert record.error is not None
    assert (record.state, record.error.code, record.attempt) == (FAILED, "device_lost", 2)
    assert [event for event, _, _ in events(real, breaking)] == ["queued", "running", "given_back", "running", "failed"]
    done = real.wait_for_end(other)
    assert (done.state, done.attempt) == (SUCCEEDED, 1)
    assert len({before.name, record.worker, done.worker}) == 3
    assert before.pid not in worker_pids(real)


@pytest.mark.alone
def test_a_job_that_kills_two_workers_fails_and_says_so(quick: FaultService) -> None:
    job_id = quick.submit(num_inference_steps=60)
    for attempt in (1, 2):
        record = quick.wait_for(job_id, lambda record, n=attempt: record.attempt == n and record.step, "a step")
        os.kill(pid_of(quick, record), signal.SIGKILL)
    quick.wait_for_end(job_id)
    answer = quick.http.get(f"/jobs/{job_id}").json()
    assert (answer["status"], answer["error"]["code"], answer["attempt"]) == ("failed", "worker_died", 2)
    assert "in 2 attempts" in answer["error"]["detail"]
    assert quick.http.get(f"/jobs/{job_id}/images/0").status_code == 404
    assert quick.wait_for_end(quick.submit()).state is SUCCEEDED


@pytest.mark.alone
def test_a_host_that_stood_still_for_longer_than_a_step_may_last_goes_on_with_its_job(quick: FaultService) -> None:
    quick.data_dir.mkdir(exist_ok=True)
    (quick.data_dir / "linger").touch()
    job_id = quick.submit(prompt="a cat and a teapot lingers-in-denoise")
    record = quick.wait_for(job_id, lambda record: record.phase == "denoise", "phase denoise")
    worker = pid_of(quick, record)
    both = (parent_of(worker), worker)
    for pid in both:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(STEP_BUDGET_S + 1)
    # The supervisor comes first, so that it sees a worker that is late.
    os.kill(both[0], signal.SIGCONT)
    time.sleep(0.5)
    os.kill(both[1], signal.SIGCONT)
    (quick.data_dir / "linger").unlink()
    done = quick.wait_for_end(job_id)
    assert (done.state, done.attempt, done.worker) == (SUCCEEDED, 1, record.worker)
    assert worker_pids(quick) == {worker}


@pytest.mark.alone
@pytest.mark.parametrize("fault", ["hangs-once", "hangs-locked-once"])
def test_a_worker_whose_step_hangs_is_replaced_in_time_and_readyz_tells(quick: FaultService, fault: str) -> None:
    quick.idle_worker()
    [hung] = worker_pids(quick)
    job_id = quick.submit(prompt=f"a cat and a teapot {fault}", seed=len(fault))
    quick.wait_for_step(job_id)
    hung_at = time.monotonic()
    told = wait_until(lambda: [word for word in [readiness(quick)] if "made no progress" in word[1]], "the reason")[0]
    assert told[0] != "ready"
    assert "1 defunct" in told[1]
    assert "in phase denoise" in told[1]
    wait_until(lambda: worker_pids(quick) - {hung}, "another worker")
    assert time.monotonic() - hung_at < REPLACED_WITHIN_S
    record = quick.wait_for_end(job_id)
    assert (record.state, record.attempt) == (SUCCEEDED, 2)
    wait_until(lambda: readiness(quick)[0] == "ready", "a service that is ready")
