"""Jobs whose pictures are scored and drawn again, by the real pipeline: their record, and what may end them on the way."""

from __future__ import annotations

import io
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from ms_core.sampling.pipeline import Generation, MSDiffusionPipeline
from ms_core.spec import Box, Subject, SubjectScore, derived_seed
from ms_core.spec.score import UNKNOWN_SCORE, Redraw
from ms_jobs.keys import JobKey
from ms_jobs.outcomes import Requeue
from ms_jobs.pace import Shape
from ms_jobs.records import JobError, JobRecord, JobState
from ms_jobs.result_files import read_recipe
from tests.support.job_helpers import PICTURE, Desk
from tests.support.random_scorer import ALWAYS_PASSES, scored_copy
from worker.job_run import JobRun, WorkerContext
from worker.runtime import PipelineRuntime, _picture_score

STEPS = 2
SMALL = {"width": 64, "height": 64, "num_inference_steps": STEPS, "guidance_scale": 1.0}
DIED = JobError(code="worker_died", detail="Dead.")

GOOD, BAD = SubjectScore(0.99, 0.9, 0.5), SubjectScore(0.99, 0.1, 0.5)
PAIR = tuple(Subject(name, PICTURE, Box(left, 0.1, left + 0.4, 0.9)) for name, left in (("cat", 0.05), ("pot", 0.55)))

Run = Callable[[str], JobRecord]
AtCall = Callable[[int, Callable[[], Any]], None]


