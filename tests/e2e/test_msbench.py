"""``msd eval msbench`` by a real service: killed in the middle and started again, no picture is made twice."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

import tests.support.model_libraries  # noqa: F401
from ms_lab.evaluation.msbench.samples import read_benchmark
from tests.e2e.http_service import HttpService
from tests.support.job_helpers import wait_until
from tests.support.service_processes import environment, msd
from tests.support.small_msbench import NUM_SAMPLES, write_checkout
from tests.support.tiny_judges import write_judges

QUICK = ("--width", 64, "--height", 64, "--steps", 8)


def names_of_pictures(out: Path) -> dict[str, int]:
    """Pictures that are kept, with the time of each."""
    folder = out / "pictures"
    paths = folder.rglob("*.png")
    return {path.relative_to(folder).with_suffix("").as_posix(): path.stat().st_mtime_ns for path in paths}


@pytest.mark.faults
def test_24_samples_killed_once(service: HttpService, tmp_path: Path) -> None:
    checkout, out, judges = write_checkout(tmp_path / "checkout"), tmp_path / "out", tmp_path / "judges"
    write_judges(judges)
    service.wait_until_ready()
    before = {job["id"] for job in service.client.get("/jobs?limit=100").json()["jobs"]}
    names = ("--clip", judges / "clip", "--dino", judges / "dinov2", "--detector", judges / "owlv2")
    command = msd(
        "eval", "msbench", "--pictures", checkout, "--out", out, "--url", service.url, "--in-flight", 4,
        *names, *QUICK, "--threshold", 0.0,
    )  # fmt: skip
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(command, env=environment(), stdout=log, stderr=log) as first,
    ):
        wait_until(lambda: len(names_of_pictures(out)) >= 5, "the first pictures")
        first.send_signal(signal.SIGKILL)
    kept = names_of_pictures(out)
    assert 5 <= len(kept) < NUM_SAMPLES
    # Those in flight are made meanwhile; they are taken as they are.
    time.sleep(1)
    second = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300, check=False)
    assert second.returncode == 0, second.stderr
    assert f"{NUM_SAMPLES} samples" in second.stdout
    pictures = names_of_pictures(out)
    assert set(pictures) == {sample.name for sample in read_benchmark(checkout).samples}
    assert {name: pictures[name] for name in kept} == kept
    jobs = [job for job in service.client.get("/jobs?limit=100").json()["jobs"] if job["id"] not in before]
    assert Counter(job["status"] for job in jobs) == {"succeeded": NUM_SAMPLES}
    with Image.open(out / "pictures" / "living_scene" / "otter+harbour-0.png") as picture:
        assert picture.size == (64, 64)
    results = json.loads((out / "results.json").read_text())
    assert results["types"]["all"]["samples"] == NUM_SAMPLES
    assert results["run"]["request"]["num_inference_steps"] == 8
    assert results["service"]["model"] == "golden"
