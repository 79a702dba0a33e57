"""What a worker tells of its jobs, of itself and of its device."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
from redis import Redis
from structlog.contextvars import get_contextvars

from ms_core.errors import PhraseNotFoundError
from ms_jobs.keys import JobKey
from ms_jobs.measures import Measures
from ms_jobs.pace import Pace, Shape
from ms_jobs.records import JobRecord, Usage
from tests.support.job_helpers import Desk
from tests.worker.flat_runtime import FlatRuntime, raising
from worker.job_run import JobRun, WorkerContext
from worker.telemetry import PhaseTimes, Telemetry, UsageProbe, device_usage, open_device, resident_bytes

SHAPE = str(Shape(4, 1, 8, 16, False, 1, 0))


@pytest.fixture
def telling(context: WorkerContext, desk: Desk) -> WorkerContext:
    """A worker that keeps how long jobs took."""
    context.telemetry = Telemetry(Measures(desk.client, desk.model), Pace(desk.client, desk.model))
    return context


def run(context: WorkerContext, desk: Desk, **fields: str) -> str:
    job_id = desk.submit()
    for name, value in fields.items():
        desk.client.hset(f"msd:job:local:{job_id}", name, f'"{value}"')
    JobRun(context, JobKey("local", job_id)).run()
    return job_id


def test_the_phases_of_a_job_are_kept(telling: WorkerContext, desk: Desk) -> None:
    run(telling, desk)
    kept = {label for kind, label in Measures(desk.client, desk.model).histograms() if kind == "phase"}
    assert kept == {"encode", "denoise", "decode", "store"}


def test_what_a_shape_took_is_learned(telling: WorkerContext, desk: Desk) -> None:
    run(telling, desk, shape=SHAPE)
    assert [entry.split()[0].decode() for entry in desk.client.lrange(f"msd:pace:{desk.model}", 0, -1)] == [SHAPE]


def test_nothing_is_learned_of_a_job_that_failed(telling: WorkerContext, desk: Desk, runtime: FlatRuntime) -> None:
    runtime.at_step = raising(RuntimeError("broken"))
    run(telling, desk)
    assert desk.client.llen(f"msd:pace:{desk.model}") == 0


def test_jobs_that_came_to_an_end_are_counted(telling: WorkerContext, desk: Desk, runtime: FlatRuntime) -> None:
    run(telling, desk)
    runtime.at_step = raising(RuntimeError("broken"))
    run(telling, desk)
    assert telling.jobs_done == 2


def test_a_job_succeeds_though_nothing_can_be_kept(context: WorkerContext, desk: Desk, tmp_path: Path) -> None:
    nowhere = Redis(unix_socket_path=str(tmp_path / "nowhere.sock"))
    context.telemetry = Telemetry(Measures(nowhere, desk.model), Pace(nowhere, desk.model))
    assert desk.get(run(context, desk)).state == "succeeded"


def test_every_line_of_a_job_carries_the_ids_of_its_request_and_attempt(
    context: WorkerContext, desk: Desk, runtime: FlatRuntime
) -> None:
    seen: dict[str, object] = {}
    runtime.at_step = lambda step: seen.update(get_contextvars())
    job_id = run(context, desk, request_id="from-http")
    assert seen == {"request_id": "from-http", "job_id": job_id, "attempt": 1, "worker": "w1"}


def test_after_a_job_its_ids_are_on_no_line(context: WorkerContext, desk: Desk) -> None:
    run(context, desk)
    assert "job_id" not in get_contextvars()


def test_phases_are_logged_with_their_seconds(
    context: WorkerContext, desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        run(context, desk)
    over = [record for record in caplog.records if record.message == "phase over"]
    assert [record.__dict__["phase"] for record in over] == ["encode", "denoise", "decode", "store"]


def test_steps_are_logged_for_who_asks(context: WorkerContext, desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        run(context, desk)
    assert [record.__dict__["step"] for record in caplog.records if record.message == "step"] == [1, 2, 3, 4]


def test_an_error_that_quotes_the_prompt_is_logged_by_its_code(
    context: WorkerContext, desk: Desk, runtime: FlatRuntime, caplog: pytest.LogCaptureFixture
) -> None:
    runtime.at_step = raising(PhraseNotFoundError("The phrase 'my secret cat' is not in the prompt.", "/subjects/0"))
    with caplog.at_level(logging.DEBUG):
        run(context, desk)
    shown = [str(record.__dict__) for record in caplog.records if record.name.startswith("worker")]
    assert [line for line in shown if "secret" in line] == []


def test_a_phase_that_comes_twice_counts_both_times(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter((0.0, 1.0, 3.0, 6.0))
    monkeypatch.setattr("worker.telemetry.time.monotonic", lambda: next(now))
    times = PhaseTimes()
    for phase in ("denoise", "decode", "denoise", None):
        times.enter(phase)
    assert times.seconds == {"denoise": 4.0, "decode": 2.0}


def test_the_memory_of_the_process_is_what_the_kernel_says() -> None:
    status = Path("/proc/self/status").read_text()
    kernel = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))
    assert resident_bytes() == pytest.approx(kernel, rel=0.2)


def test_on_the_cpu_only_the_process_is_looked_at() -> None:
    usage = UsageProbe(None).latest
    assert usage == Usage(rss_bytes=usage.rss_bytes)


class FakeNvml:
    """As ``pynvml`` on a machine with one device; a slice of a device has no utilisation."""

    NVMLError = RuntimeError

    def __init__(self, is_slice: bool) -> None:
        self._is_slice = is_slice

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> SimpleNamespace:  # noqa: N802 - NVML's name
        return SimpleNamespace(used=3, total=8)

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> SimpleNamespace:  # noqa: N802 - NVML's name
        if self._is_slice:
            raise RuntimeError("Not Supported")
        return SimpleNamespace(gpu=40)


def test_a_device_tells_its_memory_and_utilisation() -> None:
    found = device_usage(FakeNvml(is_slice=False), "handle")
    assert found == {"memory_used_bytes": 3, "memory_total_bytes": 8, "utilisation": 0.4}


def test_a_slice_of_a_device_tells_its_memory() -> None:
    assert device_usage(FakeNvml(is_slice=True), "handle") == {"memory_used_bytes": 3, "memory_total_bytes": 8}


def test_a_device_that_nvml_does_not_know_is_no_trouble() -> None:
    assert open_device("GPU-00000000-0000-0000-0000-000000000000")[1] is None


def test_a_record_without_a_request_id_is_logged_too(context: WorkerContext, desk: Desk) -> None:
    record: JobRecord = desk.get(run(context, desk))
    assert (record.request_id, record.state) == (None, "succeeded")
