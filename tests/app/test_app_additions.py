"""What a request may bring beside boxes: masks, several pictures, scenes, presets, LoRAs, ControlNets, a start."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from app.requests.intake import parse_request
from app.requests.pictures import PictureLimits
from app.service.errors import InvalidRequestError
from ms_core.config import ModelCard
from ms_core.spec import Box, GenerationSpec
from ms_core.spec.resolve import Resolution, resolve
from ms_jobs.job_request import GenerateRequest, JobRequest, job_document, read_job_request
from tests.support.known_pictures import KnownPictures
from tests.support.sample_requests import data_uri, good_request, good_subject, picture_uri

CARD = ModelCard.from_dict(
    {
        "name": "test",
        "defaults": {
            "height": 128,
            "width": 256,
            "num_inference_steps": 20,
            "guidance_scale": 5.0,
            "scheduler": "euler",
        },
        "max_height": 512,
        "max_width": 640,
        "presets": {
            "quick": {"num_inference_steps": 4, "guidance_scale": 1.0, "timestep_spacing": "trailing"},
            "lightning": {"num_inference_steps": 4, "loras": [{"name": "lightning"}]},
            "broken": {"loras": [{"name": "lightning"}, {"name": "lost"}]},
        },
        "extras": {"loras": ["lightning", "paper"], "controls": ["canny", "depth"]},
    }
)
LIMITS = PictureLimits(max_side=300)
PICTURE = picture_uri(Image.new("RGB", (4, 4), "orange"))
WHITE = Image.new("L", (256, 128), 255)
CAT = good_subject()

# A busy machine is no reason to fail.
on_a_busy_machine = settings(suppress_health_check=[HealthCheck.too_slow])


def mask_uri(size: tuple[int, int] = (256, 128), box: tuple[int, int, int, int] = (64, 32, 128, 128)) -> str:
    """White in ``box``, black around it."""
    mask = Image.new("L", size)
    mask.paste(255, box)
    return picture_uri(mask)


def control(size: tuple[int, int] = (256, 128), **changes: Any) -> dict[str, Any]:
    return {"name": "canny", "image": picture_uri(Image.new("L", size)), **changes}


def subject_without(*fields: str, **changes: Any) -> dict[str, Any]:
    return {name: value for name, value in (CAT | changes).items() if name not in fields}


def complete(request: dict[str, Any], card: ModelCard | None = CARD) -> tuple[JobRequest, GenerationSpec]:
    """A request that must be taken: as it is stored, and its spec."""
    sent = parse_request(json.dumps(request).encode(), LIMITS)
    resolution = resolve(sent.request, card)
    assert not resolution.errors
    stored = JobRequest.of(resolution.spec, seed=1, model="test")
    pictures = KnownPictures(*sent.pictures.pngs.values())
    again = read_job_request(json.dumps(job_document(stored, sent.pictures)).encode(), pictures)
    assert job_document(again, pictures) == job_document(stored, sent.pictures)
    return stored, again.specs()[0]


def spec_of(card: ModelCard | None = CARD, **changes: Any) -> GenerationSpec:
    return complete(good_request(**changes), card)[1]


def problems(request: dict[str, Any], card: ModelCard | None = CARD) -> dict[str, str]:
    """Code of each thing that is wrong, by its pointer."""
    return {error.pointer: error.code for error in refusals(request, card)}


def refusals(request: dict[str, Any], card: ModelCard | None = CARD) -> list[Any]:
    try:
        errors = resolved(request, card).errors
    except InvalidRequestError as refused:
        errors = refused.errors
    assert errors
    return list(errors)


def warnings(request: dict[str, Any], card: ModelCard | None = CARD) -> dict[str, str]:
    return {warning.pointer: warning.code for warning in resolved(request, card).warnings}


def resolved(request: dict[str, Any], card: ModelCard | None) -> Resolution[GenerateRequest]:
    return resolve(parse_request(json.dumps(request).encode(), LIMITS).request, card)


EMPTY_MASKS = {
    "black": picture_uri(Image.new("L", (8, 8), 0)),
    "transparent": picture_uri(Image.new("RGBA", (8, 8), (255, 255, 255, 0))),
    "16-bit black": picture_uri(Image.new("I;16", (8, 8), 0)),
}


@pytest.mark.parametrize(
    ("change", "field", "code"),
    [
        ({"images": [PICTURE]}, "image", "invalid_input"),
        ({"image": None, "images": []}, "images", "invalid_input"),
        ({"image": None, "images": [PICTURE] * 9}, "images", "invalid_input"),
        ({"image": None, "images": [PICTURE, "cat.png"]}, "images/1", "invalid_picture"),
        ({"image": None, "images": [PICTURE, None]}, "images/1", "string_type"),
        ({"image": None, "images": PICTURE}, "images", "list_type"),
        ({"image": None}, "image", "missing_field"),
        ({"mask": "mask.png"}, "mask", "invalid_picture"),
        ({"mask": 1}, "mask", "string_type"),
        *(({"mask": mask}, "mask", "invalid_box") for mask in EMPTY_MASKS.values()),
        ({"feather": -0.1}, "feather", "invalid_input"),
        ({"feather": 0.51}, "feather", "invalid_input"),
        ({"feather": math.nan}, "feather", "invalid_input"),
        ({"z_index": 101}, "z_index", "invalid_input"),
        ({"z_index": 0.5}, "z_index", "int_type"),
        ({"scene": 1}, "scene", "bool_type"),
        ({"cutout": "yes"}, "cutout", "bool_type"),
        ({"scene": True}, "box", "invalid_box"),
        ({"scene": True, "box": None, "mask": mask_uri()}, "mask", "invalid_box"),
    ],
)
def test_wrong_values_of_a_subject(change: dict[str, Any], field: str, code: str) -> None:
    request = good_request(subjects=[CAT, CAT | change])
    assert problems(request) == {f"/subjects/1/{field}": code}


@pytest.mark.parametrize(
    ("change", "pointer", "code"),
    [
        ({"preset": " "}, "/preset", "invalid_input"),
        ({"preset": "slow"}, "/preset", "unknown_name"),
        ({"preset": "broken"}, "/preset", "unknown_name"),
        ({"timestep_spacing": "wide"}, "/timestep_spacing", "invalid_input"),
        ({"loras": [{"name": "paper"}] * 9}, "/loras", "invalid_input"),
        ({"loras": [{}]}, "/loras/0/name", "missing_field"),
        ({"loras": [{"name": "paper"}, {"name": "lost"}]}, "/loras/1/name", "unknown_name"),
        ({"loras": [{"name": "../paper"}]}, "/loras/0/name", "invalid_input"),
        ({"loras": [{"name": "/models/paper.safetensors"}]}, "/loras/0/name", "invalid_input"),
        ({"loras": [{"name": "paper.safetensors"}]}, "/loras/0/name", "invalid_input"),
        ({"loras": [{"name": "https://example.com/paper"}]}, "/loras/0/name", "invalid_input"),
        ({"loras": [{"name": "paper", "weight": 4.5}]}, "/loras/0/weight", "invalid_input"),
        ({"loras": [{"name": "paper", "weight": math.inf}]}, "/loras/0/weight", "invalid_input"),
        ({"loras": [{"name": "paper", "path": "x"}]}, "/loras/0/path", "unknown_field"),
        ({"loras": ["paper"]}, "/loras/0", "model_type"),
        ({"controls": [control()] * 5}, "/controls", "invalid_input"),
        ({"controls": [{"name": "canny"}]}, "/controls/0/image", "missing_field"),
        ({"controls": [control(image="edges.png")]}, "/controls/0/image", "invalid_picture"),
        ({"controls": [control(name="pose")]}, "/controls/0/name", "unknown_name"),
        ({"controls": [control(name="..")]}, "/controls/0/name", "invalid_input"),
        ({"controls": [control(scale=2.5)]}, "/controls/0/scale", "invalid_input"),
        ({"controls": [control(start=-0.5)]}, "/controls/0/start", "invalid_input"),
        ({"controls": [control(start=1.0)]}, "/controls/0/end", "invalid_input"),
        ({"controls": [control(start=0.5, end=0.5)]}, "/controls/0/end", "invalid_input"),
        ({"controls": [control(), control((256, 136))]}, "/controls/1/image", "invalid_picture"),
        ({"controls": [control()], "width": 128}, "/controls/0/image", "invalid_picture"),
        ({"start": {}}, "/start/image", "missing_field"),
        ({"start": {"image": PICTURE, "strength": 0}}, "/start/strength", "invalid_input"),
        ({"start": {"image": PICTURE, "strength": 1.01}}, "/start/strength", "invalid_input"),
        ({"start": {"image": PICTURE, "strength": math.nan}}, "/start/strength", "invalid_input"),
        ({"start": {"image": PICTURE, "strength": 0.04}}, "/start/strength", "invalid_input"),
        ({"start": {"image": PICTURE, "redraw": [2]}}, "/start/redraw", "invalid_input"),
        ({"start": {"image": PICTURE, "redraw": [-1]}}, "/start/redraw", "invalid_input"),
        ({"start": {"image": PICTURE, "redraw": [0] * 17}}, "/start/redraw", "invalid_input"),
        ({"start": {"image": PICTURE, "redraw": [0.5]}}, "/start/redraw/0", "int_type"),
        ({"start": {"image": PICTURE, "redraw": [0]}, "layout": {"mode": "auto"}}, "/start/redraw", "invalid_box"),
        ({"scheduler": "lcm", "num_inference_steps": 51}, "/num_inference_steps", "invalid_input"),
    ],
)
def test_wrong_values_of_the_request(change: dict[str, Any], pointer: str, code: str) -> None:
    assert problems(good_request(**change)) == {pointer: code}


def test_everything_wrong_is_reported_at_once() -> None:
    request = good_request(
        subjects=[subject_without("image", mask=EMPTY_MASKS["black"], feather=1, z_index=1000)],
        preset="",
        timestep_spacing="x",
        loras=[{"name": "a/b", "weight": 9}],
        controls=[{"name": "a/b", "image": "x", "scale": 9, "start": 9}],
        start={"image": "x", "strength": 9},
    )
    assert set(problems(request)) == {
        *(f"/subjects/0/{field}" for field in ("image", "mask", "feather", "z_index")),
        *("/preset", "/timestep_spacing", "/loras/0/name", "/loras/0/weight"),
        *(f"/controls/0/{field}" for field in ("name", "image", "scale", "start")),
        *("/start/image", "/start/strength"),
    }


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
            "The preset 'broken' needs the LoRA 'lost', which this model lacks; put it there",
        ),
        ({"loras": [{"name": "lost"}]}, "This model has no LoRA 'lost'; it has lightning, paper."),
        ({"controls": [control(name="pose")]}, "This model has no ControlNet 'pose'; it has canny, depth."),
        ({"controls": [control((64, 32))]}, "has 64 x 32 pixels and the result 256 x 128"),
        ({"subjects": [CAT | {"mask": EMPTY_MASKS["black"]}]}, "The mask is empty"),
        ({"start": {"image": PICTURE, "strength": 2}}, "Must be above 0 and at most 1, not 2.0."),
    ],
)
def test_the_sentence_says_what_there_is(change: dict[str, Any], sentence: str) -> None:
    (refusal,) = refusals(good_request(**change))
    assert sentence in refusal.detail


def test_what_is_not_asked_for_is_off() -> None:
    spec = spec_of()
    cat = spec.subjects[0]
    assert (cat.mask, cat.feather, cat.z_index, cat.scene, cat.cutout) == (None, 0.0, 0, False, False)
    assert (spec.preset, spec.loras, spec.controls, spec.start, spec.timestep_spacing) == (None, (), (), None, None)


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
    assert (beach.place, beach.own_scale) == (Box(0.0, 0.0, 1.0, 1.0), 0.4)


@pytest.mark.parametrize("box", [[0, 0, 1, 1], {"pixels": [0, 0, 256, 128]}])
def test_a_scene_may_say_that_it_fills_the_picture(box: Any) -> None:
    assert spec_of(subjects=[CAT | {"scene": True, "box": box}]).subjects[0].scene


def test_a_preset_stands_in_for_what_is_left_out() -> None:
    stored, spec = complete(good_request(preset="quick"))
    assert (stored.num_inference_steps, stored.guidance_scale, stored.timestep_spacing) == (4, 1.0, "trailing")
    assert (spec.preset, spec.scheduler) == ("quick", "euler")


def test_given_values_win_over_the_preset() -> None:
    stored, _ = complete(good_request(preset="quick", num_inference_steps=8, timestep_spacing="leading"))
    assert (stored.num_inference_steps, stored.timestep_spacing) == (8, "leading")


def test_the_loras_of_a_preset_are_left_to_the_worker() -> None:
    """It adds them itself; stored as well, they would act twice."""
    stored, _ = complete(good_request(preset="lightning", loras=[{"name": "paper", "weight": -0.5}]))
    assert [(lora.name, lora.weight) for lora in stored.loras] == [("paper", -0.5)]


def test_controls_reach_the_spec_with_their_own_pixels() -> None:
    """Larger than the side to which references are reduced."""
    edges = Image.effect_noise((320, 8), 90)
    request = {"name": "depth", "image": picture_uri(edges), "scale": 0.5, "start": 0.1, "end": 0.8}
    (depth,) = spec_of(controls=[request], width=320, height=8).controls
    assert (depth.name, depth.scale, depth.start, depth.end) == ("depth", 0.5, 0.1, 0.8)
    assert depth.image.convert("L").tobytes() == edges.tobytes()


def test_a_jpeg_to_follow_is_not_reduced_either() -> None:
    """References are decoded at half their size where that is enough."""
    uri = picture_uri(Image.new("L", (640, 640)), "JPEG")
    assert spec_of(controls=[{"name": "canny", "image": uri}], width=640, height=512 + 128, card=None).controls


def test_masks_and_start_pictures_are_reduced_as_references_are() -> None:
    large = mask_uri((600, 300), (0, 0, 300, 300))
    spec = spec_of(subjects=[subject_without("box", mask=large)], start={"image": large})
    assert spec.start is not None
    assert spec.subjects[0].mask is not None
    assert (spec.start.image.size, spec.subjects[0].mask.size) == ((300, 150), (300, 150))


def test_a_start_picture_reaches_the_spec() -> None:
    start = spec_of(start={"image": PICTURE, "strength": 0.5, "redraw": [1, 0]}).start
    assert start is not None
    assert (start.strength, start.redraw, start.image.size) == (0.5, (1, 0), (4, 4))


def test_without_a_card_names_and_sizes_are_left_to_the_worker() -> None:
    spec = spec_of(card=None, preset="any", loras=[{"name": "any"}], controls=[control((8, 8), name="any")])
    assert (spec.preset, spec.loras[0].name, spec.controls[0].name) == ("any", "any", "any")


def test_without_a_card_sizes_that_are_given_are_checked() -> None:
    request = good_request(controls=[control((8, 8))], width=64, height=64)
    assert problems(request, card=None) == {"/controls/0/image": "invalid_picture"}


@pytest.mark.parametrize(
    ("size", "warned"),
    [((256, 128), False), ((64, 32), False), ((65, 32), False), ((128, 128), True), ((67, 32), True)],
)
def test_a_picture_of_another_shape_is_stretched_with_a_warning(size: tuple[int, int], warned: bool) -> None:
    mask = mask_uri(size, (0, 0, *size))
    request = good_request(subjects=[CAT | {"mask": mask}], start={"image": mask})
    expected = {"/subjects/0/mask": "mask_stretched", "/start/image": "start_stretched"} if warned else {}
    assert warnings(request) == expected


def test_a_broken_mask_is_told_in_its_own_place() -> None:
    request = good_request(subjects=[CAT | {"mask": data_uri(b"nonsense")}, CAT | {"image": "x"}])
    assert problems(request) == {"/subjects/0/mask": "invalid_picture", "/subjects/1/image": "invalid_picture"}


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
    },
)


@on_a_busy_machine
@given(changes=additions, subject=subject_changes, card=st.sampled_from([CARD, None]))
def test_any_request_is_refused_or_can_be_run(
    changes: dict[str, Any], subject: dict[str, Any], card: ModelCard | None
) -> None:
    """What the API takes passes all checks of the spec, and with a card all names are the model's."""
    request = good_request() | {"subjects": [CAT | subject]} | changes
    try:
        _, spec = complete(request, card)
    except InvalidRequestError:
        assert all(pointer.startswith("/") for pointer in problems(request, card))
        return
    assert all(subject.box is not None for subject in spec.subjects) or spec.layout is not None
    if card is not None:
        assert {lora.name for lora in spec.loras} <= {"lightning", "paper"}
        assert all(control.image.size == (256, 128) for control in spec.controls)


@on_a_busy_machine
@given(start=st.floats(0, 1), end=st.floats(0, 1))
def test_a_control_acts_for_some_time_or_is_refused(start: float, end: float) -> None:
    request = good_request(controls=[control(start=start, end=end)])
    if start < end:
        assert (complete(request)[1].controls[0].start, complete(request)[1].controls[0].end) == (start, end)
    else:
        assert problems(request) == {"/controls/0/end": "invalid_input"}
