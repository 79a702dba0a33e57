from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from redis.exceptions import NoPermissionError

from ms_core.errors import DeviceLostError, DeviceOutOfMemoryError
from ms_core.spec import WHOLE_PICTURE, GenerationWarning, Subject
from ms_jobs.artifacts import Manifest
from ms_jobs.connection import redis_client
from ms_jobs.job_request import job_document
from ms_jobs.job_store import JobStore
from ms_jobs.keys import JobKey
from ms_jobs.outcomes import Requeue
from ms_jobs.records import JobError, JobRecord, JobState, StoredImage
from ms_jobs.result_files import OutputFormat, read_recipe
from tests.support.job_helpers import PICTURE, PICTURES, Desk
from tests.worker.flat_runtime import CUT, STEPS, FlatRuntime, raising
from worker.job_run import JobRun, WorkerContext

DIED = JobError(code="worker_died", detail="Dead.")


@pytest.fixture
def run(desk: Desk, context: WorkerContext) -> Callable[[str], JobRecord]:
    def run_job(job_id: str) -> JobRecord:
        JobRun(context, JobKey("local", job_id)).run()
        return desk.get(job_id)

    return run_job


Run = Callable[[str], JobRecord]


def test_a_job_ends_with_its_pictures(desk: Desk, run: Run) -> None:
    record = run(desk.record(num_images=2, seed=20))
    assert (record.state, record.attempt, record.worker, record.device) == (JobState.SUCCEEDED, 1, "w1", "cpu")
    assert (record.step, record.steps) == (STEPS, STEPS)
    assert [(image.index, image.seed, image.width, image.height) for image in record.images] == [
        (0, 20, 16, 8),
        (1, 21, 16, 8),
    ]


def test_the_pictures_lie_in_the_store_with_their_recipe(desk: Desk, run: Run) -> None:
    job_id = desk.record(num_images=2, seed=20)
    run(job_id)
    recipe = read_recipe(desk.image(job_id, 1))
    assert recipe is not None
    assert (recipe["seed"], recipe["image_index"], recipe["model"]) == (21, 1, {"name": "flat"})
    assert recipe["request"] == job_document(desk.request(num_images=2, seed=20), PICTURES)


@pytest.mark.parametrize(
    ("output_format", "media_type"), [("png", "image/png"), ("webp", "image/webp"), ("jpeg", "image/jpeg")]
)
def test_the_pictures_are_stored_in_the_format_that_was_asked_for(
    desk: Desk, run: Run, output_format: OutputFormat, media_type: str
) -> None:
    request = desk.request(num_images=2, seed=20, output_format=output_format)
    record = run(desk.record(num_images=2, seed=20, output_format=output_format))
    assert [image.content_type for image in record.images] == [media_type] * 2
    encoded = desk.artifacts.load_image(record.folder, 1, 1, media_type)
    with Image.open(io.BytesIO(encoded)) as image:
        assert image.get_format_mimetype() == media_type
    recipe = read_recipe(encoded)
    assert recipe is not None
    assert (recipe["seed"], recipe["request"]) == (21, job_document(request, PICTURES))


def test_the_quality_that_was_asked_for_is_used(desk: Desk, run: Run) -> None:
    shas = {run(desk.record(output_format="jpeg", quality=quality)).images[0].sha256 for quality in (5, 90)}
    assert len(shas) == 2


def test_the_manifest_says_what_the_record_says(desk: Desk, run: Run) -> None:
    job_id = desk.record()
    record = run(job_id)
    manifest = desk.artifacts.load_manifest(record.folder, 1)
    assert manifest == Manifest(attempt=1, images=record.images, warnings=record.warnings)
    assert record.result_attempt == 1


def subjects(desk: Desk, **cutouts: bool) -> tuple[Subject, ...]:
    """One for each colour, which is its phrase, and whether it asks for a cut-out."""
    return tuple(Subject(colour, PICTURE, WHOLE_PICTURE, cutout=cutout) for colour, cutout in cutouts.items())


def test_what_the_model_sees_of_cut_out_subjects_is_kept(desk: Desk, run: Run, runtime: FlatRuntime) -> None:
    job_id = desk.record(subjects=subjects(desk, red=True, green=False, blue=True), num_images=2)
    record = run(job_id)
    assert record.references == (0, 2)
    assert runtime.previews == 2
    seen = Image.open(io.BytesIO(desk.artifacts.load_reference(record.folder, 1, 2)))
    assert (seen.size, seen.getpixel((0, 0))) == ((8, 8), (0, 0, 255))


def test_what_the_model_sees_can_be_looked_at_while_it_draws(desk: Desk, run: Run, runtime: FlatRuntime) -> None:
    job_id = desk.record(subjects=subjects(desk, red=True))
    shown: list[tuple[int, ...]] = []
    runtime.at_step = lambda step: shown.append(desk.get(job_id).references)
    run(job_id)
    assert shown == [(), (0,), (0,), (0,)]


