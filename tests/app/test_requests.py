"""The request schema: what is taken, what is refused, and that all of it is reported at once."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from app.requests.intake import parse_request
from app.requests.pictures import PictureLimits
from app.service.errors import HTTPProblem, InvalidRequestError
from ms_core.config import ModelCard
from ms_core.spec import Box
from ms_core.spec.resolve import resolve
from ms_jobs.job_request import JobRequest
from tests.support.sample_requests import good_request, good_subject, picture_uri

CARD = ModelCard.from_dict(
    {
        "name": "test",
        "defaults": {"height": 128, "width": 256, "num_inference_steps": 20, "negative_prompt": "ugly"},
        "max_height": 512,
        "max_width": 640,
        "max_subjects": 4,
        "scorer": {},
    }
)

# A busy machine is no reason to fail.
on_a_busy_machine = settings(suppress_health_check=[HealthCheck.too_slow])


def complete(request: Any, card: ModelCard | None = CARD) -> JobRequest:
    body = request if isinstance(request, bytes) else json.dumps(request).encode()
    resolution = resolve(parse_request(body, PictureLimits()).request, card)
    if resolution.errors:
        raise InvalidRequestError(resolution.errors)
    return JobRequest.of(resolution.spec, seed=1, model="test")


def problems(request: Any, card: ModelCard | None = CARD) -> dict[str, str]:
    """Code of each thing that is wrong, by its pointer."""
    with pytest.raises(InvalidRequestError) as caught:
        complete(request, card)
    assert all(error.detail.endswith((".", "?")) for error in caught.value.errors)
    return {error.pointer: error.code for error in caught.value.errors}


def first_box(box: Any, card: ModelCard | None = CARD, **changes: Any) -> tuple[float, ...] | None:
    found = complete(good_request(subjects=[good_subject(box=box)], **changes), card).subjects[0].box
    assert isinstance(found, Box)
    return found.as_tuple()


def test_defaults_come_from_the_card() -> None:
    stored = complete(good_request())
    assert (stored.height, stored.width, stored.num_inference_steps) == (128, 256, 20)
    assert (stored.negative_prompt, stored.num_images, stored.grounding) == ("ugly", 1, True)


def test_given_values_win_over_the_card() -> None:
    stored = complete(good_request(height=64, negative_prompt="", num_inference_steps=3))
    assert (stored.height, stored.negative_prompt, stored.num_inference_steps) == (64, "", 3)


def test_scores_and_retries_reach_the_worker() -> None:
    stored = complete(good_request(score=True, retries=2))
    assert (stored.score, stored.retries) == (True, 2)
    assert (complete(good_request()).score, complete(good_request()).retries) == (False, 0)


def test_a_model_without_a_scorer_refuses_scores() -> None:
    assert problems(good_request(score=True), replace(CARD, scorer=None)) == {"/score": "no_scorer"}
    assert complete(good_request(score=True), card=None).score


def test_without_a_card_the_worker_fills_in() -> None:
    stored = complete(good_request(), card=None)
    assert (stored.height, stored.width, stored.scale, stored.scheduler) == (None, None, None, None)


@pytest.mark.parametrize(
    ("change", "pointer", "code"),
    [
        ({"prompt": None}, "/prompt", "missing_field"),
        ({"prompt": ""}, "/prompt", "invalid_input"),
        ({"prompt": " \n"}, "/prompt", "invalid_input"),
        ({"prompt": "a \0 cat"}, "/prompt", "invalid_input"),
        ({"prompt": "x" * 20_001}, "/prompt", "invalid_input"),
        ({"prompt": 3}, "/prompt", "string_type"),
        ({"negative_prompt": "\0"}, "/negative_prompt", "invalid_input"),
        ({"subjects": None}, "/subjects", "missing_field"),
        ({"subjects": []}, "/subjects", "invalid_input"),
        ({"subjects": [good_subject()] * 17}, "/subjects", "invalid_input"),
        ({"subjects": "cat"}, "/subjects", "list_type"),
        ({"subjects": ["cat"]}, "/subjects/0", "model_type"),
        ({"num_inference_steps": 0}, "/num_inference_steps", "invalid_input"),
        ({"num_inference_steps": 151}, "/num_inference_steps", "invalid_input"),
        ({"num_inference_steps": 20.5}, "/num_inference_steps", "int_type"),
        ({"num_inference_steps": "20"}, "/num_inference_steps", "int_type"),
        ({"num_inference_steps": True}, "/num_inference_steps", "int_type"),
        ({"seed": -1}, "/seed", "invalid_input"),
        ({"seed": 2**53}, "/seed", "invalid_input"),
        ({"seed": 10**400}, "/seed", "invalid_input"),
        ({"guidance_scale": math.nan}, "/guidance_scale", "invalid_input"),
        ({"guidance_scale": math.inf}, "/guidance_scale", "invalid_input"),
        ({"guidance_scale": -0.1}, "/guidance_scale", "invalid_input"),
        ({"guidance_scale": 50.1}, "/guidance_scale", "invalid_input"),
        ({"scale": -math.inf}, "/scale", "invalid_input"),
        ({"scale": 2.1}, "/scale", "invalid_input"),
        ({"width": 129}, "/width", "invalid_input"),
        ({"width": 0}, "/width", "invalid_input"),
        ({"height": -8}, "/height", "invalid_input"),
        ({"width": 648}, "/width", "invalid_input"),
        ({"height": 520}, "/height", "invalid_input"),
        ({"num_images": 0}, "/num_images", "invalid_input"),
        ({"num_images": 9}, "/num_images", "invalid_input"),
        ({"grounding": "yes"}, "/grounding", "bool_type"),
        ({"scheduler": "dpm"}, "/scheduler", "unsupported_scheduler"),
        ({"layout": "auto"}, "/layout", "model_type"),
        ({"layout": {"mode": "magic"}}, "/layout/mode", "literal_error"),
        ({"layout": {"mode": "auto", "threshold": 1.1}}, "/layout/threshold", "invalid_input"),
        ({"layout": {"mode": "auto", "start_step": 0}}, "/layout/start_step", "invalid_input"),
        ({"layout": {"mode": "auto", "steps": 3}}, "/layout/steps", "unknown_field"),
        ({"score": 1}, "/score", "bool_type"),
        ({"retries": 1}, "/retries", "invalid_input"),
        ({"score": True, "retries": 4}, "/retries", "invalid_input"),
        ({"score": True, "retries": -1}, "/retries", "invalid_input"),
        ({"score": True, "layout": {"mode": "auto"}}, "/score", "invalid_input"),
        ({"steps": 20}, "/steps", "unknown_field"),
        ({"a/b~c": 1}, "/a~1b~0c", "unknown_field"),
    ],
)
def test_wrong_values_of_the_request(change: dict[str, Any], pointer: str, code: str) -> None:
    assert problems(good_request() | change if None not in change.values() else good_request(**change)) == {
        pointer: code
    }


@pytest.mark.parametrize(
    ("change", "field", "code"),
    [
        ({"phrase": ""}, "phrase", "invalid_input"),
        ({"phrase": "x" * 201}, "phrase", "invalid_input"),
        ({"image": "cat.png"}, "image", "invalid_picture"),
        ({"image": None}, "image", "missing_field"),
        ({"scale": 3}, "scale", "invalid_input"),
        ({"colour": "red"}, "colour", "unknown_field"),
        ({"box": None}, "box", "invalid_box"),
        ({"box": [0.1, 0.1, 0.1, 0.5]}, "box", "invalid_box"),
        ({"box": [0.5, 0.1, 0.1, 0.5]}, "box", "invalid_box"),
        ({"box": [0, 0, 1.2, 1]}, "box", "invalid_box"),
        ({"box": [0, 0, math.nan, 1]}, "box", "invalid_box"),
        ({"box": [0, 0, 1]}, "box", "invalid_box"),
        ({"box": [0, 0, True, True]}, "box", "invalid_box"),
        ({"box": ["0", "0", "1", "1"]}, "box", "invalid_box"),
        ({"box": [0, 0, 10**400, 1]}, "box", "invalid_box"),
        ({"box": "left"}, "box", "invalid_box"),
        ({"box": {}}, "box", "invalid_box"),
        ({"box": {"pixels": [0, 0, 10, 10], "xywh": [0, 0, 1, 1]}}, "box", "invalid_box"),
        ({"box": {"pixels": [0, 0, 257, 128]}}, "box", "invalid_box"),
        ({"box": {"pixels": [0, 0, 256, 129]}}, "box", "invalid_box"),
        ({"box": {"pixels": [-1, 0, 10, 10]}}, "box", "invalid_box"),
        ({"box": {"pixels": [0, 0, math.nan, 10]}}, "box", "invalid_box"),
        ({"box": {"pixels": [0, 0, math.inf, 10]}}, "box", "invalid_box"),
        ({"box": {"xywh": [0.5, 0.5, 0.6, 0.1]}}, "box", "invalid_box"),
        ({"box": {"xywh": [0.5, 0.5, 0, 0.1]}}, "box", "invalid_box"),
    ],
)
def test_wrong_values_of_a_subject(change: dict[str, Any], field: str, code: str) -> None:
    request = good_request(subjects=[good_subject(), good_subject(**change)])
    assert problems(request) == {f"/subjects/1/{field}": code}


def test_everything_wrong_is_reported_at_once() -> None:
    wrong_subject = {"phrase": " ", "image": "no", "box": [0, 0, 0, 0], "scale": 9, "extra": 1}
    request = good_request(prompt="", subjects=[wrong_subject], width=129, num_inference_steps=0, seed=-1, extra=1)
    fields = ("phrase", "image", "box", "scale", "extra")
    expected = {"/prompt", "/width", "/num_inference_steps", "/seed", "/extra", *(f"/subjects/0/{f}" for f in fields)}
    assert set(problems(request)) == expected


def test_what_does_not_fit_together_is_reported_at_once() -> None:
    subjects = [good_subject(box=None), good_subject(box={"pixels": [0, 0, 9000, 10]})]
    request = good_request(subjects=subjects, width=1024, height=1024)
    assert set(problems(request)) == {"/width", "/height", "/subjects/0/box", "/subjects/1/box"}


@pytest.mark.parametrize("body", [b"", b"{", b"nonsense", b"\xff\xfe", b'{"a": 1,}', b"[" * 10_000])
def test_what_is_not_json_is_malformed(body: bytes) -> None:
    with pytest.raises(HTTPProblem) as caught:
        parse_request(body, PictureLimits())
    assert caught.value.problem.status == 400


def test_pixel_boxes_refer_to_the_picture_asked_for() -> None:
    assert first_box({"pixels": [16, 8, 32, 32]}, width=64, height=32) == (0.25, 0.25, 0.5, 1.0)


def test_pixel_boxes_refer_to_the_models_own_size_otherwise() -> None:
    assert first_box({"pixels": [64, 64, 128, 128]}) == (0.25, 0.5, 0.5, 1.0)


def test_pixel_boxes_without_a_card_need_the_size() -> None:
    assert first_box({"pixels": [16, 8, 32, 32]}, card=None, width=64, height=32) == (0.25, 0.25, 0.5, 1.0)
    request = good_request(subjects=[good_subject(box={"pixels": [16, 8, 32, 32]})], width=64)
    assert problems(request, card=None) == {"/subjects/0/box": "invalid_box"}


def test_xywh_boxes_become_corners() -> None:
    assert first_box({"xywh": [0.25, 0.5, 0.5, 0.25]}) == (0.25, 0.5, 0.75, 0.75)


def test_auto_layout_needs_no_boxes() -> None:
    stored = complete(good_request(subjects=[good_subject(box=None)], layout={"mode": "auto", "threshold": 0.4}))
    assert stored.subjects[0].box is None
    assert stored.layout is not None
    assert (stored.layout.threshold, stored.layout.start_step) == (0.4, 5)


def test_boxes_layout_can_be_named() -> None:
    assert complete(good_request(layout="boxes")).layout is None


def test_auto_layout_needs_every_phrase_in_the_prompt() -> None:
    subjects = [good_subject(), good_subject(phrase="dragon")]
    request = good_request(subjects=subjects, layout={"mode": "auto"})
    assert problems(request) == {"/subjects/1/phrase": "phrase_not_found"}


def warnings(request: dict[str, Any], card: ModelCard | None = CARD) -> dict[str, str]:
    sent = parse_request(json.dumps(request).encode(), PictureLimits())
    return {warning.pointer: warning.code for warning in resolve(sent.request, card).warnings}


def test_missing_phrase_is_a_warning_with_boxes() -> None:
    assert warnings(good_request(subjects=[good_subject(phrase="dragon")])) == {
        "/subjects/0/phrase": "phrase_not_found"
    }


def test_more_subjects_than_in_training_is_a_warning() -> None:
    assert warnings(good_request(subjects=[good_subject()] * 5)) == {"/subjects": "too_many_subjects"}
    assert warnings(good_request(subjects=[good_subject()] * 4)) == {}


def test_long_and_chinese_prompts_are_taken() -> None:
    assert complete(good_request(prompt="a cat " * 1600)).prompt.startswith("a cat a cat")
    stored = complete(good_request(prompt="一只猫在沙滩上", subjects=[good_subject(phrase="猫")]))
    assert stored.subjects[0].phrase == "猫"


def test_width_136_is_taken() -> None:
    assert complete(good_request(width=136)).width == 136


unit = st.floats(0, 1)
coordinate = st.one_of(unit, st.floats(), st.integers(-5, 5), st.integers())


def is_box(values: list[Any]) -> bool:
    """Whether these are the corners of a box, written anew."""
    if len(values) != 4 or not all(0 <= value <= 1 for value in values):
        return False
    x_min, y_min, x_max, y_max = values
    return x_min < x_max and y_min < y_max


@on_a_busy_machine
@given(values=st.one_of(st.lists(coordinate, max_size=6), st.tuples(unit, unit, unit, unit).map(list)))
def test_any_corners_are_a_box_or_an_error(values: list[Any]) -> None:
    request = good_request(subjects=[good_subject(box=values)])
    if is_box(values):
        assert complete(request).subjects[0].box == Box(*map(float, values))
    else:
        assert problems(request) == {"/subjects/0/box": "invalid_box"}


@on_a_busy_machine
@given(
    width=st.integers(1, 80).map(lambda n: n * 8),
    height=st.integers(1, 64).map(lambda n: n * 8),
    corners=st.tuples(unit, unit, unit, unit),
)
def test_pixel_boxes_mean_the_same_as_normalised_ones(
    width: int, height: int, corners: tuple[float, float, float, float]
) -> None:
    x_min, x_max = sorted((round(corners[0] * width), round(corners[1] * width)))
    y_min, y_max = sorted((round(corners[2] * height), round(corners[3] * height)))
    pixels = [x_min, y_min, x_max, y_max]
    request = good_request(subjects=[good_subject(box={"pixels": pixels})], width=width, height=height)
    if x_min == x_max or y_min == y_max:
        assert problems(request) == {"/subjects/0/box": "invalid_box"}
    else:
        box = complete(request).subjects[0].box
        assert isinstance(box, Box)
        assert box.as_tuple() == pytest.approx((x_min / width, y_min / height, x_max / width, y_max / height))


field_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
field_names = st.sampled_from(
    ["prompt", "subjects", "negative_prompt", "width", "height", "num_images", "num_inference_steps", "guidance_scale"]
    + ["scale", "seed", "layout", "grounding", "scheduler", "other"]
)


@on_a_busy_machine
@given(changes=st.dictionaries(field_names, field_values, max_size=3))
def test_any_request_is_refused_or_can_be_run(changes: dict[str, Any]) -> None:
    """What the API takes never fails the worker's own checks."""
    try:
        stored = complete(good_request() | changes)
    except (InvalidRequestError, HTTPProblem):
        return
    specs = stored.specs()
    assert len(specs) == stored.num_images
    assert all(isinstance(subject.box, Box) for subject in specs[0].subjects) or stored.layout is not None


@on_a_busy_machine
@given(value=field_values, field=st.sampled_from(["phrase", "box", "scale", "image"]))
def test_any_subject_is_refused_or_can_be_run(value: Any, field: str) -> None:
    try:
        stored = complete(good_request(subjects=[good_subject(**{field: value})]))
    except (InvalidRequestError, HTTPProblem):
        return
    assert stored.specs()


def test_pictures_of_the_request_are_decoded() -> None:
    uri = picture_uri(Image.new("CMYK", (3, 5)), "JPEG")
    sent = parse_request(json.dumps(good_request(subjects=[good_subject(image=uri)])).encode(), PictureLimits())
    (png,) = sent.pictures.pngs.values()
    assert png.startswith(b"\x89PNG")
