"""The request: what is taken, what is refused, and that all of it is reported at once."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import fields, replace
from typing import Any

import pytest

from app.requests.decoding import PictureLimits
from app.requests.intake import measure_request, parse_request
from app.service.errors import HTTPProblem
from ms_core.spec import AutoLayout, Control, Lora, StartPicture, Subject
from ms_jobs.job_request import GenerateRequest
from tests.app.completed_requests import (
    CARD,
    CAT,
    EMPTY_MASKS,
    PICTURE,
    complete,
    control,
    mask_uri,
    problems,
    refusals,
    spec_of,
    stored_of,
    subject_without,
    warnings,
)
from tests.support.sample_requests import good_request, good_subject
from tests.support.value_ranges import REQUEST_RANGES, CountRange, ValueRange, request_with


def test_defaults_come_from_the_card() -> None:
    stored = stored_of(good_request())
    assert (stored.height, stored.width, stored.num_inference_steps) == (128, 256, 20)
    assert (stored.negative_prompt, stored.num_images, stored.grounding) == ("ugly", 1, True)


def test_given_values_win_over_the_card() -> None:
    stored = stored_of(good_request(height=64, negative_prompt="", num_inference_steps=3))
    assert (stored.height, stored.negative_prompt, stored.num_inference_steps) == (64, "", 3)


def test_a_preset_stands_in_for_what_is_left_out() -> None:
    stored, [spec] = complete(good_request(preset="quick"))
    assert (stored.num_inference_steps, stored.guidance_scale, stored.timestep_spacing) == (4, 1.0, "trailing")
    assert (spec.preset, spec.scheduler) == ("quick", "euler")


def test_given_values_win_over_the_preset() -> None:
    stored = stored_of(good_request(preset="quick", num_inference_steps=8, timestep_spacing="leading"))
    assert (stored.num_inference_steps, stored.timestep_spacing) == (8, "leading")


def test_the_loras_of_a_preset_are_left_to_the_worker() -> None:
    """It adds them itself; stored as well, they would act twice."""
    stored = stored_of(good_request(preset="lightning", loras=[{"name": "paper", "weight": -0.5}]))
    assert [(lora.name, lora.weight) for lora in stored.loras] == [("paper", -0.5)]


def test_what_is_not_asked_for_is_off() -> None:
    spec = spec_of()
    cat = spec.subjects[0]
    assert (cat.mask, cat.feather, cat.z_index, cat.scene, cat.cutout) == (None, 0.0, 0, False, False)
    assert (cat.start, cat.end) == (0.0, 1.0)
    assert (spec.preset, spec.loras, spec.controls, spec.start, spec.timestep_spacing) == (None, (), (), None, None)


def test_scores_and_retries_reach_the_worker() -> None:
    stored = stored_of(good_request(score=True, retries=2))
    assert (stored.score, stored.retries) == (True, 2)
    assert (stored_of(good_request()).score, stored_of(good_request()).retries) == (False, 0)


def test_a_model_without_a_scorer_refuses_scores() -> None:
    assert problems(good_request(score=True), replace(CARD, scorer=None)) == {"/score": "no_scorer"}
    assert stored_of(good_request(score=True), card=None).score


def test_without_a_card_the_worker_fills_in() -> None:
    stored = stored_of(good_request(), card=None)
    assert (stored.height, stored.width, stored.scale, stored.scheduler) == (None, None, None, None)


def test_without_a_card_names_and_sizes_are_left_to_the_worker() -> None:
    spec = spec_of(card=None, preset="any", loras=[{"name": "any"}], controls=[control((8, 8), name="any")])
    assert (spec.preset, spec.loras[0].name, spec.controls[0].name) == ("any", "any", "any")


def test_without_a_card_sizes_that_are_given_are_checked() -> None:
    request = good_request(controls=[control((8, 8))], width=64, height=64)
    assert problems(request, card=None) == {"/controls/0/image": "invalid_picture"}


each_range = pytest.mark.parametrize(
    "ranged", [pytest.param(ranged, id=f"{ranged.pointer} {ranged.says}") for ranged in REQUEST_RANGES]
)


@each_range
def test_what_is_at_the_edge_is_taken(ranged: ValueRange) -> None:
    for value in ranged.good:
        kept: Any = stored_of(request_with(ranged, value))
        for part in ranged.pointer.removeprefix("/").split("/"):
            kept = kept[int(part)] if part.isdecimal() else getattr(kept, part)
        assert value == (len(kept) if isinstance(ranged, CountRange) else kept)


@each_range
def test_what_is_beyond_is_refused(ranged: ValueRange) -> None:
    for value in ranged.bad:
        (refusal,) = refusals(request_with(ranged, value))
        assert (refusal.pointer, refusal.code) == (ranged.pointer, "invalid_input")
        assert ranged.is_said_by(refusal.detail)


@pytest.mark.parametrize(
    ("change", "pointer", "code"),
    [
        ({"prompt": None}, "/prompt", "missing_field"),
        ({"prompt": 3}, "/prompt", "string_type"),
        ({"subjects": None}, "/subjects", "missing_field"),
        ({"subjects": "cat"}, "/subjects", "list_type"),
        ({"subjects": ["cat"]}, "/subjects/0", "model_type"),
        ({"num_inference_steps": 20.5}, "/num_inference_steps", "int_type"),
        ({"num_inference_steps": "20"}, "/num_inference_steps", "int_type"),
        ({"num_inference_steps": True}, "/num_inference_steps", "int_type"),
        ({"width": 648}, "/width", "invalid_input"),
        ({"height": 520}, "/height", "invalid_input"),
        ({"grounding": "yes"}, "/grounding", "bool_type"),
        ({"scheduler": "dpm"}, "/scheduler", "unsupported_scheduler"),
        ({"layout": "auto"}, "/layout", "model_type"),
        ({"layout": {"mode": "magic"}}, "/layout/mode", "literal_error"),
        ({"layout": {"mode": "auto", "steps": 3}}, "/layout/steps", "unknown_field"),
        ({"score": 1}, "/score", "bool_type"),
        ({"retries": 1}, "/retries", "invalid_input"),
        ({"output_format": "gif"}, "/output_format", "literal_error"),
        ({"output_format": "PNG"}, "/output_format", "literal_error"),
        ({"quality": 80}, "/quality", "invalid_input"),
        ({"output_format": "png", "quality": 80}, "/quality", "invalid_input"),
        ({"output_format": "webp", "quality": "80"}, "/quality", "int_type"),
        ({"score": True, "layout": {"mode": "auto"}}, "/score", "invalid_input"),
        ({"steps": 20}, "/steps", "unknown_field"),
        ({"a/b~c": 1}, "/a~1b~0c", "unknown_field"),
        ({"preset": " "}, "/preset", "invalid_input"),
        ({"preset": "slow"}, "/preset", "unknown_name"),
        ({"preset": "broken"}, "/preset", "unknown_name"),
        ({"timestep_spacing": "wide"}, "/timestep_spacing", "invalid_input"),
        ({"loras": [{}]}, "/loras/0/name", "missing_field"),
        ({"loras": [{"name": "paper"}, {"name": "lost"}]}, "/loras/1/name", "unknown_name"),
        ({"loras": [{"name": "../paper"}]}, "/loras/0/name", "invalid_input"),
        ({"loras": [{"name": "/models/paper.safetensors"}]}, "/loras/0/name", "invalid_input"),
        ({"loras": [{"name": "paper.safetensors"}]}, "/loras/0/name", "invalid_input"),
        ({"loras": [{"name": "https://example.com/paper"}]}, "/loras/0/name", "invalid_input"),
        ({"loras": [{"name": "paper", "path": "x"}]}, "/loras/0/path", "unknown_field"),
        ({"loras": ["paper"]}, "/loras/0", "model_type"),
        ({"controls": [{"name": "canny"}]}, "/controls/0/image", "missing_field"),
        ({"controls": [control(image="edges.png")]}, "/controls/0/image", "invalid_picture"),
        ({"controls": [control(name="pose")]}, "/controls/0/name", "unknown_name"),
        ({"controls": [control(name="..")]}, "/controls/0/name", "invalid_input"),
        ({"controls": [control(start=1.0)]}, "/controls/0/end", "invalid_input"),
        ({"controls": [control(start=0.5, end=0.5)]}, "/controls/0/end", "invalid_input"),
        ({"controls": [control(), control((256, 136))]}, "/controls/1/image", "invalid_picture"),
        ({"controls": [control()], "width": 128}, "/controls/0/image", "invalid_picture"),
        ({"start": {}}, "/start/image", "missing_field"),
        ({"start": {"image": PICTURE, "strength": 0.04}}, "/start/strength", "invalid_input"),
        ({"start": {"image": PICTURE, "redraw": [2]}}, "/start/redraw", "invalid_input"),
        ({"start": {"image": PICTURE, "redraw": [-1]}}, "/start/redraw", "invalid_input"),
        ({"start": {"image": PICTURE, "redraw": [0.5]}}, "/start/redraw/0", "int_type"),
        ({"start": {"image": PICTURE, "redraw": [0]}, "layout": {"mode": "auto"}}, "/start/redraw", "invalid_box"),
        ({"scheduler": "lcm", "num_inference_steps": 51}, "/num_inference_steps", "invalid_input"),
    ],
)
def test_wrong_values_of_the_request(change: dict[str, Any], pointer: str, code: str) -> None:
    assert problems(good_request(**change)) == {pointer: code}


def test_a_value_that_is_none_of_a_few_is_told_the_few() -> None:
    (refusal,) = refusals(good_request(output_format="heic"))
    assert refusal.detail == "Choose 'png', 'webp' or 'jpeg'."


def test_an_address_is_told_that_it_is_not_fetched() -> None:
    (refusal,) = refusals(good_request(controls=[control(image="https://example.com/edges.png")]))
    assert (refusal.pointer, refusal.code) == ("/controls/0/image", "invalid_picture")
    for words in ("data:image/png;base64,", "asset:<id>", "addresses are not fetched", "MSD_FETCH_HOSTS"):
        assert words in refusal.detail


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", 42.0),
        ("width", 128.0),
        ("num_inference_steps", 1e1),
        ("num_images", 2.0),
        ("retries", 0.0),
        ("layout", {"mode": "auto", "start_step": 2.0}),
        ("start", {"image": PICTURE, "redraw": [1.0]}),
    ],
)
def test_a_whole_float_is_an_integer_as_in_json_schema(field: str, value: Any) -> None:
    kept = getattr(stored_of(good_request(**{field: value})), field)
    if field == "layout":
        kept = kept.start_step
    elif field == "start":
        (kept,) = kept.redraw
    assert isinstance(kept, int)


# A request with one of each kind of object, and where each lies.
WHOLE = good_request(layout={"mode": "auto"}, loras=[{"name": "paper"}], controls=[control()], start={"image": PICTURE})
KINDS: dict[type[Any], tuple[str | int, ...]] = {
    GenerateRequest: (),
    Subject: ("subjects", 0),
    AutoLayout: ("layout",),
    Lora: ("loras", 0),
    Control: ("controls", 0),
    StartPicture: ("start",),
}


@pytest.mark.parametrize("kind", KINDS)
def test_null_is_left_out(kind: type[Any]) -> None:
    """Of every field, also where the schema gives a number as its default."""
    optional = [
        item.name for item in fields(kind) if item.name not in ("prompt", "subjects", "phrase", "image", "name", "mode")
    ]
    assert optional
    for name in optional:
        request, without = deepcopy(WHOLE), deepcopy(WHOLE)
        for document in (request, without):
            place: Any = document
            for part in KINDS[kind]:
                place = place[part]
            place[name] = None
        del place[name]
        assert stored_of(request) == stored_of(without)


@pytest.mark.parametrize(("kind", "name"), [(GenerateRequest, "prompt"), (Subject, "phrase"), (Lora, "name")])
def test_null_where_a_value_is_needed_says_so(kind: type[Any], name: str) -> None:
    request: dict[str, Any] = deepcopy(WHOLE)
    place: Any = request
    for part in KINDS[kind]:
        place = place[part]
    place[name] = None
    pointer = "".join(f"/{part}" for part in (*KINDS[kind], name))
    assert problems(request) == {pointer: "missing_field"}


@pytest.mark.parametrize("field", ["prompt", "negative_prompt"])
def test_half_an_emoji_is_named_with_its_field(field: str) -> None:
    """As ``JSON.stringify`` writes what a string function cut in two; JSON's grammar allows it."""
    assert problems(good_request(**{field: "a cat \ud83d"})) == {f"/{field}": "invalid_input"}
    (refusal,) = refusals(good_request(**{field: "a cat \ud83d"}))
    assert "broken character" in refusal.detail


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_body_as_windows_editors_write_it_is_read(encoding: str) -> None:
    """With a byte order mark, which RFC 8259 lets readers ignore."""
    body = json.dumps(good_request(), ensure_ascii=False).encode(encoding)
    assert parse_request(body, PictureLimits()).request.prompt == good_request()["prompt"]


