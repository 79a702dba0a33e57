from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from ms_core.errors import DeviceOutOfMemoryError, InvalidInputError
from ms_core.sampling.pipeline import MSDiffusionPipeline
from ms_core.spec import Box, GenerationSpec, Lora, Subject
from ms_core.spec.tokens import TextTokenizer
from ms_jobs.tokenizer_files import TokenizerFiles
from worker.config import WorkerSettings
from worker.job_run import Picture, Report
from worker.runtime import PipelineRuntime

STEPS = 2


@pytest.fixture(autouse=True)
def _data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSD_DATA_DIR", str(tmp_path / "data"))


@pytest.fixture
def runtime(golden_pipeline: MSDiffusionPipeline) -> PipelineRuntime:
    return PipelineRuntime(golden_pipeline, "golden", "cpu")


@pytest.fixture
def make_spec(reference_picture: Callable[[int], Image.Image]) -> Callable[..., GenerationSpec]:
    def make(seed: int, height: int = 64) -> GenerationSpec:
        subject = Subject("cat", reference_picture(0), Box(0.1, 0.1, 0.6, 0.9), scale=0.5)
        return GenerationSpec(
            "a cat", (subject,), height=height, width=128, num_inference_steps=STEPS, seed=seed, guidance_scale=2.0
        )

    return make


def test_it_reports_each_step_and_ends_with_the_pictures(
    runtime: PipelineRuntime, make_spec: Callable[..., GenerationSpec]
) -> None:
    *reports, pictures = runtime.run([make_spec(1), make_spec(2)])
    assert [(report.phase, report.step, report.steps) for report in reports if isinstance(report, Report)] == [
        ("encode", 0, STEPS),
        ("denoise", 0, STEPS),
        ("denoise", 1, STEPS),
        ("denoise", 2, STEPS),
        ("decode", 2, STEPS),
    ]
    assert isinstance(pictures, list)
    assert [picture.image.size for picture in pictures if isinstance(picture, Picture)] == [(128, 64)] * 2


def test_ending_early_leaves_it_fit_for_the_next(
    runtime: PipelineRuntime, make_spec: Callable[..., GenerationSpec]
) -> None:
    *_, expected = runtime.run([make_spec(1)])
    events = runtime.run([make_spec(5)])
    next(events)
    next(events)
    events.close()
    *_, pictures = runtime.run([make_spec(1)])
    assert isinstance(expected, list)
    assert isinstance(pictures, list)
    assert pictures[0].image.tobytes() == expected[0].image.tobytes()


def test_what_the_model_cannot_do_is_an_error_with_a_pointer(
    runtime: PipelineRuntime, make_spec: Callable[..., GenerationSpec]
) -> None:
    with pytest.raises(InvalidInputError) as caught:
        list(runtime.run([make_spec(1, height=4096)]))
    assert caught.value.pointer == "/height"


def test_it_shows_what_the_image_encoder_sees(
    runtime: PipelineRuntime, make_spec: Callable[..., GenerationSpec], reference_picture: Callable[[int], Image.Image]
) -> None:
    (subject,) = make_spec(1).subjects
    one = runtime.preview(subject)
    two = runtime.preview(replace(subject, image=(reference_picture(0), reference_picture(1))))
    assert one.mode == "RGB"
    assert two.size == (2 * one.width, one.height)
    assert two.crop((0, 0, *one.size)).tobytes() == one.tobytes()


def test_a_recipe_tells_what_was_added(runtime: PipelineRuntime, make_spec: Callable[..., GenerationSpec]) -> None:
    spec = replace(make_spec(1), timestep_spacing="trailing", loras=(Lora("paper", 0.5),))
    values = runtime.recipe(spec)["values"]
    assert (values["timestep_spacing"], values["loras"]) == ("trailing", [{"name": "paper", "weight": 0.5}])


def test_a_recipe_tells_the_values_in_force(runtime: PipelineRuntime, make_spec: Callable[..., GenerationSpec]) -> None:
    recipe = runtime.recipe(make_spec(1))
    assert recipe["model"]["name"] == "golden"
    assert recipe["values"] == {
        "negative_prompt": runtime.card.defaults.negative_prompt,
        "height": 64,
        "width": 128,
        "num_inference_steps": STEPS,
        "guidance_scale": 2.0,
        "scheduler": "euler",
        "timestep_spacing": None,
        "preset": None,
        "loras": [],
        "controls": [],
        "subject_scales": [0.5],
    }
    assert recipe["versions"]["torch"].startswith("2.")


def test_a_job_that_runs_out_of_memory_twice_fails_alone(
    runtime: PipelineRuntime, golden_pipeline: MSDiffusionPipeline, make_spec: Callable[..., GenerationSpec]
) -> None:
    *_, expected = runtime.run([make_spec(1), make_spec(2)])

    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    handle = golden_pipeline.unet.register_forward_pre_hook(fail)
    with pytest.raises(DeviceOutOfMemoryError):
        list(runtime.run([make_spec(1), make_spec(2)]))
    handle.remove()
    *_, pictures = runtime.run([make_spec(1), make_spec(2)])
    assert isinstance(pictures, list)
    assert isinstance(expected, list)
    assert [picture.image.tobytes() for picture in pictures] == [picture.image.tobytes() for picture in expected]


