"""A host stands still while another does its job, and hosts are told to end: nothing is written late, nothing is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ms_jobs.records import JobState, WorkerRecord, WorkerState
from tests.e2e.fault_service import FaultService
from tests.support.job_helpers import wait_until
from tests.support.service_processes import processes_of

pytestmark = [pytest.mark.alone, pytest.mark.slow]

QUEUED, SUCCEEDED = JobState.QUEUED, JobState.SUCCEEDED
GRACE_S = 4
SETTINGS = {
    "MSD_RUNTIME": "tests.support.hanging_runtime:HangingRuntime",
    "MSD_BENCH_STEP_S": "1",
    "MSD_STOP_GRACE_S": str(GRACE_S),
    "MSD_HEARTBEAT_TTL_S": "2",
    "MSD_RECOVERY_GRACE_S": "1",
}


@pytest.fixture(scope="module")
def service() -> Iterator[FaultService]:
    """Redis and an API; each test starts the supervisors that it needs."""
    with FaultService(**SETTINGS) as service:
        service.data_dir.mkdir()
        service.start_redis()
        service.start_api()
        yield service


@pytest.fixture(autouse=True)
def _no_hosts_are_left(service: FaultService) -> Iterator[None]:
    """Each test begins and ends without workers and without waiting jobs."""
    yield
    (service.data_dir / "linger").unlink(missing_ok=True)
    for process in service._workers:
        process.send_signal(signal.SIGCONT)
        process.terminate()
    for process in service._workers:
        process.wait(20)
    assert worker_pids(service) == set()
    for key in service.jobs.active(service.model):
        service.jobs.request_cancel(key.id)


def worker_pids(service: FaultService) -> set[int]:
    return {pid for pid, line in processes_of(service.folder).items() if "worker.main" in line}


def workers(service: FaultService) -> list[WorkerRecord]:
    return [worker for worker in service.registry.workers(service.model) if worker.state.serves]


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def everything_of(service: FaultService, job_id: str) -> tuple[dict[str, tuple[bytes, int]], Any, Any]:
    """The job's files with their bytes and times, its record, its event log."""
    root = service.data_dir / "local" / "jobs" / service.record(job_id).folder
    files = {
        str(path.relative_to(root)): (path.read_bytes() if path.is_file() else b"", path.stat().st_mtime_ns)
        for path in root.rglob("*")
    }
    log: Any = service.client.xrange(f"msd:events:local:{job_id}")
    return files, service.client.hgetall(f"msd:job:local:{job_id}"), log


@pytest.mark.parametrize(
    ("phase", "seconds"),
    [
        ("denoise", 0),
        ("store", 0),
        *[pytest.param(phase, 30, marks=pytest.mark.faults) for phase in ("denoise", "store")],
    ],
)
def test_a_host_that_stood_still_writes_nothing_of_a_job_that_another_has_done(
    service: FaultService, phase: str, seconds: float
) -> None:
    """``seconds`` is how long it stands still at least; it is always long enough for the other to finish."""
    linger = service.data_dir / "linger"
    linger.touch()
    service.start_worker()
    service.start_worker()
    wait_until(lambda: len(workers(service)) == 2, "two workers")
    job_id = service.submit(prompt=f"a cat and a teapot lingers-in-{phase}", num_inference_steps=4)
    service.wait_for(job_id, lambda record: record.phase == phase, f"phase {phase}")
    frozen = next(worker for worker in workers(service) if worker.name == service.record(job_id).worker)
    supervisor = parent_of(frozen.pid)
    stopped_at = time.monotonic()
    for pid in (supervisor, frozen.pid):
        os.kill(pid, signal.SIGSTOP)
    linger.unlink()
    record = service.wait_for_end(job_id)
    assert (record.state, record.attempt) == (SUCCEEDED, 2)
    time.sleep(max(0.0, stopped_at + seconds - time.monotonic()))
    before = everything_of(service, job_id)
    files = sorted(path for path in before[0] if path.startswith("attempts/") and path.endswith((".png", ".json")))
    assert files == ["attempts/2/image-0.png", "attempts/2/manifest.json"]
    for pid in (supervisor, frozen.pid):
        os.kill(pid, signal.SIGCONT)
    back = wait_until(
        lambda: [w for w in workers(service) if w.pid == frozen.pid and w.state is WorkerState.IDLE], "it"
    )
    assert back[0].name == frozen.name
    assert everything_of(service, job_id) == before
    # The one works, so that the other must take the next job.
    linger.touch()
    both = [service.submit(prompt="a cat and a teapot lingers-in-denoise") for _ in range(2)]
    wait_until(lambda: all(service.record(job).phase == "denoise" for job in both), "two jobs at work")
    linger.unlink()
    done = [service.wait_for_end(job) for job in both]
    assert {job.state for job in done} == {SUCCEEDED}
    assert frozen.name in {job.worker for job in done}
    assert frozen.pid in worker_pids(service)