def test_without_a_cutout_nothing_is_kept(desk: Desk, run: Run, runtime: FlatRuntime) -> None:
    assert run(desk.record()).references == ()
    assert runtime.previews == 0


def test_a_subject_of_words_alone_has_nothing_to_be_seen(desk: Desk, run: Run, runtime: FlatRuntime) -> None:
    words = Subject("tree", box=WHOLE_PICTURE, cutout=True, prompt="a tree in the rain")
    assert run(desk.record(subjects=(words,))).references == ()
    assert runtime.previews == 0


def test_a_warning_of_every_picture_is_told_once(desk: Desk, run: Run) -> None:
    assert run(desk.record(num_images=3)).warnings == (CUT,)


def test_warnings_of_the_api_stay(desk: Desk, run: Run) -> None:
    early = GenerationWarning(code="phrase_not_in_prompt", detail="Missing.", pointer="/subjects/0/phrase")
    job_id = desk.record()
    desk.client.hset(f"msd:job:local:{job_id}", "warnings", json.dumps([asdict(early)]))
    assert run(job_id).warnings == (early, CUT)


def test_a_job_that_was_canceled_before_is_not_begun(desk: Desk, run: Run, runtime: FlatRuntime) -> None:
    job_id = desk.record()
    desk.jobs.request_cancel(job_id)
    assert run(job_id).state is JobState.CANCELED
    assert runtime.steps_done == 0


def test_a_running_job_is_canceled_at_its_next_step(desk: Desk, run: Run, runtime: FlatRuntime) -> None:
    job_id = desk.record()
    runtime.at_step = lambda step: desk.jobs.request_cancel(job_id) if step == 2 else None
    record = run(job_id)
    assert (record.state, record.images, runtime.steps_done) == (JobState.CANCELED, (), 2)


def test_a_job_of_another_worker_is_left_alone(desk: Desk, run: Run, runtime: FlatRuntime) -> None:
    job_id = desk.record()
    desk.begin(job_id, worker="w2")
    before = desk.get(job_id)
    assert run(job_id) == before
    assert runtime.steps_done == 0


def test_a_job_taken_away_is_dropped(desk: Desk, run: Run, runtime: FlatRuntime) -> None:
    job_id = desk.record()
    runtime.at_step = lambda step: desk.jobs.requeue(job_id, 1, Requeue.ABANDONED, DIED) and None
    record = run(job_id)
    assert (record.state, runtime.steps_done) == (JobState.QUEUED, 1)
    assert desk.artifacts.load_manifest(record.folder, 1) is None


def test_a_job_that_finds_its_manifest_is_done(desk: Desk, run: Run, runtime: FlatRuntime) -> None:
    job_id = desk.record()
    image = StoredImage(index=0, sha256="0" * 64, width=8, height=8, seed=7)
    folder = desk.begin(job_id).folder
    desk.artifacts.open_attempt(folder, 1)
    desk.artifacts.save_manifest(folder, Manifest(attempt=1, images=(image,), references=(1,)))
    desk.jobs.requeue(job_id, 1, Requeue.ABANDONED, DIED)
    record = run(job_id)
    assert (record.state, record.images, runtime.steps_done) == (JobState.SUCCEEDED, (image,), 0)
    assert (record.references, record.attempt, record.result_attempt) == ((1,), 2, 1)


def test_a_worker_that_is_told_to_end_hands_its_job_back(
    desk: Desk, run: Run, runtime: FlatRuntime, context: WorkerContext
) -> None:
    def stop_at(step: int) -> None:
        context.stopping = step == 2

    runtime.at_step = stop_at
    job_id = desk.record()
    record = run(job_id)
    assert (record.state, record.attempt, record.handed_back) == (JobState.QUEUED, 1, 1)
    assert desk.queue.waiting() == {JobKey("local", job_id)}


def test_a_worker_that_is_told_to_end_keeps_what_is_finished(
    desk: Desk, run: Run, runtime: FlatRuntime, context: WorkerContext
) -> None:
    def stop() -> None:
        context.stopping = True

    runtime.at_end = stop
    job_id = desk.record(num_images=2, seed=20)
    record = run(job_id)
    assert (record.state, record.attempt, len(record.images)) == (JobState.SUCCEEDED, 1, 2)
    assert Image.open(io.BytesIO(desk.image(job_id, 1))).getpixel((0, 0)) == (21, 0, 0)


def test_an_error_of_ours_keeps_its_code_and_sentence(desk: Desk, run: Run, runtime: FlatRuntime) -> None:
    runtime.at_step = raising(DeviceOutOfMemoryError("Too large; ask for a smaller picture."))
    record = run(desk.record())
    assert record.state is JobState.FAILED
    assert record.error is not None
    assert (record.error.code, record.error.detail) == (
        "device_out_of_memory",
        "Too large; ask for a smaller picture.",
    )


def test_any_other_error_is_told_without_its_words(desk: Desk, run: Run, runtime: FlatRuntime) -> None:
    runtime.at_step = raising(ZeroDivisionError("/secret/path"))
    record = run(desk.record())
    assert record.error is not None
    assert record.error.code == "internal"
    assert "secret" not in record.error.detail
    assert run(desk.record()).state is JobState.FAILED


