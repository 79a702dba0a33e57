from __future__ import annotations

from typing import Any

import pytest
from PIL import Image
from pydantic import ValidationError

from ms_core.errors import InvalidInputError, LayoutError
from ms_core.spec import MAX_SEED, AutoLayout, Box, Lora
from ms_jobs.stored_request import StoredControl, StoredLayout, StoredLora, StoredRequest, StoredStart, StoredSubject

SHA = "ab" * 32


def make_request(**values: object) -> StoredRequest:
    subject = StoredSubject(phrase="cat", images=(SHA,), box=(0.0, 0.1, 0.5, 0.9), scale=0.4)
    defaults = {"prompt": "a cat", "subjects": (subject,), "seed": 3, "model": "mini"}
    return StoredRequest.model_validate({**defaults, **values})


def load_image(sha256: str) -> Image.Image:
    assert sha256 == SHA
    return Image.new("RGB", (4, 4))


def test_each_picture_gets_the_next_seed() -> None:
    specs = make_request(num_images=3, seed=10).to_specs(load_image)
    assert [spec.seed for spec in specs] == [10, 11, 12]


def test_seeds_wrap_at_the_largest() -> None:
    assert make_request(num_images=2, seed=MAX_SEED).seeds() == [MAX_SEED, 0]


def test_a_spec_says_what_the_request_says() -> None:
    request = make_request(
        negative_prompt="", height=64, width=128, num_inference_steps=2, guidance_scale=0.0, scale=0.0, scheduler="ddim"
    )
    (spec,) = request.to_specs(load_image)
    assert (spec.prompt, spec.negative_prompt, spec.height, spec.width) == ("a cat", "", 64, 128)
    assert (spec.num_inference_steps, spec.guidance_scale, spec.scale, spec.scheduler) == (2, 0.0, 0.0, "ddim")
    assert spec.subjects[0].box == Box(0.0, 0.1, 0.5, 0.9)
    assert spec.subjects[0].scale == 0.4


def test_scores_and_retries_reach_the_spec() -> None:
    (spec,) = make_request(score=True, retries=2).to_specs(load_image)
    assert (spec.score, spec.retries) == (True, 2)


def test_auto_layout_reaches_the_spec() -> None:
    (spec,) = make_request(layout=StoredLayout(threshold=0.25, start_step=2)).to_specs(load_image)
    assert spec.layout == AutoLayout(0.25, 2)


def test_a_reversed_box_is_refused() -> None:
    subject = StoredSubject(phrase="cat", images=(SHA,), box=(0.5, 0.1, 0.2, 0.9))
    with pytest.raises(LayoutError):
        make_request(subjects=(subject,)).to_specs(load_image)


def test_a_request_survives_json() -> None:
    request = make_request(layout=StoredLayout(), prompt="猫 \N{CAT FACE}")
    assert StoredRequest.model_validate_json(request.model_dump_json()) == request


@pytest.mark.parametrize(
    "values", [{"num_images": 0}, {"num_images": 9}, {"seed": MAX_SEED + 1}, {"model": "../x"}, {"colour": "red"}]
)
def test_a_request_out_of_range_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        make_request(**values)


# As version 0.1.0 wrote it.
OLD_REQUEST = f"""{{
 "prompt": "a cat", "negative_prompt": "",
 "subjects": [{{"phrase": "cat", "image": "{SHA}", "box": [0.0, 0.1, 0.5, 0.9], "scale": null}}],
 "height": 128, "width": 128, "num_images": 1, "num_inference_steps": 20, "guidance_scale": 3.0, "scale": 1.0,
 "seed": 7, "layout": null, "grounding": true, "scheduler": "euler", "model": "mini"
}}"""


def test_a_request_queued_before_an_upgrade_can_be_run() -> None:
    (spec,) = StoredRequest.model_validate_json(OLD_REQUEST).to_specs(load_image)
    (cat,) = spec.subjects
    assert (len(cat.images), cat.box, cat.mask, cat.cutout) == (1, Box(0.0, 0.1, 0.5, 0.9), None, False)
    assert (spec.seed, spec.num_inference_steps, spec.loras, spec.start) == (7, 20, (), None)


def test_a_subject_needs_a_picture() -> None:
    with pytest.raises(ValidationError):
        StoredSubject.model_validate({"phrase": "cat", "images": []})


MASK = "cd" * 32
EDGES = "ef" * 32
PICTURES = {
    SHA: Image.new("RGB", (4, 4)),
    MASK: Image.new("L", (8, 8), 255),
    EDGES: Image.new("L", (16, 16)),
}


def make_full_request(**values: Any) -> StoredRequest:
    cat = StoredSubject(
        phrase="cat", images=(SHA, SHA), mask=MASK, feather=0.1, z_index=-2, cutout=True, box=(0.0, 0.0, 0.5, 1.0)
    )
    beach = StoredSubject(phrase="beach", images=(SHA,), scene=True)
    return make_request(
        subjects=(cat, beach),
        timestep_spacing="trailing",
        preset="quick",
        loras=(StoredLora(name="paper", weight=-0.5),),
        controls=(StoredControl(name="canny", image=EDGES, scale=0.5, start=0.1, end=0.9),),
        start=StoredStart(image=SHA, strength=0.4, redraw=(1,)),
        **values,
    )


def test_everything_that_was_asked_for_reaches_the_spec() -> None:
    (spec,) = make_full_request().to_specs(PICTURES.__getitem__)
    cat, beach = spec.subjects
    assert cat.images == (PICTURES[SHA], PICTURES[SHA])
    assert (cat.mask, cat.feather, cat.z_index, cat.cutout) == (PICTURES[MASK], 0.1, -2, True)
    assert (beach.scene, beach.box, beach.scale) == (True, Box(0.0, 0.0, 1.0, 1.0), 0.4)
    assert (spec.timestep_spacing, spec.preset, spec.loras) == ("trailing", "quick", (Lora("paper", -0.5),))
    (canny,) = spec.controls
    assert (canny.name, canny.image, canny.scale, canny.start, canny.end) == ("canny", PICTURES[EDGES], 0.5, 0.1, 0.9)
    assert spec.start is not None
    assert (spec.start.image, spec.start.strength, spec.start.redraw) == (PICTURES[SHA], 0.4, (1,))


def test_a_full_request_survives_json() -> None:
    request = make_full_request()
    assert StoredRequest.model_validate_json(request.model_dump_json()) == request


@pytest.mark.parametrize("kind", [StoredLora, StoredControl])
@pytest.mark.parametrize("name", ["../../secret", "/tmp/paper.safetensors", "https://example.com/paper", ""])
def test_no_name_leads_out_of_the_model_directory(kind: type[StoredLora | StoredControl], name: str) -> None:
    with pytest.raises(InvalidInputError):
        kind.model_validate({"name": name, "image": SHA} if kind is StoredControl else {"name": name})


def test_what_is_wrong_with_a_subject_names_its_place_in_the_request() -> None:
    scene = StoredSubject(phrase="beach", images=(SHA,), scene=True, mask=MASK)
    with pytest.raises(LayoutError) as caught:
        make_request(subjects=(scene,)).to_specs(PICTURES.__getitem__)
    assert caught.value.pointer == "/subjects/0/mask"
