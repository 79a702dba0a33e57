"""Requests made from the OpenAPI document, good ones and bad ones: each answer is as the document says."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import redis

from app.config import Settings
from app.main import create_app
from ms_jobs.api_keys import ApiKeyStore, Scope
from ms_jobs.artifacts import ArtifactStore
from ms_jobs.job_store import JobStore
from ms_jobs.queue import JobQueue
from ms_jobs.registry import Registry
from tests.app.completed_requests import CARD
from tests.support.played_worker import PlayedWorker
from tests.support.service_processes import environment, free_port, running_msd

MODEL = "fuzzed"
# Without what waits for pictures, and whose bodies the document cannot describe in full (see ``tests/app/openai``), and what takes
# the body of ``POST /generate`` with the same errors (see ``tests/app/test_validate.py`` and ``tests/e2e/test_http_create_once.py``).
EXCLUDED = ("/v1/images/", "/validate")
EXCLUDED_OPERATION = "put_job"
# About a minute on one core.
OPTIONS = (
    "--exclude-path-regex",
    f"^({'|'.join(EXCLUDED)})",
    "--exclude-operation-id",
    EXCLUDED_OPERATION,
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


@pytest.mark.parametrize("asks_for_a_key", [False, pytest.param(True, marks=pytest.mark.faults)])
def test_every_answer_is_as_the_document_says(redis_url: str, tmp_path: Path, asks_for_a_key: bool) -> None:
    """``tests.e2e.fuzzing_hooks`` has what is allowed beside. With a key, no endpoint that needs one answers without."""
    data, port = tmp_path / "data", free_port()
    address = f"http://127.0.0.1:{port}/openapi.json"
    with redis.Redis.from_url(redis_url) as client, jobs_done(client, data):
        Registry(client).publish_card(MODEL, CARD)
        settings, header = {"MSD_REDIS_URL": redis_url}, []
        if asks_for_a_key:
            token, _ = ApiKeyStore(client).create(f"fuzz-{port}", scopes={Scope.READ, Scope.GENERATE})
            settings["MSD_AUTH"], header = "on", ["--header", f"Authorization: Bearer {token}"]
        with running_msd("api", "--port", port, "--data", data, "--model", MODEL, **settings):
            command = [sys.executable, "-m", "schemathesis.cli", "run", address, "--wait-for-schema", "60"]
            run = subprocess.run(
                [*command, *header, *OPTIONS],
                env=environment(SCHEMATHESIS_HOOKS="tests.e2e.fuzzing_hooks"),
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
                check=False,
            )
    assert run.returncode == 0, run.stdout + run.stderr
    paths = create_app(Settings()).openapi()["paths"]
    left = [operation for path in paths if not path.startswith(EXCLUDED) for operation in paths[path].values()]
    tested = [operation for operation in left if operation["operationId"] != EXCLUDED_OPERATION]
    assert f"Tested: {len(tested)}" in run.stdout