def stop_everything(service: FaultService) -> float:
    """SIGTERM to supervisors and workers at once, as a service manager sends it; returns how long it took, in seconds."""
    begun = time.monotonic()
    supervisors = [process for process in service._workers if process.poll() is None]
    for pid in [process.pid for process in supervisors] + list(worker_pids(service)):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    assert [process.wait(GRACE_S + 5) for process in supervisors] == [0] * len(supervisors)
    return time.monotonic() - begun


def start_host(service: FaultService) -> subprocess.Popen[bytes]:
    process = service.start_worker()
    wait_until(lambda: workers(service), "a worker")
    return process


def queue_of(service: FaultService) -> list[str]:
    """Ids of the jobs in the queue, the next first."""
    entries: Any = service.client.lrange(f"rq:queue:generate-{service.model}", 0, -1)
    return [entry.decode().partition("_")[2].rpartition("_")[0] for entry in entries]


def test_a_host_told_to_end_under_load_hands_its_job_back_to_the_front(service: FaultService) -> None:
    start_host(service)
    jobs = [service.submit(num_inference_steps=60) for _ in range(4)]
    service.wait_for_step(jobs[0])
    api = service._api
    assert api is not None
    api.terminate()
    assert stop_everything(service) < GRACE_S
    api.wait(GRACE_S)
    service.start_api()
    assert worker_pids(service) == set()
    assert queue_of(service) == jobs
    record = service.record(jobs[0])
    assert (record.state, record.attempt, record.handed_back) == (QUEUED, 1, 1)
    assert workers(service) == []
    start_host(service)
    assert service.wait_for_step(jobs[0]).attempt == 2


def test_a_job_that_is_done_but_for_storing_is_stored(service: FaultService) -> None:
    (service.data_dir / "linger").touch()
    start_host(service)
    job_id = service.submit(prompt="a cat and a teapot lingers-in-store")
    service.wait_for(job_id, lambda record: record.phase == "store", "phase store")
    for pid in worker_pids(service):
        os.kill(pid, signal.SIGTERM)
    (service.data_dir / "linger").unlink()
    assert stop_everything(service) < GRACE_S
    record = service.record(job_id)
    assert (record.state, record.attempt) == (SUCCEEDED, 1)
    assert service.http.get(f"/jobs/{job_id}/images/0").status_code == 200


@pytest.mark.parametrize("told", ["once", "twice"])
def test_a_step_that_outlasts_the_grace_time_costs_no_attempt(service: FaultService, told: str) -> None:
    (service.data_dir / "linger").touch()
    start_host(service)
    job_id = service.submit(prompt="a cat and a teapot lingers-in-denoise")
    service.wait_for(job_id, lambda record: record.phase == "denoise", "phase denoise")
    if told == "twice":
        for pid in worker_pids(service):
            os.kill(pid, signal.SIGTERM)
        time.sleep(1.5)
    assert stop_everything(service) < GRACE_S
    record = service.record(job_id)
    assert (record.state, record.attempt, record.handed_back) == (QUEUED, 1, 1)
    assert queue_of(service) == [job_id]


def test_a_host_told_to_end_while_it_starts_does(service: FaultService) -> None:
    service.start_worker()
    wait_until(lambda: worker_pids(service), "a worker process")
    assert stop_everything(service) < GRACE_S
    assert worker_pids(service) == set()


@pytest.mark.parametrize("trouble", ["silent", pytest.param("cut", marks=pytest.mark.faults)])
def test_a_host_told_to_end_while_redis_is_away_does(service: FaultService, trouble: str) -> None:
    start_host(service)
    job_id = service.submit(num_inference_steps=30)
    service.wait_for_step(job_id)
    if trouble == "cut":
        service.proxy.cut()
    else:
        os.kill(service._redis.pid, signal.SIGSTOP)
    try:
        assert stop_everything(service) < GRACE_S + 1
        assert worker_pids(service) == set()
    finally:
        os.kill(service._redis.pid, signal.SIGCONT)
        service.proxy.heal()
    # Nobody could tell Redis, so the attempt counts; the job is done all the same.
    start_host(service)
    record = service.wait_for_end(job_id)
    assert (record.state, record.attempt) == (SUCCEEDED, 2)


def test_an_idle_host_told_to_end_while_redis_is_away_does(service: FaultService) -> None:
    start_host(service)
    service.proxy.cut()
    try:
        assert stop_everything(service) < GRACE_S + 1
    finally:
        service.proxy.heal()
