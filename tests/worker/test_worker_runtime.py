from __future__ import annotations

from collections.abc import Callable

import pytest
from PIL import Image

from ms_core.errors import InvalidInputError
from ms_core.pipeline import MSDiffusionPipeline
from ms_core.spec import Box, GenerationSpec, Subject
from worker.job_run import Picture, Report
from worker.runtime import PipelineRuntime

STEPS = 2


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
        "subject_scales": [0.5],
    }
    assert recipe["versions"]["torch"].startswith("2.")
