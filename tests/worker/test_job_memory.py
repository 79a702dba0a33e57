"""How much of Redis a job may take: everything that speaks of it, as Redis counts it."""

from __future__ import annotations

import secrets
import signal
from pathlib import Path

import pytest
from redis import Redis

from ms_core.spec import GenerationWarning
from ms_jobs.job_store import PROGRESS_ENTRIES
from ms_jobs.outcomes import Gone, Requeue
from ms_jobs.records import JobState, PictureScore, StoredImage, SubjectScore, new_job_id
from tests.support.job_helpers import Desk
from tests.support.job_keys import DIED, LIFETIME_S, Ledger
from tests.worker.flat_runtime import FlatRuntime
from worker import jobs
from worker.job_run import WorkerContext
from worker.redis_server import RedisServer
from worker.rq_worker import DeviceWorker

KB = 1000
PREVIEW = secrets.token_bytes(6 * KB)


def warnings() -> tuple[GenerationWarning, ...]:
    """What a prompt of 1 kB and four subjects may give: the prompt is cut off, and no phrase is found in what is left."""
    cut = GenerationWarning(
        code="prompt_cut",
        detail=f"The model reads 77 tokens; it does not see: {'of the prompt ' * 50}.",
        pointer="/prompt",
    )
    missing = "This phrase is not in the prompt, so its words are not looked at where the picture has its box: "
    subjects = [
        GenerationWarning(
            code="phrase_not_in_prompt", detail=missing + "a phrase" * 5, pointer=f"/subjects/{index}/phrase"
        )
        for index in range(4)
    ]
    return (cut, *subjects)


@pytest.fixture
def long_job(ledger: Ledger) -> str:
    """The largest job in sight while it runs for the second time: id, texts and lists of full length."""
    record = ledger.new(
        num_images=8,
        warnings=warnings(),
        request_hash=secrets.token_hex(32),
        request_id=secrets.token_hex(16),
        retried_from=secrets.token_urlsafe(16),
        shape="sdxl|1024x1024|30|8|4",
    )
    ledger.jobs.create(record, secrets.token_hex(16), cancel_after_s=100, start_within_s=100)
    for attempt, worker in enumerate(("host-gpu0-aabbccdd", "host-gpu1-aabbccdd"), start=1):
        assert ledger.jobs.begin(record.id, worker, "cuda GPU-12345678-1234-1234-1234-123456789012") is not None
        for step in range(PROGRESS_ENTRIES + 1):
            fields = {"warnings": warnings(), "references": (0, 1, 2, 3), "step": step, "steps": 100}
            ledger.jobs.progress(record.id, attempt, PREVIEW, phase="denoise", **fields)
        if attempt == 1:
            ledger.jobs.requeue(record.id, attempt, Requeue.ABANDONED, DIED)
    return record.id


def bytes_of(ledger: Ledger, job_id: str) -> int:
    """All keys that speak of a job, those too that it shares with others."""
    return sum(int(ledger.client.memory_usage(key, samples=0) or 0) for key in ledger.mentions(job_id))


def finish(ledger: Ledger, job_id: str) -> None:
    score = PictureScore(4, (SubjectScore(0.12, 0.45, 0.78),) * 4)
    images = tuple(
        StoredImage(
            index=index, sha256=secrets.token_hex(32), width=1024, height=1024, seed=2**53 - 1 - index, score=score
        )
        for index in range(8)
    )
    fields = {"images": images, "warnings": warnings(), "references": (0, 1, 2, 3), "result_attempt": 2}
    assert ledger.jobs.finish(job_id, 2, JobState.SUCCEEDED, **fields) is JobState.SUCCEEDED


@pytest.fixture
def bytes_in_rq(desk: Desk, context: WorkerContext, runtime: FlatRuntime, monkeypatch: pytest.MonkeyPatch) -> int:
    """What RQ keeps of a job while a worker of ours runs it."""
    monkeypatch.setattr(jobs, "_context", None)
    jobs.bind(context)
    job_id = desk.submit()
    seen: list[int] = []

    def look(step: int) -> None:
        keys = [key for key in desk.client.scan_iter("rq:*", count=1000) if job_id.encode() in key]
        seen.append(sum(int(desk.client.memory_usage(key, samples=0) or 0) for key in keys))

    runtime.at_step = look
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    DeviceWorker(context, desk.client, desk.model, lambda: None).work(burst=True, logging_level="WARNING")
    for number, handler in handlers.items():
        signal.signal(number, handler)
    return max(seen)


def test_a_running_job_takes_at_most_24_kb(ledger: Ledger, long_job: str, bytes_in_rq: int) -> None:
    assert bytes_in_rq > KB
    assert bytes_of(ledger, long_job) + bytes_in_rq <= 24 * KB


def test_an_ended_job_takes_at_most_8_kb(ledger: Ledger, long_job: str) -> None:
    finish(ledger, long_job)
    assert bytes_of(ledger, long_job) <= 8 * KB


def test_nothing_but_a_mark_is_left_of_an_expired_job(ledger: Ledger, long_job: str) -> None:
    expire(ledger, long_job)
    assert ledger.mentions(long_job) == [f"msd:gone:{ledger.name}:{long_job}"]


def test_the_mark_of_an_expired_job_takes_at_most_200_bytes(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, log_file=tmp_path / "redis.log")
    server.start()
    with Redis.from_url(server.url) as client:
        ledger = Ledger.open(client, "local")
        job_id = ledger.begun()
        expire(ledger, job_id, attempt=1)
        before = kept_bytes(client)
        # As many as a soak makes, for Redis counts what it uses for itself too; a copy has its own time to live.
        pipeline = client.pipeline(transaction=False)
        for _ in range(20_000):
            pipeline.copy(f"msd:gone:local:{job_id}", f"msd:gone:local:{new_job_id()}")
        copied = sum(pipeline.execute())
        grown = kept_bytes(client) - before
    server.stop()
    assert copied == 20_000
    assert grown / copied <= 200


def kept_bytes(client: Redis) -> int:
    """What Redis uses, without what it still has to send and to write to its file."""
    memory = client.info("memory")
    return memory["used_memory"] - memory["mem_aof_buffer"] - memory["mem_clients_normal"]


def expire(ledger: Ledger, job_id: str, attempt: int = 2) -> None:
    ledger.jobs.finish(job_id, attempt, JobState.SUCCEEDED)
    ledger.clock.forward(LIFETIME_S)
    assert ledger.jobs.erase(job_id, Gone.EXPIRED) is not None
