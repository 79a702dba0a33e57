"""Requests as they go through both passes of the API, with a card that has a bit of everything."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from PIL import Image

from app.requests.decoding import PictureLimits
from app.requests.intake import parse_request
from app.service.errors import InvalidRequestError
from ms_core.config import ModelCard
from ms_core.errors import InvalidInputError
from ms_core.spec import GenerationSpec
from ms_core.spec.resolve import Resolution, resolve
from ms_jobs.job_request import GenerateRequest, JobRequest, job_document, read_job_request
from tests.support.known_pictures import KnownPictures
from tests.support.sample_requests import good_request, good_subject, picture_uri

CARD = ModelCard.from_dict(
    {
        "name": "test",
        "defaults": {
            "height": 128,
            "width": 256,
            "num_inference_steps": 20,
            "guidance_scale": 5.0,
            "negative_prompt": "ugly",
            "scheduler": "euler",
        },
        "max_height": 512,
        "max_width": 640,
        "max_subjects": 4,
        "scorer": {},
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
CAT = good_subject()
EMPTY_MASKS = {
    "black": picture_uri(Image.new("L", (8, 8), 0)),
    "transparent": picture_uri(Image.new("RGBA", (8, 8), (255, 255, 255, 0))),
    "16-bit black": picture_uri(Image.new("I;16", (8, 8), 0)),
}

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


def completed(request: Any, card: ModelCard | None = CARD) -> Resolution[GenerateRequest]:
    return resolve(parse_request(json.dumps(request).encode(), LIMITS).request, card)


def complete(request: Any, card: ModelCard | None = CARD) -> tuple[JobRequest, list[GenerationSpec]]:
    """A request as it is stored, and its specs.

    Raises:
        InvalidRequestError: it must not be taken.
    """
    sent = parse_request(json.dumps(request).encode(), LIMITS)
    resolution = resolve(sent.request, card)
    if resolution.errors:
        raise InvalidRequestError(resolution.errors)
    seed = 1 if sent.request.seed is None else sent.request.seed
    stored, pictures = JobRequest.of(resolution.spec, seed, "test"), KnownPictures(*sent.pictures.pngs.values())
    document = job_document(stored, sent.pictures)
    again = read_job_request(json.dumps(document).encode(), pictures)
    assert job_document(again, pictures) == document
    return stored, again.specs()


def stored_of(request: Any, card: ModelCard | None = CARD) -> JobRequest:
    return complete(request, card)[0]


def spec_of(card: ModelCard | None = CARD, **changes: Any) -> GenerationSpec:
    return complete(good_request(**changes), card)[1][0]


def refusals(request: Any, card: ModelCard | None = CARD) -> tuple[InvalidInputError, ...]:
    """What is said of a request that must not be taken."""
    with pytest.raises(InvalidRequestError) as caught:
        complete(request, card)
    # Whole sentences; one ends with the name of a file.
    assert all(error.detail.endswith((".", "?", ".safetensors")) for error in caught.value.errors)
    return caught.value.errors


def problems(request: Any, card: ModelCard | None = CARD) -> dict[str, str]:
    """Code of each thing that is wrong, by its pointer."""
    return {error.pointer: error.code for error in refusals(request, card)}


def warnings(request: dict[str, Any], card: ModelCard | None = CARD) -> dict[str, str]:
    return {warning.pointer: warning.code for warning in completed(request, card).warnings}