@pytest.mark.parametrize(
    "body", [b"[" * 60_000, b'{"x":[' + b"[[]]," * 30_000 + b"[]]}", b"{" + b'"a":1,' * 60_000 + b'"b":1}']
)
def test_a_body_of_too_many_values_is_refused_before_it_is_built(body: bytes) -> None:
    with pytest.raises(HTTPProblem, match="50000 values"):
        measure_request(body, PictureLimits())


@pytest.mark.parametrize(
    ("change", "meant"),
    [
        ({"steps": 20}, "num_inference_steps"),
        ({"cfgScale": 5}, "guidance_scale"),
        ({"negativePrompt": "x"}, "negative_prompt"),
        ({"promt": "x"}, "prompt"),
        ({"n": 2}, "num_images"),
        ({"layout": {"mode": "auto", "treshold": 0.5}}, "threshold"),
        ({"subjects": [good_subject(bbox=[0, 0, 1, 1])]}, "box"),
        ({"subjects": [good_subject(zIndex=1)]}, "z_index"),
        ({"loras": [{"name": "paper", "wieght": 1}]}, "weight"),
        ({"start": {"image": PICTURE, "strenght": 1}}, "strength"),
    ],
)
def test_an_unknown_field_is_told_what_is_meant(change: dict[str, Any], meant: str) -> None:
    (refusal,) = refusals(good_request(**change))
    assert refusal.code == "unknown_field"
    assert refusal.detail == f"Unknown field; did you mean {meant}?"


