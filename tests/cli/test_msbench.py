"""``msd eval msbench``: what it says before any work is done. The whole way is in ``tests/e2e/test_msbench.py``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from cli import msbench
from cli.eval import evaluate
from cli.msbench import QueuedPictures, benchmark_client
from ms_core.errors import InvalidInputError, ModelNotFoundError, StartupError
from ms_jobs.result_files import encode
from ms_lab.evaluation.msbench.making import NoPictureError
from ms_lab.evaluation.msbench.samples import Sample, read_benchmark
from tests.support.scripted_service import Script, answer, job, problem, scripted_service
from tests.support.service_processes import free_port
from tests.support.small_msbench import write_checkout

IMAGE = {"index": 0, "seed": 1, "width": 8, "height": 8, "content_type": "image/png", "sha256": "0"}


def msd(*arguments: object) -> Any:
    app = typer.Typer()
    app.add_typer(evaluate, name="eval")
    return CliRunner().invoke(app, ["eval", "msbench", *map(str, arguments)])


def refusal(*arguments: object) -> Any:
    result = msd(*arguments)
    assert result.exit_code == 1, result.output
    return result.exception


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return write_checkout(tmp_path / "checkout")


@pytest.fixture
def sample(checkout: Path) -> Sample:
    return read_benchmark(checkout).samples[-1]


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    error = refusal("--pictures", tmp_path / "nothing")
    assert isinstance(error, InvalidInputError)
    assert "git clone" in error.detail


def test_a_judge_that_is_not_there_is_told(checkout: Path, tmp_path: Path) -> None:
    error = refusal("--pictures", checkout, "--out", tmp_path / "out", "--clip", "nobody/clip")
    assert isinstance(error, ModelNotFoundError)
    assert "hf download nobody/clip" in error.detail


def test_a_service_that_is_not_there_is_told_at_once(checkout: Path, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    error = refusal("--pictures", checkout, "--out", tmp_path / "out", "--no-scores", "--url", url)
    assert isinstance(error, StartupError)
    assert "msd up" in error.detail
    assert "--url" in error.detail


def test_a_shard_that_is_none_is_told(checkout: Path) -> None:
    assert "such as 1/4" in refusal("--pictures", checkout, "--shard", "5/4").detail


@pytest.fixture
def service() -> Iterator[Script]:
    """A service without assets, which makes every picture."""
    with scripted_service() as script:
        script.plays = {
            "generate": [answer(job("queued", 1), 202)],
            "job": [answer(job("succeeded", 2) | {"images": [IMAGE]})],
            "images": [answer(b"the picture", content_type="image/png")],
        }
        yield script


def paint(service: Script, sample: Sample, attempt: int = 0, stop: Event | None = None, **request: Any) -> bytes:
    with benchmark_client(service.url) as client:
        return QueuedPictures(client, request, 7, "key").paint(sample, attempt, stop or Event())


def test_a_model_that_is_not_loaded_yet_is_told(service: Script) -> None:
    service.plays["models"] = [answer({"models": [{"name": "tiny", "ready": False, "abilities": None}]})]
    with benchmark_client(service.url) as client, pytest.raises(StartupError, match="has not loaded tiny yet"):
        QueuedPictures(client, {}, 0, "key").describe()


def test_the_model_is_told_with_its_defaults_and_the_preset(service: Script) -> None:
    presets = [{"name": "fast", "num_inference_steps": 4}, {"name": "fine", "num_inference_steps": 50}]
    abilities = {"defaults": {"width": 1024}, "presets": presets}
    service.plays["models"] = [answer({"models": [{"name": "tiny", "ready": True, "abilities": abilities}]})]
    with benchmark_client(service.url) as client:
        told = QueuedPictures(client, {"preset": "fine"}, 0, "key").describe()
    assert told == {"model": "tiny", "defaults": {"width": 1024}, "preset": presets[1]}


def test_the_request_is_the_samples_with_a_scene_that_fills_the_picture(service: Script, sample: Sample) -> None:
    assert paint(service, sample, num_inference_steps=4) == b"the picture"
    (sent,) = service.sent("generate")
    assert sent["prompt"] == sample.prompt
    assert (sent["seed"], sent["num_inference_steps"], sent["output_format"]) == (sample.seed(7), 4, "png")
    first, second, scene = sent["subjects"]
    assert (first["phrase"], first["box"]) == ("heron", [0.0, 0.2, 0.5, 0.8])
    assert (second["phrase"], second["box"]) == ("desk lamp", [0.5, 0.2, 1.0, 0.8])
    assert (scene["phrase"], scene["scene"]) == ("harbour", True)
    assert "box" not in scene
    assert all(subject["image"].startswith("data:image/png;base64,") for subject in sent["subjects"])


def test_asked_for_again_it_is_the_same_job_but_another_after_it_failed(service: Script, sample: Sample) -> None:
    for attempt in (0, 0, 1):
        paint(service, sample, attempt)
    first, again, another = service.headers("generate", "idempotency-key")
    assert first == again != another


def test_a_job_that_ends_without_its_picture_is_told(service: Script, sample: Sample) -> None:
    service.plays["job"] = [
        answer(job("failed", 2) | {"error": {"detail": "Out of paint.", "code": "c", "status": 500}})
    ]
    with pytest.raises(NoPictureError, match="Out of paint"):
        paint(service, sample)


def test_a_limit_is_waited_for_and_a_refusal_is_not(service: Script, sample: Sample) -> None:
    # Longer than the client waits for a limit by itself.
    limited = problem(429, {"Retry-After": "11"})
    service.plays["generate"] = [limited, answer(job("queued", 1), 202)]

    class NoTime(Event):
        def wait(self, timeout: float | None = None) -> bool:
            waited.append(timeout)
            return False

    waited: list[float | None] = []
    assert paint(service, sample, stop=NoTime()) == b"the picture"
    assert waited == [11]
    service.plays["generate"] = [problem(422)]
    with pytest.raises(StartupError, match=f"{sample.name.replace('+', '.')}: No.* run the same command again"):
        paint(service, sample)


def test_nobody_waits_for_a_service_that_is_away_after_the_end(
    service: Script, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(msbench, "PATIENCE_S", 6.0)
    monkeypatch.setattr(msbench, "ROUND_S", 0.2)
    stop = Event()

    def away(handler: Any) -> None:
        stop.set()
        problem(503)(handler)

    service.plays["job"] = [away]
    with pytest.raises(Exception, match="^$"):
        paint(service, sample, stop=stop)


def test_a_service_that_comes_back_is_waited_for(
    service: Script, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(msbench, "PATIENCE_S", 30.0)
    monkeypatch.setattr(msbench, "ROUND_S", 0.1)
    service.plays["job"] = [*[problem(503)] * 3, *service.plays["job"]]
    assert paint(service, sample) == b"the picture"
    monkeypatch.setattr(msbench, "PATIENCE_S", 0.1)
    service.plays["job"] = [problem(503)]
    with pytest.raises(StartupError, match="run the same command again"):
        paint(service, sample)


def test_a_picture_by_another_model_is_not_taken(service: Script, sample: Sample) -> None:
    abilities = {"defaults": {}, "presets": []}
    service.plays["models"] = [answer({"models": [{"name": "tiny", "ready": True, "abilities": abilities}]})]

    def made_by(name: str) -> bytes:
        content = encode(Image.new("RGB", (8, 8)), {"model": {"name": name, "card": name}})
        service.plays["images"] = [answer(content, content_type="image/png")]
        return content

    with benchmark_client(service.url) as client:
        pictures = QueuedPictures(client, {}, 7, "key")
        pictures.describe()
        own = made_by("tiny")
        assert pictures.paint(sample, 0, Event()) == own
        made_by("another")
        with pytest.raises(NoPictureError, match="with the model another, and began with tiny"):
            pictures.paint(sample, 0, Event())


def test_a_key_that_is_needed_is_told(service: Script, sample: Sample) -> None:
    service.plays["models"] = service.plays["generate"] = [problem(401)]
    with benchmark_client(service.url) as client:
        pictures = QueuedPictures(client, {}, 0, "key")
        with pytest.raises(StartupError, match="MSD_API_KEY"):
            pictures.describe()
        with pytest.raises(StartupError, match="MSD_API_KEY"):
            pictures.paint(sample, 0, Event())


def test_nobody_waits_for_a_picture_after_the_end(service: Script, sample: Sample) -> None:
    stop = Event()

    def queued(handler: Any) -> None:
        stop.set()
        answer(job("queued", 1))(handler)

    service.plays["job"] = [queued]
    with pytest.raises(Exception, match="^$"):
        paint(service, sample, stop=stop)
    assert service.kinds.count("job") == 1