@pytest.fixture(scope="module")
def failing(golden_model_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> PipelineRuntime:
    """A model whose scorer passes no picture."""
    directory = scored_copy(golden_model_directory, tmp_path_factory.mktemp("failing"))
    return PipelineRuntime(MSDiffusionPipeline.from_pretrained(directory, "cpu"), "golden", "cpu")


@pytest.fixture
def run(desk: Desk, context: WorkerContext, failing: PipelineRuntime) -> Run:
    context.runtime = failing

    def run_job(job_id: str) -> JobRecord:
        JobRun(context, JobKey("local", job_id)).run()
        return desk.get(job_id)

    return run_job


@pytest.fixture
def at_call(failing: PipelineRuntime) -> Iterator[AtCall]:
    """Have something done before the call of the UNet with this number, counted from 1."""
    handles: list[Any] = []

    def install(number: int, act: Callable[[], Any]) -> None:
        calls = 0

        def before(*_: Any) -> None:
            nonlocal calls
            calls += 1
            if calls == number:
                act()

        handles.append(failing._pipeline.unet.register_forward_pre_hook(before))

    yield install
    for handle in handles:
        handle.remove()


@pytest.fixture(params=["picture", "place"])
def redrawn(
    request: pytest.FixtureRequest, failing: PipelineRuntime, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """Fields of a job that draws its whole picture again, or once the place of its second subject."""
    if request.param == "picture":
        return {**SMALL, "score": True}
    monkeypatch.setattr(failing._pipeline, "_score", lambda row, made: (GOOD, BAD if made.seed == 7 else GOOD))
    return {**SMALL, "score": True, "subjects": PAIR}


def test_scores_draws_and_the_seed_that_was_kept_are_told(desk: Desk, run: Run) -> None:
    job_id = desk.record(**SMALL, score=True, retries=1, num_images=2)
    record = run(job_id)
    assert record.state is JobState.SUCCEEDED
    for index, image in enumerate(record.images):
        assert image.score is not None
        assert image.score.draws == 2
        assert len(image.score.subjects) == 1
        assert image.seed in (7 + index, derived_seed(7 + index, 1))
        recipe = read_recipe(desk.image(job_id, index))
        assert recipe is not None
        assert recipe["seed"] == image.seed
        (redraw,) = image.score.redraws
        # Its only subject fails, so all of it is drawn again.
        assert redraw == Redraw(None, image.seed != 7 + index)
        assert recipe["score"] == {
            "draws": 2,
            "subjects": [list(subject or ()) for subject in image.score.subjects],
            "redraws": [list(redraw)],
        }


def test_a_subject_without_a_score_is_told_so() -> None:
    generation = Generation(
        Image.new("RGB", (8, 8)), torch.zeros(1, 4, 1, 1), 7, (), (UNKNOWN_SCORE, SubjectScore(0.123, 0.456, 0.789))
    )
    score = _picture_score(generation)
    assert score.subjects == (UNKNOWN_SCORE, SubjectScore(0.12, 0.46, 0.79))


def test_the_seed_that_was_kept_makes_the_picture_in_its_first_draw(desk: Desk, run: Run) -> None:
    best = desk.record(**SMALL, score=True, retries=2)
    again = desk.record(**SMALL, seed=run(best).images[0].seed)
    (image,) = run(again).images
    assert image.score is None
    assert _pixels(desk.image(best)) == _pixels(desk.image(again))


def test_progress_goes_on_from_draw_to_draw(desk: Desk, run: Run, at_call: AtCall) -> None:
    job_id = desk.record(**SMALL, score=True, retries=2)
    seen: list[tuple[int | None, int | None]] = []
    at_call(2 * STEPS, lambda: seen.append((desk.get(job_id).step, desk.get(job_id).steps)))
    record = run(job_id)
    assert seen == [(2 * STEPS - 1, 3 * STEPS)]
    assert (record.step, record.steps) == (3 * STEPS, 3 * STEPS)


def test_a_job_is_canceled_within_its_second_draw_and_shows_nothing(
    desk: Desk, run: Run, at_call: AtCall, redrawn: dict[str, Any]
) -> None:
    job_id = desk.record(**redrawn, retries=3)
    at_call(STEPS + 1, lambda: desk.jobs.request_cancel(job_id))
    record = run(job_id)
    assert (record.state, record.images, record.step) == (JobState.CANCELED, (), STEPS + 1)


def test_a_job_taken_away_within_its_second_draw_is_dropped(
    desk: Desk, run: Run, at_call: AtCall, redrawn: dict[str, Any]
) -> None:
    job_id = desk.record(**redrawn, retries=3)
    at_call(STEPS + 1, lambda: desk.jobs.requeue(job_id, 1, Requeue.ABANDONED, DIED))
    record = run(job_id)
    assert (record.state, record.attempt) == (JobState.QUEUED, 1)
    assert desk.artifacts.load_manifest(record.folder, 1) is None


def test_the_time_limit_is_one_for_all_draws(desk: Desk, run: Run, at_call: AtCall, redrawn: dict[str, Any]) -> None:
    job_id = desk.record(**redrawn, retries=3)
    # What the timer does when the time is over.
    at_call(STEPS + 1, lambda: signal.raise_signal(signal.SIGALRM))
    record = run(job_id)
    assert record.error is not None
    assert (record.state, record.error.code) == (JobState.FAILED, "timed_out")


def test_a_second_attempt_draws_the_same_again(
    desk: Desk, run: Run, at_call: AtCall, context: WorkerContext, redrawn: dict[str, Any]
) -> None:
    job_id, undisturbed = (desk.record(**redrawn, retries=1) for _ in range(2))

    def stop() -> None:
        context.stopping = True

    at_call(STEPS + 1, stop)
    assert run(job_id).state is JobState.QUEUED
    context.stopping = False
    record = run(job_id)
    assert (record.state, record.attempt, record.handed_back) == (JobState.SUCCEEDED, 2, 1)
    assert record.images[0].model_copy(update={"sha256": ""}) == run(undisturbed).images[0].model_copy(
        update={"sha256": ""}
    )
    assert _pixels(desk.image(job_id)) == _pixels(desk.image(undisturbed))
    score = record.images[0].score
    assert score is not None
    assert score.redraws[0].subject == (1 if "subjects" in redrawn else None)


def test_a_model_without_a_scorer_fails_the_job_and_says_why(
    desk: Desk, run: Run, context: WorkerContext, golden_pipeline: MSDiffusionPipeline
) -> None:
    context.runtime = PipelineRuntime(golden_pipeline, "golden", "cpu")
    record = run(desk.record(**SMALL, score=True))
    assert record.error is not None
    assert (record.state, record.error.code) == (JobState.FAILED, "no_scorer")


def test_pictures_that_pass_are_drawn_once(
    desk: Desk, run: Run, context: WorkerContext, golden_model_directory: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "passing"
    folder.mkdir()
    directory = scored_copy(golden_model_directory, folder, ALWAYS_PASSES)
    context.runtime = PipelineRuntime(MSDiffusionPipeline.from_pretrained(directory, "cpu"), "golden", "cpu")
    (image,) = run(desk.record(**SMALL, score=True, retries=3)).images
    assert image.score is not None
    assert (image.seed, image.score.draws) == (7, 1)


def test_retries_are_part_of_what_a_job_is_known_by(desk: Desk) -> None:
    found = Shape.of(desk.request(**SMALL, score=True, retries=3))
    assert found is not None
    assert found.redraws == 3


def _pixels(png: bytes) -> bytes:
    return Image.open(io.BytesIO(png)).tobytes()