def test_an_unknown_field_like_no_other_is_told_where_all_are() -> None:
    # A subject knows ``box``; the request itself does not.
    for name in ("colour", "bbox"):
        (refusal,) = refusals(good_request(**{name: 1}))
        assert "/docs" in refusal.detail


def test_an_unknown_name_is_told_what_is_meant() -> None:
    (refusal,) = refusals(good_request(preset="quik"))
    assert refusal.detail.endswith("Did you mean quick?")


def test_everything_wrong_is_reported_at_once() -> None:
    wrong_subject = {"phrase": " ", "image": "no", "box": [0, 0, 0, 0], "scale": 9, "extra": 1}
    request = good_request(
        prompt="",
        subjects=[wrong_subject, subject_without("image", mask=EMPTY_MASKS["black"], feather=1, z_index=1000)],
        width=129,
        num_inference_steps=0,
        seed=-1,
        extra=1,
        preset="",
        timestep_spacing="x",
        loras=[{"name": "a/b", "weight": 9}],
        controls=[{"name": "a/b", "image": "x", "scale": 9, "start": 9}],
        start={"image": "x", "strength": 9},
    )
    assert set(problems(request)) == {
        *("/prompt", "/width", "/num_inference_steps", "/seed", "/extra"),
        *(f"/subjects/0/{field}" for field in ("phrase", "image", "box", "scale", "extra")),
        *(f"/subjects/1/{field}" for field in ("image", "mask", "feather", "z_index")),
        *("/preset", "/timestep_spacing", "/loras/0/name", "/loras/0/weight"),
        *(f"/controls/0/{field}" for field in ("name", "image", "scale", "start")),
        *("/start/image", "/start/strength"),
    }


