"""Runs through Ray: the same shards as without it, and after kills; the commands; nothing peeks at the truth."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest
from typer.testing import CliRunner

from cli.main import app
from ms_lab.data.config import STAGES, PipelineConfig, load_config
from ms_lab.data.engine.flow import _built as built_in_a_task
from ms_lab.data.engine.plan import given_to, in_words, make_plan
from ms_lab.data.engine.steps import joined_steps
from ms_lab.footage.films import TRUTH, VIDEOS
from tests.ms_lab.data.small_footage import (
    run_directly,
    shard_bytes,
    small_config,
    small_footage,
    stand_in_changes,
    write_toml,
)
from tests.support.paths import ROOT

# A start of Ray takes seconds, on a busy machine many.
PATIENCE_S = 600


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_footage(tmp_path_factory.mktemp("footage"))


@pytest.fixture(scope="module")
def undisturbed(footage: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run without Ray writes."""
    out = tmp_path_factory.mktemp("undisturbed")
    run_directly(footage, out, small_config(footage))
    return out


def start(footage: Path, out: Path, single_step: bool = False) -> subprocess.Popen[str]:
    settings, changes = footage / "own.toml", stand_in_changes(footage)
    if single_step:
        changes["resources"] |= dict.fromkeys(("clips", *STAGES), changes["resources"]["caption"])
    write_toml(settings, changes)
    command = [sys.executable, "-m", "cli.main", "data", "run", str(footage / VIDEOS), "--out", str(out)]
    # Else Ray's workers come after everything else on the machine, other tests too.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}
    return subprocess.Popen(
        [*command, "--config", str(settings)],
        cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip


def wait_for_parts(out: Path, count: int, running: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while len(list((out / "work").rglob("*.tar"))) < count and running.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def wait_for_a_clip_on_its_way(out: Path, running: subprocess.Popen[str]) -> None:
    """Until a piece of footage was read to its end, and a clip of it is not written yet."""
    while running.poll() is None:
        done = {path.stem for path in (out / "work").rglob("*.tar")}
        listings = [json.loads(path.read_text())["clips"] for path in (out / "work" / "footage").glob("*.json")]
        if not all(done.issuperset(clips) for clips in listings):
            return
        time.sleep(0.02)
    raise AssertionError("the run ended before it could be killed")


def wait_for_end(pids: list[int]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while names := [name_of(pid) for pid in pids if name_of(pid)]:
        assert time.monotonic() < deadline, names
        time.sleep(0.1)


def processes_below(pid: int) -> list[int]:
    """The processes that a process has started, and theirs."""
    try:
        children = [int(own) for own in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:  # They come and go.
        return []
    return children + [one for child in children for one in processes_below(child)]


def name_of(pid: int) -> str:
    """A process's name; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return ""


def ray_workers(pid: int) -> list[int]:
    """Ray's processes below a process that do a stage's work now."""
    working = ("ray::FlatMap", "ray::MapBatches")
    return [one for one in processes_below(pid) if name_of(one).startswith(working)]


def test_a_run_writes_what_the_stages_alone_write(footage: Path, undisturbed: Path, tmp_path: Path) -> None:
    running = start(footage, tmp_path / "out")
    said, _ = running.communicate(timeout=PATIENCE_S)
    assert running.returncode == 0, said
    assert shard_bytes(tmp_path / "out") == shard_bytes(undisturbed)
    assert "Samples:" in said
    assert "unsafe is off" in said


@pytest.mark.faults
@pytest.mark.parametrize("single_step", [False, True])
def test_killed_and_started_again_the_shards_are_the_same(
    footage: Path, undisturbed: Path, tmp_path: Path, single_step: bool
) -> None:
    out = tmp_path / "out"
    with start(footage, out, single_step) as first:
        # Ray does the work of a lost process again.
        os.kill(wait_for_worker(first), signal.SIGKILL)
        wait_for_parts(out, 1, first)
        os.killpg(first.pid, signal.SIGKILL)
    assert not (out / "manifest.json").exists()
    for done_before in ("", "3 of 3 pieces of footage were done before"):
        running = start(footage, out, single_step)
        said, _ = running.communicate(timeout=PATIENCE_S)
        assert running.returncode == 0, said
        assert done_before in said
        assert shard_bytes(out) == shard_bytes(undisturbed)


@pytest.mark.faults
def test_its_driver_alone_killed_and_started_again_the_shards_are_the_same(
    footage: Path, undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with start(footage, out) as first:
        wait_for_a_clip_on_its_way(out, first)
        left = processes_below(first.pid)
        os.kill(first.pid, signal.SIGKILL)
    assert first.returncode == -signal.SIGKILL
    assert left
    assert not (out / "manifest.json").exists()
    # At once: what the driver has left behind may still write.
    again = start(footage, out)
    said, _ = again.communicate(timeout=PATIENCE_S)
    assert again.returncode == 0, said
    assert shard_bytes(out) == shard_bytes(undisturbed)
    wait_for_end(left)


def wait_for_worker(running: subprocess.Popen[str]) -> int:
    """The first of Ray's processes that works for a run."""
    while running.poll() is None:
        workers = ray_workers(running.pid)
        if workers:
            return workers[0]
        time.sleep(0.02)
    raise AssertionError("the run ended before Ray had a worker")


def test_without_the_truth_the_recorded_answers_give_the_same_shards(
    footage: Path, undisturbed: Path, tmp_path: Path
) -> None:
    parts = "ms_lab.footage.recording:RecordedParts"
    names = ("caption", "grounding", "masks", "match")
    tape, truth = str(tmp_path / "tape"), str(footage / TRUTH)
    recording = small_config(
        footage, **{name: {"use": parts, "options": {"tape": tape, "truth": truth}} for name in names}
    )
    run_directly(footage, tmp_path / "recorded", recording)
    (footage / TRUTH).rename(footage / "hidden")
    try:
        replay = small_config(footage, **{name: {"use": parts, "options": {"tape": tape}} for name in names})
        run_directly(footage, tmp_path / "replayed", replay)
    finally:
        (footage / "hidden").rename(footage / TRUTH)
    assert shard_bytes(tmp_path / "replayed") == shard_bytes(tmp_path / "recorded") == shard_bytes(undisturbed)


def test_the_plan_measures_and_keeps_nothing(footage: Path, tmp_path: Path) -> None:
    plan = make_plan([footage / VIDEOS], small_config(footage), cores=2)
    manifest = run_directly(footage, tmp_path, small_config(footage))
    assert (plan.videos, plan.clips, plan.measured) == (3, len(manifest), len(manifest))
    assert plan.samples == sum(len(clip.samples) for clip in manifest)
    assert set(plan.seconds) == {
        "clips",
        "caption",
        "entities",
        "grounding",
        "masks",
        "match",
        "filter",
        "choose",
        "write",
    }
    assert plan.output_bytes > 1000


@pytest.mark.parametrize(("seconds", "words"), [(90, "1.5 min"), (7100, "118.3 min"), (86_400, "24.0 h")])
def test_short_and_long_plans_are_told_in_fitting_units(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_the_plan_names_gpus_only_where_there_is_one() -> None:
    resources = load_config(None, {}).resources
    assert given_to(resources.grounding, has_gpu=True) == "1 x 1 GPU, 4 clips at once"
    assert given_to(resources.grounding, has_gpu=False) == "1 x 1 core, 4 clips at once"
    assert given_to(resources.filter, has_gpu=True) == "all cores"


def test_tasks_that_follow_each_other_are_one_step_and_actors_are_not() -> None:
    assert names_of(load_config(None, {})) == [
        ("clips",),
        ("caption",),
        ("entities",),
        ("grounding",),
        ("masks",),
        ("match",),
        ("filter", "choose", "write"),
    ]
    apart = load_config(None, {"resources": {"choose": {"cpus": 0.5}}})
    assert names_of(apart)[-2:] == [("filter",), ("choose", "write")]
    alike = {"cpus": 1.0, "actors": 0, "gpus": 0.0}
    assert names_of(load_config(None, {"resources": dict.fromkeys(("clips", *STAGES), alike)})) == [
        ("clips", *STAGES, "write")
    ]


def names_of(config: PipelineConfig) -> list[tuple[str, ...]]:
    """The stages of each step."""
    return [step.names for step in joined_steps(config)]


def test_ray_adds_nothing_to_the_log_of_our_process() -> None:
    assert "ray" in sys.modules
    assert set(vars(logging.makeLogRecord({}))) == set(vars(logging.LogRecord("", 0, "", 0, "", (), None)))


def test_a_task_keeps_opencv_on_its_core() -> None:
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        built_in_a_task("entities", load_config().model_dump_json())
        assert cv2.getNumThreads() == 1
    finally:
        cv2.setNumThreads(before)


def test_a_reading_and_another_task_fit_on_one_core() -> None:
    """Else one core would idle while a reading task waits for room behind it."""
    resources = load_config(None, {}).resources
    assert all(resources.clips.cpus + own.cpus <= 1 for own in (resources.entities, resources.filter, resources.choose))


def test_the_page_shows_samples_and_drops(undisturbed: Path) -> None:
    result = CliRunner().invoke(app, ["data", "view", str(undisturbed), "--force"])
    assert result.exit_code == 0, result.output
    page = (undisturbed / "view.html").read_text()
    manifest = json.loads((undisturbed / "manifest.json").read_text())
    assert page.count("<figure") == sum(manifest["samples"].values())
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert "<mark" in page


def test_clips_of_one_source_are_matched_with_one_another(footage: Path, tmp_path: Path) -> None:
    config = small_config(footage, match={**stand_in_changes(footage)["match"], "across_clips": True})
    clips = run_directly(footage, tmp_path, config)
    assert len(clips) == 3
    assert max(len({frame.clip for frame in clip.frames}) for clip in clips) == 2
