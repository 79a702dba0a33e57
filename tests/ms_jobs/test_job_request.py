from __future__ import annotations

import io
import json
from typing import Any

import pytest
from PIL import Image
from pydantic import ValidationError

from ms_core.errors import InvalidInputError, LayoutError
from ms_core.spec import MAX_SEED, AutoLayout, Box, Control, Lora, StartPicture, Subject
from ms_core.spec.declared import invalid_inputs
from ms_jobs.job_request import JobRequest, job_document, read_job_request
from tests.support.known_pictures import KnownPictures


def png_of(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


PICTURES = KnownPictures(*(png_of(image) for image in (Image.new("RGB", (4, 4)), Image.new("RGB", (8, 8), "white"))))
(SHA, MASK), (PICTURE, WHITE) = PICTURES.opened.keys(), PICTURES.opened.values()
CAT = Subject("cat", (PICTURE,), Box(0.0, 0.1, 0.5, 0.9), 0.4)


def make_request(**values: Any) -> JobRequest:
    return JobRequest(**{"prompt": "a cat", "subjects": (CAT,), "seed": 3, "model": "mini", **values})


def stored(request: JobRequest, **changes: Any) -> bytes:
    return json.dumps(job_document(request, PICTURES) | changes).encode()


def read(text: bytes) -> JobRequest:
    return read_job_request(text, PICTURES)


def test_each_picture_gets_the_next_seed() -> None:
    assert [spec.seed for spec in make_request(num_images=3, seed=10).specs()] == [10, 11, 12]


def test_seeds_wrap_at_the_largest() -> None:
    assert [spec.seed for spec in make_request(num_images=2, seed=MAX_SEED).specs()] == [MAX_SEED, 0]


def test_a_spec_says_what_the_request_says() -> None:
    values: dict[str, Any] = {
        "negative_prompt": "",
        "height": 64,
        "width": 128,
        "num_inference_steps": 2,
        "guidance_scale": 0.0,
        "scale": 0.0,
        "scheduler": "ddim",
        "layout": AutoLayout(0.25, 2),
        "grounding": False,
        "timestep_spacing": "trailing",
        "preset": "quick",
        "loras": (Lora("paper", -0.5),),
        "controls": (Control("canny", PICTURE, 0.5, 0.1, 0.9),),
        "start": StartPicture(PICTURE, 0.5),
    }
    request = make_request(**values | {"width": 4 * 8, "height": 4 * 8, "controls": ()})
    (spec,) = request.specs()
    assert {name: getattr(spec, name) for name in values} == values | {"width": 32, "height": 32, "controls": ()}
    assert (spec.prompt, spec.subjects) == ("a cat", (CAT,))


def test_words_of_a_subject_are_stored_and_what_has_none_is_stored_as_before() -> None:
    tree = Subject("tree", box=Box(0.0, 0.0, 1.0, 1.0), prompt="a tree in the rain")
    request = make_request(subjects=(CAT, tree))
    cat, words = job_document(request, PICTURES)["subjects"]
    assert "prompt" not in cat
    assert (words["prompt"], "images" in words) == ("a tree in the rain", False)
    assert read(stored(request)) == request


def full_request() -> JobRequest:
    cat = Subject("cat", (PICTURE, PICTURE), Box(0.0, 0.0, 0.5, 1.0), mask=WHITE, feather=0.1, z_index=-2, cutout=True)
    beach = Subject("beach", (PICTURE,), scene=True, start=0.25, end=0.5)
    return make_request(
        prompt="猫 \N{CAT FACE}",
        subjects=(cat, beach),
        loras=(Lora("paper", -0.5),),
        controls=(Control("canny", PICTURE, 0.5, 0.1, 0.9),),
        start=StartPicture(PICTURE, 0.4, (1,)),
        score=True,
        retries=2,
        previews=True,
    )


def test_a_request_survives_json() -> None:
    request = full_request()
    assert read(stored(request)) == request
    with_layout = make_request(layout=AutoLayout(0.25, 2))
    assert read(stored(with_layout)) == with_layout


def test_the_defaults_of_later_fields_are_not_stored() -> None:
    """So that what older versions stored, and every picture's recipe, stay what they were."""
    document = job_document(full_request(), PICTURES)
    assert not {"output_format", "quality"} & set(document)
    cat, beach = document["subjects"]
    assert not {"start", "end"} & set(cat)
    assert (beach["start"], beach["end"]) == (0.25, 0.5)


def test_the_format_of_a_request_survives_json() -> None:
    request = make_request(output_format="jpeg", quality=75)
    assert read(stored(request)) == request
    with_default = make_request(output_format="webp")
    assert (read(stored(with_default)), "quality" in job_document(with_default, PICTURES)) == (with_default, False)


def test_a_stored_request_names_pictures_by_their_sha256() -> None:
    document = job_document(full_request(), PICTURES)
    assert document["subjects"][0]["images"] == [SHA, SHA]
    assert document["subjects"][0]["mask"] == MASK
    assert "image" not in document["subjects"][0]
    assert (document["controls"][0]["image"], document["start"]["image"]) == (SHA, SHA)


def test_a_stored_layout_has_the_fields_that_older_workers_know() -> None:
    document = job_document(make_request(layout=AutoLayout(0.25, 2)), PICTURES)
    assert document["layout"] == {"threshold": 0.25, "start_step": 2}


@pytest.mark.parametrize("values", [{"num_images": 0}, {"num_images": 9}, {"seed": MAX_SEED + 1}, {"model": "../x"}])
def test_a_request_out_of_range_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        read(stored(make_request(), **values))


def test_a_reversed_box_is_refused() -> None:
    with pytest.raises(ValidationError) as caught:
        read(stored(make_request(), subjects=[{"phrase": "cat", "images": [SHA], "box": [0.5, 0.1, 0.2, 0.9]}]))
    (error,) = invalid_inputs(caught.value, JobRequest)
    assert isinstance(error, LayoutError)
    assert error.pointer == "/subjects/0/box"


def test_a_subject_needs_a_picture() -> None:
    with pytest.raises(ValidationError):
        read(stored(make_request(), subjects=[{"phrase": "cat", "images": []}]))


# As version 0.1.0 wrote it.
OLD_REQUEST = f"""{{
 "prompt": "a cat", "negative_prompt": "",
 "subjects": [{{"phrase": "cat", "image": "{SHA}", "box": [0.0, 0.1, 0.5, 0.9], "scale": null}}],
 "height": 128, "width": 128, "num_images": 1, "num_inference_steps": 20, "guidance_scale": 3.0, "scale": 1.0,
 "seed": 7, "layout": null, "grounding": true, "scheduler": "euler", "model": "mini"
}}""".encode()


def test_a_request_queued_before_an_upgrade_can_be_run() -> None:
    (spec,) = read(OLD_REQUEST).specs()
    (cat,) = spec.subjects
    assert (len(cat.images), cat.box, cat.mask, cat.cutout) == (1, Box(0.0, 0.1, 0.5, 0.9), None, False)
    assert (spec.seed, spec.num_inference_steps, spec.loras, spec.start) == (7, 20, (), None)


@pytest.mark.parametrize("kind", ["loras", "controls"])
@pytest.mark.parametrize("name", ["../../secret", "/tmp/paper.safetensors", "https://example.com/paper", ""])
def test_no_name_leads_out_of_the_model_directory(kind: str, name: str) -> None:
    picture = {"image": SHA} if kind == "controls" else {}
    with pytest.raises(ValidationError) as caught:
        read(stored(make_request(), **{kind: [{"name": name, **picture}]}))
    assert [error.pointer for error in invalid_inputs(caught.value, JobRequest)] == [f"/{kind}/0/name"]


def test_what_is_wrong_with_a_subject_names_its_place_in_the_request() -> None:
    scene = {"phrase": "beach", "images": [SHA], "scene": True, "mask": MASK}
    with pytest.raises(InvalidInputError) as caught:
        read(stored(make_request(), subjects=[scene])).specs()
    assert caught.value.pointer == "/subjects/0/mask"