def test_what_does_not_fit_together_is_reported_at_once() -> None:
    subjects = [good_subject(box=None), good_subject(box={"pixels": [0, 0, 9000, 10]})]
    request = good_request(subjects=subjects, width=1024, height=1024)
    assert set(problems(request)) == {"/width", "/height", "/subjects/0/box", "/subjects/1/box"}


def test_what_does_not_fit_the_model_is_reported_at_once() -> None:
    request = good_request(
        subjects=[CAT | {"scene": True, "mask": mask_uri()}],
        preset="slow",
        loras=[{"name": "lost"}],
        controls=[control((8, 8), name="pose")],
        start={"image": PICTURE, "strength": 0.01, "redraw": [3]},
        width=1024,
    )
    assert set(problems(request)) == {
        *("/subjects/0/box", "/subjects/0/mask", "/preset", "/loras/0/name", "/controls/0/name", "/controls/0/image"),
        *("/start/strength", "/start/redraw", "/width"),
    }


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"preset": "slow"}, "This model has no preset 'slow'; it has broken, lightning, quick."),
        (
            {"preset": "broken"},
            "The preset 'broken' needs the LoRA 'lost', which is not in this model; add it",
        ),
        ({"loras": [{"name": "lost"}]}, "This model has no LoRA 'lost'; it has lightning, paper."),
        ({"controls": [control(name="pose")]}, "This model has no ControlNet 'pose'; it has canny, depth."),
        ({"controls": [control((64, 32))]}, "has 64 x 32 pixels, but the result has 256 x 128"),
        ({"subjects": [CAT | {"mask": EMPTY_MASKS["black"]}]}, "The mask is empty"),
        ({"start": {"image": PICTURE, "strength": 2}}, "Must be above 0 and at most 1, not 2.0."),
    ],
)
def test_the_sentence_says_what_there_is(change: dict[str, Any], sentence: str) -> None:
    (refusal,) = refusals(good_request(**change))
    assert sentence in refusal.detail


@pytest.mark.parametrize("body", [b"", b"{", b"nonsense", b"\xff\xfe", b'{"a": 1,}', b"[" * 10_000])
def test_what_is_not_json_is_malformed(body: bytes) -> None:
    with pytest.raises(HTTPProblem) as caught:
        parse_request(body, PictureLimits())
    assert caught.value.problem.status == 400


def test_missing_phrase_is_a_warning_with_boxes() -> None:
    assert warnings(good_request(subjects=[good_subject(phrase="dragon")])) == {
        "/subjects/0/phrase": "phrase_not_found"
    }


def test_more_subjects_than_in_training_is_a_warning() -> None:
    assert warnings(good_request(subjects=[good_subject()] * 5)) == {"/subjects": "too_many_subjects"}
    assert warnings(good_request(subjects=[good_subject()] * 4)) == {}


def test_long_and_chinese_prompts_are_taken() -> None:
    assert stored_of(good_request(prompt="a cat " * 1600)).prompt.startswith("a cat a cat")
    stored = stored_of(good_request(prompt="一只猫在沙滩上", subjects=[good_subject(phrase="猫")]))
    assert stored.subjects[0].phrase == "猫"
