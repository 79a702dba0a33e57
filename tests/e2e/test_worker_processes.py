"""Jobs handed in without the API to the worker of the live service: one supervisor and its worker, and a real Redis."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from ms_jobs.outcomes import CancelOutcome
from ms_jobs.records import JobState, WorkerRecord, WorkerState
from ms_jobs.result_files import read_recipe
from tests.e2e.http_service import LONG, HttpService
from tests.support.job_helpers import Desk, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def desk(service: HttpService) -> Iterator[Desk]:
    """Hands in jobs to the supervisor's worker, past the API."""
    service.wait_until_ready()
    desk = Desk.open(service.redis_url, service.data_dir, "golden")
    yield desk
    desk.client.close()


@pytest.fixture
def worker(desk: Desk) -> WorkerRecord:
    return the_worker(desk)


def the_worker(desk: Desk) -> WorkerRecord:
    """The one worker, once it is idle."""

    def idle() -> list[WorkerRecord]:
        return [worker for worker in desk.registry.workers(desk.model) if worker.state is WorkerState.IDLE]

    return wait_until(idle, "an idle worker")[0]


def pixels(desk: Desk, job_id: str) -> bytes:
    with Image.open(io.BytesIO(desk.image(job_id))) as image:
        return image.tobytes()


def test_a_job_runs_from_end_to_end(desk: Desk, worker: WorkerRecord) -> None:
    job_id = desk.submit(num_images=2, seed=11, num_inference_steps=2)
    record = desk.wait_for_end(job_id)
    assert (record.state, record.error) == (JobState.SUCCEEDED, None)
    assert [(image.width, image.height, image.seed) for image in record.images] == [(256, 256, 11), (256, 256, 12)]
    assert (record.worker, record.device, record.attempt) == (worker.name, "cpu", 1)
    recipe = read_recipe(desk.image(job_id, 1))
    assert recipe is not None
    assert recipe["seed"] == 12
    assert recipe["values"]["num_inference_steps"] == 2
    assert set(recipe["versions"]) >= {"torch", "diffusers"}


def test_the_same_seed_gives_the_same_picture(desk: Desk) -> None:
    first, second, other = (desk.submit(seed=seed, num_inference_steps=2) for seed in (3, 3, 4))
    pictures = {job_id: desk.wait_for_end(job_id) and pixels(desk, job_id) for job_id in (first, second, other)}
    assert pictures[first] == pictures[second]
    assert pictures[first] != pictures[other]


def test_the_card_of_the_model_is_published(desk: Desk, worker: WorkerRecord) -> None:
    card = desk.registry.card(desk.model)
    assert card is not None
    assert (card.name, card.max_height, card.defaults.height) == ("golden", 512, 256)


def test_a_running_job_is_canceled_within_one_step_and_the_model_stays_warm(desk: Desk, worker: WorkerRecord) -> None:
    job_id = desk.submit(**LONG)
    desk.wait_for_step(job_id)
    assert desk.jobs.request_cancel(job_id) is CancelOutcome.REQUESTED
    asked_at = desk.get(job_id)
    record = desk.wait_for_end(job_id)
    assert record.state is JobState.CANCELED
    assert record.step is not None
    assert asked_at.step is not None
    assert record.step - asked_at.step <= 1
    following = desk.wait_for_end(desk.submit(num_inference_steps=1))
    assert (following.state, following.worker) == (JobState.SUCCEEDED, worker.name)
    assert the_worker(desk).pid == worker.pid


def test_a_job_that_cannot_be_done_fails_with_a_sentence(desk: Desk, worker: WorkerRecord) -> None:
    record = desk.wait_for_end(desk.submit(height=1024))
    assert record.error is not None
    assert (record.state, record.error.code) == (JobState.FAILED, "invalid_input")
    assert "512" in record.error.detail
    assert the_worker(desk).pid == worker.pid


def test_a_foreign_function_is_refused_and_the_worker_lives_on(
    desk: Desk, worker: WorkerRecord, tmp_path: Path
) -> None:
    queue = desk.queue._queue
    refused = queue.enqueue("os.system", f"touch {tmp_path}/broken-in")
    wait_until(lambda: refused.get_status(refresh=True) == "failed", "the refusal")
    assert not (tmp_path / "broken-in").exists()
    assert desk.wait_for_end(desk.submit(num_inference_steps=1)).worker == worker.name
