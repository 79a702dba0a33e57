"""Requests of all kinds, drawn at random: each is refused or can be run."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from app.service.errors import HTTPProblem, InvalidRequestError
from ms_core.config import ModelCard
from ms_core.spec import Box
from tests.app.completed_requests import (
    CARD,
    CAT,
    EMPTY_MASKS,
    PICTURE,
    complete,
    control,
    mask_uri,
    on_a_busy_machine,
    problems,
)
from tests.support.sample_requests import good_request, good_subject

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
        stored, specs = complete(good_request() | changes)
    except (InvalidRequestError, HTTPProblem):
        return
    assert len(specs) == stored.num_images
    assert all(isinstance(subject.place, Box) for subject in specs[0].subjects) or stored.layout is not None


@on_a_busy_machine
@given(value=field_values, field=st.sampled_from(["phrase", "box", "scale", "image", "prompt"]))
def test_any_subject_is_refused_or_can_be_run(value: Any, field: str) -> None:
    try:
        _, specs = complete(good_request(subjects=[good_subject(**{field: value})]))
    except (InvalidRequestError, HTTPProblem):
        return
    assert specs


# Anything that JSON can hold, and things that are nearly right.
numbers = st.integers(-200, 200) | st.floats() | st.floats(-2, 2)
words = st.text(max_size=6) | st.sampled_from(["paper", "lost", "canny", "quick", "broken", "../x", PICTURE])
leaves = st.none() | st.booleans() | numbers | words
anything = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3), max_leaves=5)
loras = st.fixed_dictionaries({"name": words}, optional={"weight": numbers})
controls = st.fixed_dictionaries(
    {"name": words, "image": st.sampled_from([control()["image"], PICTURE])},
    optional={"scale": numbers, "start": numbers, "end": numbers},
)
starts = st.fixed_dictionaries(
    {"image": st.just(PICTURE)}, optional={"strength": numbers, "redraw": st.lists(st.integers(-1, 3), max_size=3)}
)
additions = st.fixed_dictionaries(
    {},
    optional={
        "preset": words | leaves,
        "timestep_spacing": st.sampled_from(["leading", "trailing", "x"]),
        "scheduler": st.sampled_from(["euler", "lcm", "x"]),
        "num_inference_steps": st.integers(1, 60),
        "loras": st.lists(loras, max_size=3) | anything,
        "controls": st.lists(controls, max_size=2) | anything,
        "start": starts | anything,
        "layout": st.sampled_from([None, {"mode": "auto"}]),
    },
)
subject_changes = st.fixed_dictionaries(
    {},
    optional={
        "images": st.lists(st.just(PICTURE), max_size=3) | anything,
        "image": st.sampled_from([PICTURE, None]),
        "box": st.sampled_from([None, [0, 0, 1, 1], [0.1, 0.2, 0.5, 0.6]]),
        "mask": st.sampled_from([mask_uri(), EMPTY_MASKS["black"], None]) | anything,
        "feather": numbers,
        "z_index": st.integers(-200, 200) | anything,
        "scene": st.booleans() | leaves,
        "cutout": st.booleans(),
        "start": st.floats(0, 1) | anything,
        "end": st.floats(0, 1) | anything,
    },
)


@on_a_busy_machine
@given(changes=additions, subject=subject_changes, card=st.sampled_from([CARD, None]))
def test_whatever_stands_beside_the_boxes_is_refused_or_can_be_run(
    changes: dict[str, Any], subject: dict[str, Any], card: ModelCard | None
) -> None:
    """What the API takes passes all checks of the spec, and with a card all names are the model's."""
    request = good_request() | {"subjects": [CAT | subject]} | changes
    try:
        _, [spec] = complete(request, card)
    except InvalidRequestError:
        assert all(pointer.startswith("/") for pointer in problems(request, card))
        return
    assert all(subject.place is not None for subject in spec.subjects) or spec.layout is not None
    if card is not None:
        assert {lora.name for lora in spec.loras} <= {"lightning", "paper"}
        assert all(control.image.size == (256, 128) for control in spec.controls)
