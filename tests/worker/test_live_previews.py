"""Previews of a job: none unless asked for, not too often, and never at the price of the job."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
from PIL import Image

from ms_core.spec import GenerationSpec
from ms_jobs.keys import JobKey
from ms_jobs.records import JobState
from tests.support.job_helpers import Desk
from tests.worker.flat_runtime import FlatRuntime
from worker import live_previews
from worker.job_run import JobRun, Picture, Report, WorkerContext
from worker.live_previews import MAX_PREVIEW_BYTES, LivePreviews


class DrawingRuntime(FlatRuntime):
    """Offers a preview at every step, and keeps count of those that were drawn."""

    def __init__(self, preview: bytes | Exception = b"webp") -> None:
        super().__init__()
        self.preview_of_step = preview
        self.drawn = 0

    def draw(self) -> bytes:
        self.drawn += 1
        if isinstance(self.preview_of_step, Exception):
            raise self.preview_of_step
        return self.preview_of_step

    def run(self, specs: list[GenerationSpec]) -> Generator[Report | list[Picture]]:
        for step in (1, 2, 3):
            self.at_step(step)
            yield Report("denoise", step, 3, preview=self.draw)
        yield [Picture(Image.new("RGB", (16, 8))) for _ in specs]


@pytest.fixture
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_previews, "INTERVAL_S", 0.0)


def run(desk: Desk, context: WorkerContext, runtime: DrawingRuntime, **values: Any) -> list[bytes]:
    """Run a job to its end; the previews that Redis held before each step but the first, and after the end."""
    context.runtime = runtime
    job_id = desk.record(**values)
    held: list[bytes] = []
    client: Any = desk.client  # its types are those of a client that may decode
    runtime.at_step = lambda step: held.append(client.get(f"msd:preview:local:{job_id}") or b"")
    JobRun(context, JobKey("local", job_id)).run()
    assert desk.get(job_id).state is JobState.SUCCEEDED
    return [*held[1:], client.get(f"msd:preview:local:{job_id}") or b""]


@pytest.mark.usefixtures("without_pauses")
def test_the_newest_is_kept_until_the_end(desk: Desk, context: WorkerContext) -> None:
    assert run(desk, context, DrawingRuntime(), previews=True) == [b"webp", b"webp", b""]


@pytest.mark.usefixtures("without_pauses")
def test_none_is_drawn_unless_asked_for(desk: Desk, context: WorkerContext) -> None:
    runtime = DrawingRuntime()
    assert run(desk, context, runtime) == [b"", b"", b""]
    assert runtime.drawn == 0


def test_quick_steps_share_one(desk: Desk, context: WorkerContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_previews, "INTERVAL_S", 3600.0)
    runtime = DrawingRuntime()
    run(desk, context, runtime, previews=True)
    assert runtime.drawn == 1


@pytest.mark.usefixtures("without_pauses")
def test_a_job_outlives_its_previews(desk: Desk, context: WorkerContext) -> None:
    runtime = DrawingRuntime(RuntimeError("no room"))
    assert run(desk, context, runtime, previews=True) == [b"", b"", b""]
    assert runtime.drawn == 1


@pytest.mark.usefixtures("without_pauses")
def test_a_large_one_is_left_out() -> None:
    previews = LivePreviews(wanted=True)
    assert previews.draw(lambda: b"x" * MAX_PREVIEW_BYTES) != b""
    assert previews.draw(lambda: b"x" * (MAX_PREVIEW_BYTES + 1)) == b""
