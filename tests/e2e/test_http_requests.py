"""What a request may bring beside boxes, through API, Redis and worker: that it works, acts, and leaves nothing behind."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from PIL import Image

from app.examples import REQUEST_EXAMPLES
from ms_core.spec import SCHEDULERS
from tests.e2e.http_service import QUICK, HttpService
from tests.support.sample_requests import good_request, good_subject, picture_uri

CAT = good_subject()


@pytest.fixture
def live(service: HttpService) -> HttpService:
    service.wait_until_ready()
    return service


def mask_uri() -> str:
    """White on the left, black on the right."""
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 32, 64))
    return picture_uri(mask)


def sprite() -> Image.Image:
    """A red square with transparent surroundings."""
    picture = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    picture.paste((255, 0, 0, 255), (8, 24, 24, 40))
    return picture


def noise(seed: int) -> Image.Image:
    return Image.frombytes("L", (64, 64), bytes((seed * 31 + 7 * i * i) % 251 for i in range(64 * 64))).convert("RGB")


def pixels(live: HttpService, **changes: Any) -> bytes:
    """Of the picture that a small request makes; its recipe aside."""
    job = live.make(good_request(**{**QUICK, "subjects": [CAT], **changes}))
    return fetch(live, job["images"][0]["url"]).tobytes()


def fetch(live: HttpService, url: str) -> Image.Image:
    response = live.client.get(url)
    assert response.status_code == 200
    return Image.open(io.BytesIO(response.content))


@pytest.mark.parametrize("number", range(len(REQUEST_EXAMPLES)))
def test_the_examples_of_the_documentation_work(live: HttpService, number: int) -> None:
    example = REQUEST_EXAMPLES[number] | QUICK
    if "layout" in example:
        example |= {"layout": example["layout"] | {"start_step": 1}}
    assert live.make(example)["images"]


def test_all_of_it_at_once(live: HttpService) -> None:
    images = [picture_uri(Image.new("RGB", (16, 16), colour)) for colour in ("red", "orange")]
    subjects = [
        {"phrase": "cat", "images": images, "mask": mask_uri(), "feather": 0.1, "z_index": 1},
        good_subject(phrase="teapot", cutout=True),
        {"phrase": "beach", "image": picture_uri(noise(1)), "scene": True},
    ]
    start = {"image": picture_uri(noise(2)), "strength": 0.9, "redraw": [0]}
    controls = [{"name": "canny", "image": picture_uri(noise(3)), "scale": 0.5, "end": 0.5}]
    loras = [{"name": "paper", "weight": 0.5}]
    request = good_request(
        subjects=subjects, start=start, controls=controls, loras=loras, preset="quick", width=64, height=64
    )
    job = live.make(request)
    picture = fetch(live, job["images"][0]["url"])
    assert picture.size == (64, 64)
    recipe = json.loads(picture.info["msd"])
    assert recipe["values"]["num_inference_steps"] == 2
    assert recipe["values"]["timestep_spacing"] == "trailing"
    assert recipe["values"]["loras"] == [{"name": "paper", "weight": 0.5}]
    assert recipe["request"]["controls"][0]["name"] == "canny"
    assert [len(subject["images"]) for subject in recipe["request"]["subjects"]] == [2, 1, 1]


@pytest.mark.parametrize(
    "changes",
    [
        {"subjects": [CAT | {"mask": mask_uri()}]},
        {"subjects": [CAT | {"feather": 0.2}]},
        {"subjects": [CAT, CAT | {"image": picture_uri(noise(4)), "z_index": 1, "box": [0, 0, 1, 1]}]},
        {"subjects": [CAT | {"scene": True, "box": None}]},
        {"subjects": [CAT | {"end": 0.5}]},
        {"subjects": [{**CAT, "image": None, "images": [CAT["image"], picture_uri(noise(5))]}]},
        {"start": {"image": picture_uri(noise(6))}},
        {"loras": [{"name": "paper"}]},
        {"preset": "paper"},
        {"controls": [{"name": "canny", "image": picture_uri(noise(7))}]},
        {"timestep_spacing": "trailing"},
    ],
    ids=[
        "mask",
        "feather",
        "z_index",
        "scene",
        "end",
        "images",
        "start",
        "lora",
        "preset",
        "control",
        "timestep_spacing",
    ],
)
def test_it_changes_the_picture_and_not_the_next_one(live: HttpService, changes: dict[str, Any]) -> None:
    plain = pixels(live)
    assert pixels(live, **changes) != plain
    assert pixels(live) == plain


def test_a_preset_means_the_values_that_it_stands_for(live: HttpService) -> None:
    spelled_out = pixels(live, loras=[{"name": "paper", "weight": 0.8}], num_inference_steps=2)
    assert pixels(live, preset="paper", num_inference_steps=None) == spelled_out


def test_every_scheduler_works(live: HttpService) -> None:
    jobs = [live.submit(good_request(**QUICK, scheduler=name)) for name in SCHEDULERS]
    assert [live.wait_for_end(job)["status"] for job in jobs] == ["succeeded"] * len(SCHEDULERS)


@pytest.mark.parametrize("output_format", ["png", "webp", "jpeg"])
def test_what_inspecting_gives_makes_the_same_bytes(live: HttpService, output_format: str) -> None:
    subjects = [CAT | {"end": 0.5}, good_subject(image=picture_uri(noise(8)), mask=mask_uri(), box=None, z_index=1)]
    request = good_request(**QUICK, preset="paper", subjects=subjects, num_images=2, output_format=output_format)
    made = live.make(request | {"seed": None})
    file = live.client.get(made["images"][1]["url"]).content
    answer = live.client.post("/inspect", content=file, headers={"Content-Type": f"image/{output_format}"}).json()
    assert (answer["missing"], answer["made"]["image_index"], answer["made"]["seed"]) == ([], 1, made["seed"] + 1)
    again = live.make(answer["recipe"])
    assert live.client.get(again["images"][1]["url"]).content == file


def test_what_the_model_sees_of_a_cut_out_subject_is_shown(live: HttpService) -> None:
    cut = good_subject(image=picture_uri(sprite()), cutout=True)
    job = live.make(good_request(**QUICK, subjects=[CAT, cut]))
    assert [reference["subject"] for reference in job["references"]] == [1]
    seen = fetch(live, job["references"][0]["url"]).convert("RGB")
    # The square was a sixteenth of the picture; cut out, it fills most of what the model sees.
    red = sum(pixel[0] > 200 and pixel[1] < 60 for pixel in seen.get_flattened_data())
    assert red > 0.5 * seen.width * seen.height
    assert live.client.get(f"{job['urls']['self']}/references/0").status_code == 404


def test_a_lora_for_another_base_ends_its_job_only(live: HttpService) -> None:
    job = live.wait_for_end(live.submit(good_request(**QUICK, loras=[{"name": "other-base"}])))
    assert (job["status"], job["error"]["code"]) == ("failed", "unfit_lora")
    assert "other-base" in job["error"]["detail"]
    live.make(good_request(**QUICK))


def test_the_model_tells_what_it_can_do(live: HttpService) -> None:
    (model,) = live.client.get("/models").json()["models"]
    assert (model["name"], model["ready"]) == ("golden", True)
    abilities = model["abilities"]
    assert abilities["scores"] is True
    assert (abilities["loras"], abilities["controls"]) == (["other-base", "paper"], ["canny"])
    assert {preset["name"]: preset["available"] for preset in abilities["presets"]} == {
        "quick": True,
        "paper": True,
        "incomplete": False,
    }


def test_what_validate_tells_is_what_the_job_becomes(live: HttpService) -> None:
    """Warnings that need the tokenizer, too: the worker has published its own."""
    prompt = f"a cat, {'very ' * 80}cute"
    request = good_request(**{**QUICK, "subjects": [CAT], "prompt": prompt})
    told = live.client.post("/validate", json=request).json()
    job = live.make(request)
    assert told["warnings"] == job["warnings"]
    assert [warning["code"] for warning in told["warnings"]] == ["text_truncated"]
    assert told["tokens"]["prompt"]["cut_off"].endswith("cute")
    recipe = json.loads(fetch(live, job["images"][0]["url"]).info["msd"])
    stored = {name: value for name, value in recipe["request"].items() if value is not None and name != "model"}
    assert {name: stored[name] for name in told["request"] if name != "subjects"} == {
        name: value for name, value in told["request"].items() if name != "subjects"
    }
