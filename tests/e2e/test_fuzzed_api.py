"""Requests made from the OpenAPI document, good ones and bad ones: each answer is as the document says."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import redis

from ms_jobs.artifacts import ArtifactStore
from ms_jobs.job_store import JobStore
from ms_jobs.queue import JobQueue
from ms_jobs.registry import Registry
from tests.app.completed_requests import CARD
from tests.support.played_worker import PlayedWorker
from tests.support.service_processes import environment, free_port, running_msd

MODEL = "fuzzed"
# About a minute on one core.
OPTIONS = (
    "--checks",
    "all",
    "--seed",
    "13",
    "--max-examples",
    "4",
    "--continue-on-failure",
    "--suppress-health-check",
    "all",
)
PATIENCE_S = 900


@contextmanager
def jobs_done(client: redis.Redis, data: Path) -> Iterator[None]:
    """Let each job succeed soon after it was sent."""
    worker, queue = PlayedWorker(client, JobStore(client), ArtifactStore(data)), JobQueue(client, MODEL)
    is_over = threading.Event()

    def work() -> None:
        while not is_over.wait(0.02):
            for job in queue.waiting():
                # Clients cancel and delete jobs meanwhile.
                with suppress(Exception):
                    worker.succeed(job.id)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def test_every_answer_is_as_the_document_says(redis_url: str, tmp_path: Path) -> None:
    """``tests.e2e.fuzzing_hooks`` has what is allowed beside."""
    data, port = tmp_path / "data", free_port()
    address = f"http://127.0.0.1:{port}/openapi.json"
    with redis.Redis.from_url(redis_url) as client, jobs_done(client, data):
        Registry(client).publish_card(MODEL, CARD)
        with running_msd("api", "--port", port, "--data", data, "--model", MODEL, MSD_REDIS_URL=redis_url):
            run = subprocess.run(
                [sys.executable, "-m", "schemathesis.cli", "run", address, "--wait-for-schema", "60", *OPTIONS],
                env=environment(SCHEMATHESIS_HOOKS="tests.e2e.fuzzing_hooks"),
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
                check=False,
            )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "Tested: 16" in run.stdout
