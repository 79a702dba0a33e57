"""How ``msd generate`` follows a job, and what it says when that ends early; the client itself: ``tests/clients/python``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from cli import client as client_module
from cli.client import eta_s
from cli.main import app
from msd_client import Client, Job
from tests.support.scripted_service import JOB_ID, Play, Script, answer, hang_up, job, problem, scripted_service


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    monkeypatch.setattr("msd_client._flow.POLL_INTERVAL_S", 0.01)
    monkeypatch.setattr("msd_client._calls.POLL_INTERVAL_S", 0.01)
    with scripted_service() as script:
        yield script


def test_what_is_left_goes_by_the_steps_that_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("msd_client.jobs.time.monotonic", lambda: now)
    seen = Job.from_json(job("running", 2, phase="denoise", step=10, steps=30) | {"eta_seconds": 0.1})
    later = Job.from_json(job("running", 3, phase="denoise", step=20, steps=30))
    now = 106.0
    # Ten steps took 6 s, and ten are left; the service thought of 0.1 s for twenty.
    assert eta_s(seen.advanced(later)) == pytest.approx((10 * 6 + 5 * 0.05) / 15)
    now = 100.04
    decoding = Job.from_json(job("running", 3, phase="decode"))
    assert eta_s(seen.advanced(decoding)) == pytest.approx(0.06)
    assert eta_s(later) is None


def generate(script: Script, folder: Path) -> Result:
    picture = folder / "cat.png"
    Image.new("RGB", (8, 8)).save(picture)
    arguments = ["generate", "-s", f"cat={picture}", "a cat", "-o", str(folder / "o.png"), "--url", script.url]
    return CliRunner().invoke(app, arguments)


@pytest.mark.parametrize("status", [409, 422, 429, 503])
def test_a_refusal_is_told_at_once(script: Script, tmp_path: Path, status: int) -> None:
    script.plays = {"generate": [problem(status)]}
    result = generate(script, tmp_path)
    assert (result.exit_code, result.stderr.strip()) == (1, "msd: No.")
    assert script.kinds == ["generate"]


def test_a_lost_answer_is_asked_for_again(script: Script, tmp_path: Path) -> None:
    failed = job("failed", 2) | {"error": {"detail": "Out of paint."}}
    script.plays = {"generate": [hang_up, answer(job("queued", 1), 202)], "job": [answer(failed)]}
    assert generate(script, tmp_path).stderr.strip() == "msd: Out of paint."
    assert len(set(script.headers("generate", "idempotency-key"))) == 1


def test_who_stops_waiting_is_told_of_the_job(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "PATIENCE_S", 0.05)
    script.plays = {"generate": [answer(job("queued", 1), 202)], "job": [problem(503)]}
    result = generate(script, tmp_path)
    assert (result.exit_code, result.stderr.strip()) == (
        1,
        f"msd: No. The job may still be running: {script.url}/jobs/{JOB_ID}",
    )


@pytest.mark.parametrize(
    ("cancel", "says"),
    [
        (answer(job("canceled", 2)), "Canceled."),
        (problem(503), f"Not canceled: No. The job: {{url}}/jobs/{JOB_ID}"),
    ],
)
def test_ctrl_c_tells_whether_the_job_is_canceled(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cancel: Play, says: str
) -> None:
    def press_ctrl_c(*_: Any) -> Job:
        raise KeyboardInterrupt

    monkeypatch.setattr(Client, "wait", press_ctrl_c)
    script.plays = {"generate": [answer(job("queued", 1), 202)], "cancel": [cancel]}
    result = generate(script, tmp_path)
    assert (result.exit_code, result.stderr.strip()) == (130, says.format(url=script.url))
