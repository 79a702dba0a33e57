"""Subjects of a request: boxes and what stands in for them, several pictures, scenes, the auto layout."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ms_core.config import ModelCard
from ms_core.spec import WHOLE_PICTURE, Box
from tests.app.completed_requests import (
    CARD,
    CAT,
    EMPTY_MASKS,
    PICTURE,
    mask_uri,
    on_a_busy_machine,
    problems,
    spec_of,
    stored_of,
    subject_without,
    warnings,
)
from tests.support.sample_requests import good_request, good_subject, picture_uri


def first_box(box: Any, card: ModelCard | None = CARD, **changes: Any) -> tuple[float, ...] | None:
    found = stored_of(good_request(subjects=[good_subject(box=box)], **changes), card).subjects[0].box
    assert isinstance(found, Box)
    return found.as_tuple()


@pytest.mark.parametrize(
    ("change", "field", "code"),
    [
        ({"image": "cat.png"}, "image", "invalid_picture"),
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
        ({"images": [PICTURE]}, "image", "invalid_input"),
        ({"image": None, "images": [PICTURE, "cat.png"]}, "images/1", "invalid_picture"),
        ({"image": None, "images": [PICTURE, None]}, "images/1", "string_type"),
        ({"image": None, "images": PICTURE}, "images", "list_type"),
        ({"image": None}, "image", "missing_field"),
        ({"image": None, "prompt": None}, "image", "missing_field"),
        ({"prompt": " "}, "prompt", "invalid_input"),
        ({"prompt": "a" * 20_001}, "prompt", "invalid_input"),
        ({"prompt": 1}, "prompt", "string_type"),
        ({"image": None, "images": [], "prompt": "a cat"}, "images", "invalid_input"),
        ({"mask": "mask.png"}, "mask", "invalid_picture"),
        ({"mask": 1}, "mask", "string_type"),
        *(({"mask": mask}, "mask", "invalid_box") for mask in EMPTY_MASKS.values()),
        ({"z_index": 0.5}, "z_index", "int_type"),
        ({"scene": 1}, "scene", "bool_type"),
        ({"cutout": "yes"}, "cutout", "bool_type"),
        ({"start": "0"}, "start", "float_type"),
        ({"end": 1.5}, "end", "invalid_input"),
        ({"start": 0.5, "end": 0.5}, "end", "invalid_input"),
        ({"start": 1.0}, "end", "invalid_input"),
        ({"end": 0.0}, "end", "invalid_input"),
        ({"scene": True}, "box", "invalid_box"),
        ({"scene": True, "box": None, "mask": mask_uri()}, "mask", "invalid_box"),
    ],
)
def test_wrong_values_of_a_subject(change: dict[str, Any], field: str, code: str) -> None:
    request = good_request(subjects=[CAT, CAT | change])
    assert problems(request) == {f"/subjects/1/{field}": code}


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
        assert stored_of(request).subjects[0].box == Box(*map(float, values))
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
        box = stored_of(request).subjects[0].box
        assert isinstance(box, Box)
        assert box.as_tuple() == pytest.approx((x_min / width, y_min / height, x_max / width, y_max / height))


def test_auto_layout_needs_no_boxes() -> None:
    stored = stored_of(good_request(subjects=[good_subject(box=None)], layout={"mode": "auto", "threshold": 0.4}))
    assert stored.subjects[0].box is None
    assert stored.layout is not None
    assert (stored.layout.threshold, stored.layout.start_step) == (0.4, 5)


def test_boxes_layout_can_be_named() -> None:
    assert stored_of(good_request(layout="boxes")).layout is None


def test_auto_layout_needs_every_phrase_in_the_prompt() -> None:
    subjects = [good_subject(), good_subject(phrase="dragon")]
    request = good_request(subjects=subjects, layout={"mode": "auto"})
    assert problems(request) == {"/subjects/1/phrase": "phrase_not_found"}


def test_several_pictures_of_one_subject_keep_their_order() -> None:
    colours = ["red", "green", "blue"]
    images = [picture_uri(Image.new("RGB", (4, 4), colour)) for colour in colours]
    (cat,) = spec_of(subjects=[subject_without("image", images=images)]).subjects
    assert [image.getpixel((0, 0)) for image in cat.images] == [(255, 0, 0), (0, 128, 0), (0, 0, 255)]


def test_a_mask_stands_in_for_the_box() -> None:
    (cat,) = spec_of(subjects=[subject_without("box", mask=mask_uri(), feather=0.1)]).subjects
    assert cat.mask is not None
    assert cat.mask.size == (256, 128)
    assert cat.feather == 0.1
    assert cat.place == Box(0.25, 0.25, 0.5, 1.0)


def test_a_mask_may_stand_beside_a_box() -> None:
    (cat,) = spec_of(subjects=[CAT | {"mask": mask_uri(), "box": [0, 0, 1, 0.5]}]).subjects
    assert cat.place == Box(0.0, 0.0, 1.0, 0.5)


def test_a_scene_fills_the_picture() -> None:
    (beach,) = spec_of(subjects=[subject_without("box", phrase="beach", scene=True)]).subjects
    assert (beach.place, beach.own_scale) == (WHOLE_PICTURE, 0.4)


@pytest.mark.parametrize("box", [[0, 0, 1, 1], {"pixels": [0, 0, 256, 128]}])
def test_a_scene_may_say_that_it_fills_the_picture(box: Any) -> None:
    assert spec_of(subjects=[CAT | {"scene": True, "box": box}]).subjects[0].scene


def test_a_subject_with_words_needs_no_picture_and_is_stored_as_it_was_sent() -> None:
    words = {"phrase": "tree", "prompt": "a tree in the rain", "box": [0, 0, 1, 1]}
    stored = stored_of(good_request(subjects=[CAT | {"prompt": "a wet cat"}, words, CAT]))
    assert [subject.prompt for subject in stored.subjects] == ["a wet cat", "a tree in the rain", None]
    assert [len(subject.images) for subject in stored.subjects] == [1, 0, 1]


def test_words_of_a_subject_replace_the_prompt_so_no_phrase_is_missed() -> None:
    words = {"phrase": "tree", "prompt": "(a tree:1.3)", "box": [0, 0, 1, 1]}
    warned = warnings(good_request(subjects=[good_subject(), words]))
    assert warned == {"/subjects/1/prompt": "prompt_weights_ignored"}


def test_auto_layout_needs_the_phrase_of_a_subject_of_words_too() -> None:
    words = {"phrase": "tree", "prompt": "a tree in the rain"}
    request = good_request(subjects=[good_subject(box=None), words], layout={"mode": "auto"})
    assert problems(request) == {"/subjects/1/phrase": "phrase_not_found"}
