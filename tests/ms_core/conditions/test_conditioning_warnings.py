"""What the user is told about prompt weights and unusual sizes."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from ms_core.model_dir.provision.sources import SDXL_SIZES
from ms_core.spec import AutoLayout, Box, GenerationSpec, Subject
from ms_core.spec.resolve import ResolvedSpec


@pytest.fixture
def spec(reference_picture) -> GenerationSpec:
    subject = Subject("dog", reference_picture(0), Box(0.1, 0.2, 0.6, 0.9))
    return GenerationSpec("a dog on the beach", (subject,))


def warnings_of(pipeline, spec: GenerationSpec, sizes=SDXL_SIZES):
    card = replace(pipeline.card, sizes=sizes, max_height=4096, max_width=4096)
    return pipeline.conditioner.find_warnings(ResolvedSpec.of(spec, card))


def size_warnings(pipeline, spec: GenerationSpec, height: int, width: int, sizes=SDXL_SIZES):
    found = warnings_of(pipeline, replace(spec, height=height, width=width), sizes)
    return [warning for warning in found if warning.code == "unusual_size"]


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("a (red:1.3) dog", "(red:1.3)"),
        ("a dog (on the beach:0.8), blurry", "(on the beach:0.8)"),
        ("a (red : 2) dog", "(red : 2)"),
        ("a (cat2:.5) dog", "(cat2:.5)"),
        ("a ((red:1.1) dog:1.2)", "(red:1.1)"),
        ("a dog (fog:-1)", "(fog:-1)"),
    ],
)
def test_prompt_weights_are_told_to_be_plain_text(golden_pipeline, spec, text: str, quoted: str) -> None:
    sized = replace(spec, prompt=text, height=1024, width=1024)
    (warning,) = warnings_of(golden_pipeline, sized)
    assert (warning.code, warning.pointer) == ("prompt_weights_ignored", "/prompt")
    assert f'"{quoted}"' in warning.detail


@pytest.mark.parametrize(
    "text",
    [
        "a dog (red)",
        "a dog, break it",
        "a 3 < 4 dog",
        "a dog {red}",
        "a dog (4:3)",
        "a dog (at 10:30)",
        "a dog: 1.3",
        "a dog (a: b)",
        "dog ()",
    ],
)
def test_other_brackets_are_no_weights(golden_pipeline, spec, text: str) -> None:
    assert warnings_of(golden_pipeline, replace(spec, prompt=text, height=1024, width=1024)) == ()


@pytest.mark.parametrize(
    ("text", "quoted", "remedy"),
    [
        ("a dog <lora:add_detail_xl:0.8>", "<lora:add_detail_xl:0.8>", "`loras`"),
        ("a dog <LyCo:paper>", "<LyCo:paper>", "`loras`"),
        ("a dog, embedding:easynegative, fog", "embedding:easynegative", "alone"),
        ("a ((red)) dog", "((red))", "leave them out"),
        ("a [red] dog", "[red]", "leave them out"),
        ("a {red|blue} dog", "{red|blue}", "write one"),
        ("a __colour__ dog", "__colour__", "write one"),
        ("a dog BREAK a cat", "BREAK", "leave it out"),
    ],
)
def test_syntax_of_other_programs_is_told_to_be_plain_text(
    golden_pipeline, spec, text: str, quoted: str, remedy: str
) -> None:
    (warning,) = warnings_of(golden_pipeline, replace(spec, prompt=text, height=1024, width=1024))
    assert (warning.code, warning.pointer) == ("prompt_syntax_ignored", "/prompt")
    assert f'"{quoted}"' in warning.detail
    assert remedy in warning.detail


def test_a_prompt_with_too_few_words_for_the_auto_layout_is_told(golden_pipeline, spec) -> None:
    (subject, *_) = spec.subjects
    alike = replace(spec, subjects=(subject, subject), layout=AutoLayout(start_step=1), height=1024, width=1024)
    (warning,) = warnings_of(golden_pipeline, alike)
    assert (warning.code, warning.pointer) == ("phrase_shared", "/subjects/1/phrase")
    with_boxes = replace(alike, layout=None)
    assert warnings_of(golden_pipeline, with_boxes) == ()


def test_weights_of_the_negative_prompt_are_told_too(golden_pipeline, spec) -> None:
    sized = replace(spec, negative_prompt="(fog:1.4)", height=1024, width=1024)
    (warning,) = warnings_of(golden_pipeline, sized)
    assert (warning.code, warning.pointer) == ("prompt_weights_ignored", "/negative_prompt")


def test_brackets_are_really_read_as_plain_text(golden_pipeline) -> None:
    tokens = golden_pipeline.components.tokenizer.tokenize("a (red:1.3) dog")
    assert "".join(tokens).replace("</w>", "") == "a(red:1.3)dog"


@pytest.mark.parametrize(("height", "width"), SDXL_SIZES)
def test_the_sizes_of_the_training_are_usual(golden_pipeline, spec, height: int, width: int) -> None:
    assert size_warnings(golden_pipeline, spec, height, width) == []


@pytest.mark.parametrize(("height", "width"), [(960, 960), (1080, 1080), (720, 1280), (1024, 1280), (888, 1048)])
def test_sizes_near_those_are_usual_too(golden_pipeline, spec, height: int, width: int) -> None:
    assert size_warnings(golden_pipeline, spec, height, width) == []


@pytest.mark.parametrize(
    ("height", "width", "best"),
    [
        (512, 512, "1024 x 1024"),
        (1536, 1536, "1024 x 1024"),
        (512, 768, "1216 x 832"),
        (1920, 1080, "768 x 1344"),
        (640, 2048, "1536 x 640"),
        (2048, 512, "640 x 1536"),
    ],
)
def test_a_size_far_from_all_is_told_with_a_better_one(golden_pipeline, spec, height, width, best: str) -> None:
    (warning,) = size_warnings(golden_pipeline, spec, height, width)
    assert warning.detail.startswith(f"{width} x {height} pixels")
    assert warning.detail.endswith(f"{best} works best.")


def test_a_card_without_sizes_calls_none_unusual(golden_pipeline, spec) -> None:
    for height, width in product((64, 4096), repeat=2):
        assert size_warnings(golden_pipeline, spec, height, width, sizes=()) == []


def test_places_that_would_be_found_too_late_are_told(golden_pipeline, spec) -> None:
    late = replace(spec, layout=AutoLayout(start_step=5), num_inference_steps=4, height=64, width=64)
    (generation,) = golden_pipeline.run(late)
    assert "layout_too_late" in {warning.code for warning in generation.warnings}
    in_time = replace(late, num_inference_steps=5)
    (generation,) = golden_pipeline.run(in_time)
    assert "layout_too_late" not in {warning.code for warning in generation.warnings}