def test_the_next_job_after_a_failed_one_succeeds(desk: Desk, run: Run, runtime: FlatRuntime) -> None:
    runtime.at_step = raising(ZeroDivisionError())
    run(desk.record())
    runtime.at_step = lambda step: None
    assert run(desk.record()).state is JobState.SUCCEEDED


def test_a_lost_device_gives_the_job_to_the_next_process(
    desk: Desk, run: Run, runtime: FlatRuntime, context: WorkerContext
) -> None:
    runtime.at_step = raising(DeviceLostError("Gone."))
    record = run(desk.record())
    assert (record.state, record.attempt, record.handed_back) == (JobState.QUEUED, 1, 0)
    assert desk.queue.waiting() == {JobKey("local", record.id)}
    assert context.device_lost


def test_a_job_that_loses_two_devices_fails_and_says_so(desk: Desk, run: Run, runtime: FlatRuntime) -> None:
    runtime.at_step = raising(DeviceLostError("Gone."))
    job_id = desk.record()
    run(job_id)
    record = run(job_id)
    assert (record.state, record.attempt) == (JobState.FAILED, 2)
    assert record.error is not None
    assert "in 2 attempts" in record.error.detail


def test_a_job_that_takes_too_long_fails(desk: Desk, run: Run, runtime: FlatRuntime, context: WorkerContext) -> None:
    context.job_timeout_s = 0.05
    runtime.at_step = lambda step: time.sleep(30)
    record = run(desk.record())
    assert record.error is not None
    assert (record.state, record.error.code) == (JobState.FAILED, "timed_out")
    assert runtime.steps_done == 0


def test_a_request_that_is_gone_fails_the_job(desk: Desk, run: Run) -> None:
    job_id = desk.record()
    next(desk.artifacts._jobs.rglob("request.json")).unlink()
    record = run(job_id)
    assert record.error is not None
    assert record.error.code == "job_not_found"


def test_a_folder_with_the_number_of_a_later_attempt_is_named_as_the_cause(desk: Desk, run: Run) -> None:
    job_id = desk.record()
    attempts = next(desk.artifacts._jobs.rglob("request.json")).parent / "attempts"
    (attempts / "7").mkdir(parents=True)
    run(job_id)
    record = run(job_id)
    assert record.error is not None
    assert "number of a later attempt" in record.error.detail


def test_a_job_goes_on_while_redis_is_away(desk: Desk, run: Run, context: WorkerContext, tmp_path: Path) -> None:
    context.jobs = JobStore(redis_client(f"unix://{tmp_path}/nothing.sock"))
    record = run(desk.record())
    assert record.state is JobState.SUCCEEDED


def test_a_job_goes_on_while_redis_refuses_and_says_what_it_said_once(
    desk: Desk, run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*arguments: Any, **fields: Any) -> None:
        raise NoPermissionError("NOPERM this user has no permissions to run the 'xadd' command")

    monkeypatch.setattr("worker.job_run.FIRST_PAUSE_S", 1e-9)
    monkeypatch.setattr("worker.job_run.LONGEST_PAUSE_S", 1e-9)
    monkeypatch.setattr(JobStore, "progress", refuse)
    assert run(desk.record()).state is JobState.SUCCEEDED
    told = [record.message for record in caplog.records if "job goes on" in record.message]
    assert told == ["job goes on: Redis refuses: NOPERM this user has no permissions to run the 'xadd' command"]


def test_an_unknown_job_is_left_alone(context: WorkerContext, runtime: FlatRuntime) -> None:
    JobRun(context, JobKey("local", "no-such-job-at-all")).run()
    assert runtime.steps_done == 0


def test_a_lost_reply_does_not_lose_the_job(desk: Desk, context: WorkerContext) -> None:
    class Deaf(JobStore):
        """Sends every change twice, as a client does whose connection broke before the answer came."""

        def _run(self, *args: Any) -> Any:
            super()._run(*args)
            return super()._run(*args)

    context.blocking_jobs = Deaf(desk.client)
    job_id = desk.record()
    JobRun(context, JobKey("local", job_id)).run()
    record = desk.get(job_id)
    assert (record.state, record.attempt) == (JobState.SUCCEEDED, 1)


def test_a_job_whose_files_were_taken_away_goes_back_if_it_is_still_ours(
    desk: Desk, run: Run, runtime: FlatRuntime, context: WorkerContext
) -> None:
    job_id = desk.record()
    folder = desk.get(job_id).folder
    desk.registry.publish_worker(context.heartbeat._record, ttl_s=60)
    runtime.at_step = lambda step: step == 2 and desk.artifacts.end_attempts(folder, 1) and None
    record = run(job_id)
    assert (record.state, record.attempt, record.handed_back) == (JobState.QUEUED, 1, 0)
    assert desk.queue.waiting() == {JobKey("local", job_id)}
