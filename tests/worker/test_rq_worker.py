from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest
from PIL import Image
from rq import Callback, Queue
from rq.job import Job
from rq.registry import StartedJobRegistry

from ms_core.errors import DeviceLostError
from ms_jobs import keys
from ms_jobs.asset_variants import NewVariant
from ms_jobs.keys import JobKey
from ms_jobs.queue import cutout_entry
from ms_jobs.records import GENERATE_JOB, LOCAL_OWNER, JobState
from tests.support.job_helpers import Desk, picture_png
from tests.worker.flat_runtime import FlatRuntime, raising
from worker import jobs
from worker.job_run import WorkerContext
from worker.queue_leftovers import QueueLeftovers
from worker.rq_worker import DeviceWorker


@pytest.fixture
def work(desk: Desk, context: WorkerContext, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Do all jobs that wait, in this process, as a worker process does."""
    monkeypatch.setattr(jobs, "_context", None)
    jobs.bind(context)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield (
        lambda: (
            DeviceWorker(context, desk.client, desk.model, lambda: None).work(burst=True, logging_level="WARNING")
            and None
        )
    )
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def queue(desk: Desk) -> Queue:
    return Queue(f"generate-{desk.model}", connection=desk.client, serializer="json")


Work = Callable[[], None]


def test_a_queued_job_is_done(desk: Desk, work: Work) -> None:
    job_id = desk.submit()
    work()
    assert desk.get(job_id).state is JobState.SUCCEEDED


def test_an_owner_at_its_limit_waits_for_one_of_its_jobs_to_end(desk: Desk, context: WorkerContext, work: Work) -> None:
    """That runs here as if on another worker."""
    waits, running = desk.submit(), desk.submit()
    desk.client.lpop(keys.queue(desk.model))
    desk.jobs.begin(running, "elsewhere", "cpu")
    worker = DeviceWorker(context, desk.client, desk.model, lambda: None, most_at_once=1)
    Thread(target=lambda: (time.sleep(0.5), desk.jobs.finish(running, 1, JobState.FAILED))).start()
    worker.work(burst=True, max_jobs=1, logging_level="WARNING")
    one, other = desk.get(running), desk.get(waits)
    assert other.state is JobState.SUCCEEDED
    assert one.ended_at is not None
    assert other.started_at is not None
    assert other.started_at >= one.ended_at
    assert not desk.client.exists(keys.taken(desk.model))


def test_the_name_in_the_contract_is_the_function() -> None:
    module, _, name = GENERATE_JOB.rpartition(".")
    assert (module, name) == (jobs.generate.__module__, jobs.generate.__qualname__)


def test_a_cut_out_is_made_by_the_same_worker(
    desk: Desk, work: Work, context: WorkerContext, runtime: FlatRuntime
) -> None:
    """And leaves nothing of RQ's."""
    variant = NewVariant(picture_png((255, 0, 0)), 32, 32, {})
    assets = desk.artifacts.assets(100)
    with assets.adding() as new:
        new.add(False, {"shown": variant, "exact": variant, "mask": variant})
        (asset,) = assets.publish(new)
    runtime.preview = lambda subject: Image.new("RGB", (8, 8))
    job_id = desk.submit()
    desk.queue.put_cutout(LOCAL_OWNER, asset.id)
    desk.queue.put_cutout(LOCAL_OWNER, asset.id)
    entry = cutout_entry(LOCAL_OWNER, desk.model, asset.id)
    assert desk.client.lrange(keys.queue(desk.model), 0, -1)[0] == entry.encode()
    assert desk.queue.waiting() == {JobKey(LOCAL_OWNER, job_id)}
    work()
    assert isinstance(assets.cutout(asset.id, desk.model), bytes)
    assert desk.get(job_id).state is JobState.SUCCEEDED
    assert not desk.client.exists(keys.rq_job(entry))


def test_a_cut_out_that_nobody_takes_is_removed_from_the_queue(desk: Desk) -> None:
    desk.queue.put_cutout(LOCAL_OWNER, "0" * 32)
    entry = cutout_entry(LOCAL_OWNER, desk.model, "0" * 32)
    assert any(name and entry in name for name in QueueLeftovers(desk.client, desk.jobs, desk.model).clear(0))
    assert not desk.client.exists(keys.rq_job(entry), keys.queue(desk.model))


def test_rq_keeps_nothing_of_a_job(desk: Desk, work: Work) -> None:
    job_id = desk.submit()
    work()
    assert [key for key in desk.client.keys("rq:*") if job_id.encode() in key] == []


@pytest.mark.parametrize("function", ["os.system", "worker.jobs.bind", "builtins.eval"])
def test_another_function_is_refused_and_the_worker_lives_on(
    desk: Desk, queue: Queue, work: Work, tmp_path: Path, function: str
) -> None:
    refused = queue.enqueue(function, f"touch {tmp_path}/broken-in")
    job_id = desk.submit()
    work()
    assert refused.get_status(refresh=True) == "failed"
    assert not (tmp_path / "broken-in").exists()
    assert desk.get(job_id).state is JobState.SUCCEEDED


def test_callbacks_are_not_called(desk: Desk, queue: Queue, work: Work) -> None:
    job_id = desk.record()
    # Called, it would stop this test in a debugger.
    queue.enqueue(
        GENERATE_JOB,
        "local",
        job_id,
        on_success=Callback("builtins.breakpoint"),
        on_failure=Callback("builtins.breakpoint"),
        result_ttl=60,
    )
    work()
    assert desk.get(job_id).state is JobState.SUCCEEDED


def test_a_method_of_an_object_is_refused(desk: Desk, queue: Queue, work: Work) -> None:
    job = Job.create(GENERATE_JOB, args=("x",), connection=desk.client, serializer="json")
    job.instance = "a string"
    job.func_name = "upper"
    queue.enqueue_job(job)
    work()
    assert job.get_status(refresh=True) == "failed"


def test_the_reliable_move_is_used(desk: Desk, work: Work, runtime: FlatRuntime) -> None:
    commands: list[int] = []
    runtime.at_step = lambda step: commands.append(desk.client.info("commandstats")["cmdstat_lmove"]["calls"])
    desk.client.config_resetstat()
    desk.submit()
    work()
    assert commands[0] >= 1


def test_a_lost_device_ends_the_worker_after_the_job(desk: Desk, work: Work, runtime: FlatRuntime) -> None:
    runtime.at_step = raising(DeviceLostError("Gone."))
    first, second = desk.submit(), desk.submit()
    work()
    attempts = sorted(desk.get(job_id).attempt for job_id in (first, second))
    assert attempts == [0, 1]
    assert desk.queue.waiting() == {JobKey("local", first), JobKey("local", second)}


def test_rq_may_take_a_long_job_for_abandoned(desk: Desk, queue: Queue, work: Work, runtime: FlatRuntime) -> None:
    started = StartedJobRegistry(queue=queue)
    far = time.time() + 10 * 24 * 3600
    found: list[int] = []

    def clean(step: int) -> None:
        found.append(len(started.get_job_ids(cleanup=False)))
        started.cleanup(far)

    runtime.at_step = clean
    job_ids = [desk.submit(), desk.submit()]
    work()
    assert found[0] == 1
    assert [desk.get(job_id).state for job_id in job_ids] == [JobState.SUCCEEDED] * 2
    assert [desk.get(job_id).attempt for job_id in job_ids] == [1, 1]


RUBBISH = [b"\xff\xfe", b"rubbish", b"local_x_0", b""]
HASHES: list[dict[str, bytes]] = [
    {"created_at": b"yesterday", "data": b"{", "origin": b"x"},
    {"created_at": b"2026-01-01T00:00:00Z", "status": b"resting"},
    {"timeout": b"many", "created_at": b"2026-01-01T00:00:00Z"},
]


@pytest.mark.parametrize("rubbish", RUBBISH)
def test_rubbish_in_the_queue_costs_no_warm_worker(desk: Desk, queue: Queue, work: Work, rubbish: bytes) -> None:
    desk.client.rpush(queue.key, rubbish)
    job_id = desk.record()
    for command in desk.queue.entry(desk.get(job_id)):
        desk.client.execute_command(*command)
    work()
    assert desk.get(job_id).state is JobState.SUCCEEDED


@pytest.mark.parametrize("fields", HASHES, ids=["date", "status", "number"])
def test_a_broken_hash_of_an_entry_costs_no_warm_worker(
    desk: Desk, queue: Queue, work: Work, fields: dict[str, bytes]
) -> None:
    desk.client.hset("rq:job:broken", mapping=fields)
    desk.client.rpush(queue.key, "broken")
    job_id = desk.record()
    for command in desk.queue.entry(desk.get(job_id)):
        desk.client.execute_command(*command)
    work()
    desk.client.delete("rq:job:broken")
    assert desk.get(job_id).state is JobState.SUCCEEDED


def test_a_hash_of_another_type_costs_no_warm_worker(desk: Desk, queue: Queue, work: Work) -> None:
    desk.client.set("rq:job:typed", "x")
    desk.client.rpush(queue.key, "typed")
    job_id = desk.record()
    for command in desk.queue.entry(desk.get(job_id)):
        desk.client.execute_command(*command)
    work()
    desk.client.delete("rq:job:typed")
    assert desk.get(job_id).state is JobState.SUCCEEDED


def test_rubbish_is_removed_from_the_queue_and_its_shadow(desk: Desk, queue: Queue) -> None:
    for name in (queue.key, queue.intermediate_queue_key):
        desk.client.rpush(name, b"\xff\xfe", b"rubbish")
    leftovers = QueueLeftovers(desk.client, desk.jobs, desk.model)
    removed = [name for name in leftovers.clear(0) if name is not None and desk.model in name]
    assert len(removed) == 4
    assert desk.client.exists(queue.key, queue.intermediate_queue_key) == 0


def test_a_record_of_another_type_keeps_no_other_entry_from_being_removed(desk: Desk, queue: Queue) -> None:
    gone, typed = desk.submit(), desk.submit()
    for job_id in (gone, typed):
        desk.client.delete(keys.job(JobKey(LOCAL_OWNER, job_id)))
    desk.client.set(keys.job(JobKey(LOCAL_OWNER, typed)), "x")
    list(QueueLeftovers(desk.client, desk.jobs, desk.model).clear(0))
    left = [entry.decode() for entry in desk.client.lrange(queue.key, 0, -1)]
    assert [typed in entry for entry in left] == [True]
    desk.client.delete(keys.job(JobKey(LOCAL_OWNER, typed)), queue.key)