def test_a_second_try_is_told_as_a_warning_of_the_job(
    runtime: PipelineRuntime, golden_pipeline: MSDiffusionPipeline, make_spec: Callable[..., GenerationSpec]
) -> None:
    failures = [torch.OutOfMemoryError("CUDA out of memory")]

    def fail(*_: object) -> None:
        if failures:
            raise failures.pop()

    handle = golden_pipeline.unet.register_forward_pre_hook(fail)
    *reports, pictures = runtime.run([make_spec(1), make_spec(2)])
    handle.remove()
    assert isinstance(pictures, list)
    assert all([warning.code for warning in picture.warnings] == ["memory_retry"] for picture in pictures)
    assert isinstance(reports[-1], Report)
    assert {warning.code for warning in reports[-1].warnings} == {"memory_retry"}


def test_a_worker_on_the_cpu_has_its_mode(golden_model_directory: Path) -> None:
    settings = WorkerSettings(device="cpu", memory_mode="8gb")
    assert PipelineRuntime.setup(settings, golden_model_directory, "cpu").memory_mode == "cpu"


def test_a_worker_stores_the_tokenizer_that_its_card_names(
    monkeypatch: pytest.MonkeyPatch, golden_pipeline: MSDiffusionPipeline, tmp_path: Path
) -> None:
    named = _load(monkeypatch, golden_pipeline, None).card.tokenizer
    assert named is not None
    stored = TextTokenizer(TokenizerFiles(tmp_path / "data").load(named.sha256), named.max_length)
    text = "a zebra-unicorn, really " * 20
    assert stored.cut_text(text) == golden_pipeline.conditioner.tokenizer.cut_text(text) != ""
    assert (stored.sha256, stored.limit) == (named.sha256, 75)


def test_a_worker_that_cannot_store_its_tokenizer_makes_pictures_anyway(
    monkeypatch: pytest.MonkeyPatch,
    golden_pipeline: MSDiffusionPipeline,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "data").write_text("no folder")
    assert _load(monkeypatch, golden_pipeline, None).card.tokenizer is not None
    assert [record.message for record in caplog.records if "tokenizer" in record.message] == [
        "the tokenizer is not published: The storage cannot be written: Not a directory."
    ]


def _load(monkeypatch: pytest.MonkeyPatch, pipeline: MSDiffusionPipeline, cpu_threads: int | None) -> PipelineRuntime:
    monkeypatch.setattr(MSDiffusionPipeline, "from_pretrained", lambda *_, **__: pipeline)
    settings = WorkerSettings(model="golden", device="cpu", cpu_threads=cpu_threads)
    return PipelineRuntime.setup(settings, Path("golden"), "cpu")


@pytest.fixture
def threads_of_steps(golden_pipeline: MSDiffusionPipeline) -> Generator[list[int]]:
    """How many threads each call of the UNet had."""
    before, seen = torch.get_num_threads(), []
    hook = golden_pipeline.unet.register_forward_pre_hook(lambda *_: seen.append(torch.get_num_threads()))
    torch.set_num_threads(2)
    yield seen
    torch.set_num_threads(before)
    hook.remove()


def test_a_worker_has_made_a_picture_before_it_is_ready(
    monkeypatch: pytest.MonkeyPatch, golden_pipeline: MSDiffusionPipeline, threads_of_steps: list[int]
) -> None:
    _load(monkeypatch, golden_pipeline, None)
    assert len(threads_of_steps) == 1


def test_too_little_memory_for_the_first_picture_keeps_no_worker_from_starting(
    monkeypatch: pytest.MonkeyPatch, golden_pipeline: MSDiffusionPipeline, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise DeviceOutOfMemoryError("none left")

    monkeypatch.setattr(golden_pipeline, "run", fail)
    assert _load(monkeypatch, golden_pipeline, None).card == golden_pipeline.card
    assert "too little memory" in caplog.text


@pytest.mark.parametrize(("cpu_threads", "expected"), [(None, 1), (2, 2)])
def test_the_setting_of_threads_comes_before_the_models_own(  # noqa: PLR0913, PLR0917 - fixtures
    monkeypatch: pytest.MonkeyPatch,
    golden_pipeline: MSDiffusionPipeline,
    threads_of_steps: list[int],
    make_spec: Callable[..., GenerationSpec],
    cpu_threads: int | None,
    expected: int,
) -> None:
    before = golden_pipeline.threads
    try:
        runtime = _load(monkeypatch, golden_pipeline, cpu_threads)
        threads_of_steps.clear()
        list(runtime.run([make_spec(1)]))
    finally:
        golden_pipeline.threads = before
    assert set(threads_of_steps) == {expected}
