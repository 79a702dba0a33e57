"""Twenty requests as release 95c17de hashed and stored them, see ``tests/golden/README.md``.

What an older release stored must stay readable, and what this one stores must be readable there: both may share a queue.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from PIL import Image

from app.jobs.submit import request_hash
from app.requests.decoding import PictureLimits
from app.requests.intake import parse_request
from ms_core.config import ModelCard
from ms_core.spec import GenerationSpec
from ms_core.spec.resolve import resolve
from ms_jobs.artifacts import ArtifactStore
from ms_jobs.job_request import JobRequest
from tests.support.paths import GOLDEN

SAVED = GOLDEN / "requests_95c17de"
NAMES = sorted(path.stem for path in SAVED.glob("*.json") if path.stem != "card")
CARDS = ("request_without_card", "request_with_card")
# What 95c17de refused without a card, or with that of mini.
REFUSED = {
    ("pixels_of_the_cards_size", "request_without_card"),
    ("loras", "request_with_card"),
    ("controls", "request_with_card"),
}
STORED = [(name, card) for name in NAMES for card in CARDS if (name, card) not in REFUSED]
PLAIN_FIELDS = (
    *("prompt", "negative_prompt", "height", "width", "num_inference_steps", "guidance_scale", "scale"),
    *("grounding", "scheduler", "timestep_spacing", "preset", "score", "retries"),
)
PLAIN_SUBJECT_FIELDS = ("phrase", "feather", "z_index", "scene", "cutout")
JOB_ID = "a-job-of-95c17de"
# The seed of requests that name none.
DRAWN_SEED = 95


# The three ways into the code under test; nothing below knows its classes of requests.


def hash_of(body: bytes) -> str:
    sent = parse_request(body, PictureLimits())
    return request_hash(sent.request, sent.pictures)


def stored_json_of(body: bytes, card: ModelCard | None, root: Path) -> bytes:
    """What a job of this body finds in its ``request.json``."""
    sent = parse_request(body, PictureLimits())
    resolution = resolve(sent.request, card)
    assert not resolution.errors
    seed = DRAWN_SEED if sent.request.seed is None else sent.request.seed
    with ArtifactStore(root).new_folder(JOB_ID) as folder:
        for png in sent.pictures.pngs.values():
            folder.save_picture(png)
        folder.save_request(JobRequest.of(resolution.spec, seed, "mini"), sent.pictures)
    return (job_folder(root, folder.name) / "request.json").read_bytes()


def specs_of(root: Path, folder: str) -> list[GenerationSpec]:
    """What a worker reads from a job's folder."""
    return ArtifactStore(root).load_request(folder).specs()


class Case(NamedTuple):
    """One request of the twenty.

    Attributes:
        pictures: the stored PNGs, by their SHA-256.
    """

    body: bytes
    hash: str
    stored: dict[str, str | None]
    pictures: dict[str, bytes]


@cache
def case(name: str) -> Case:
    data = json.loads((SAVED / f"{name}.json").read_text(encoding="utf-8"))
    return Case(
        body=json.dumps(data["body"]).encode(),
        hash=data["hash"],
        stored={card: data[card] for card in CARDS},
        pictures={sha256: base64.b64decode(png) for sha256, png in data["pictures"].items()},
    )


def saved_json(name: str, card: str) -> str:
    text = case(name).stored[card]
    assert text is not None
    return text


def saved_card(name: str) -> ModelCard | None:
    """The card of mini, as a worker of 95c17de publishes it, or none."""
    if name == "request_without_card":
        return None
    return ModelCard.from_dict(json.loads((SAVED / "card.json").read_text(encoding="utf-8")))


def job_folder(root: Path, name: str) -> Path:
    return root / "local" / "jobs" / name


def put_back(root: Path, name: str, text: str) -> str:
    """Lay the saved pictures and a ``request.json`` into a store; returns the folder's name."""
    folder = f"{JOB_ID}.0123abcd"
    pictures = job_folder(root, folder) / "pictures"
    pictures.mkdir(parents=True)
    for sha256, png in case(name).pictures.items():
        (pictures / f"{sha256}.png").write_bytes(png)
    (pictures.parent / "request.json").write_text(text, encoding="utf-8")
    return folder


def test_twenty_requests_are_saved() -> None:
    assert len(NAMES) == 20
    assert {(name, card) for name in NAMES for card in CARDS if case(name).stored[card] is None} == REFUSED


@pytest.mark.parametrize("name", NAMES)
def test_a_client_that_repeats_a_request_after_the_upgrade_is_recognised(name: str) -> None:
    assert hash_of(case(name).body) == case(name).hash


@pytest.mark.parametrize(("name", "card"), STORED)
def test_the_same_body_is_stored_as_before(name: str, card: str, tmp_path: Path) -> None:
    """So a worker of 95c17de can make the job of today's API, and reads every stored value as it was meant."""
    written = stored_json_of(case(name).body, saved_card(card), tmp_path)
    assert json.loads(written) == json.loads(saved_json(name, card))


@pytest.mark.parametrize(("name", "card"), STORED)
def test_a_stored_request_gives_the_specs_that_it_says(name: str, card: str, tmp_path: Path) -> None:
    text = saved_json(name, card)
    said = json.loads(text)
    specs = specs_of(tmp_path, put_back(tmp_path, name, text))
    assert [spec.seed for spec in specs] == [(said["seed"] + index) % 2**53 for index in range(said["num_images"])]
    for spec in specs:
        assert described(spec) == expected(said, case(name).pictures)


def test_a_request_stored_before_most_fields_were_there_is_read(tmp_path: Path) -> None:
    """95c17de reads it too: a subject had one picture, and what was not there yet is left out."""
    said = json.loads(saved_json("bare", "request_without_card"))
    (subject,) = said["subjects"]
    old_subject = {"phrase": subject["phrase"], "image": subject["images"][0], "box": subject["box"]}
    old = {"prompt": said["prompt"], "subjects": [old_subject], "seed": said["seed"], "model": said["model"]}
    (spec,) = specs_of(tmp_path, put_back(tmp_path, "bare", json.dumps(old)))
    assert described(spec) == expected(said, case("bare").pictures)


def described(spec: GenerationSpec) -> dict[str, Any]:
    """What a spec says, in the words of ``request.json``; pictures by the SHA-256 of their pixels."""
    layout, start = spec.layout, spec.start
    return {
        **{name: getattr(spec, name) for name in PLAIN_FIELDS},
        "layout": None if layout is None else {"threshold": layout.threshold, "start_step": layout.start_step},
        "subjects": [
            {
                **{name: getattr(subject, name) for name in PLAIN_SUBJECT_FIELDS},
                "images": [pixels(image) for image in subject.images],
                "box": None if subject.place is None else list(subject.place.as_tuple()),
                "scale": subject.own_scale,
                "mask": None if subject.mask is None else pixels(subject.mask),
            }
            for subject in spec.subjects
        ],
        "loras": [{"name": lora.name, "weight": lora.weight} for lora in spec.loras],
        "controls": [
            {name: getattr(control, name) for name in ("name", "scale", "start", "end")}
            | {"image": pixels(control.image)}
            for control in spec.controls
        ],
        "start": None
        if start is None
        else {"image": pixels(start.image), "strength": start.strength, "redraw": list(start.redraw)},
    }


def expected(said: dict[str, Any], pngs: dict[str, bytes]) -> dict[str, Any]:
    """The same, from the words of ``request.json`` alone."""
    pictures = {sha256: decoded(png) for sha256, png in pngs.items()}

    def seen(sha256: str | None) -> str | None:
        return None if sha256 is None else pixels(pictures[sha256])

    def subject(words: dict[str, Any]) -> dict[str, Any]:
        filled = words | {"images": [seen(image) for image in words["images"]], "mask": seen(words["mask"])}
        if words["scene"]:
            filled |= {"box": [0.0, 0.0, 1.0, 1.0], "scale": 0.4 if words["scale"] is None else words["scale"]}
        elif words["mask"] is not None and words["box"] is None:
            filled["box"] = painted_box(pictures[words["mask"]])
        return filled

    start = said["start"]
    return {
        **{name: said[name] for name in PLAIN_FIELDS},
        "layout": said["layout"],
        "subjects": [subject(words) for words in said["subjects"]],
        "loras": said["loras"],
        "controls": [words | {"image": seen(words["image"])} for words in said["controls"]],
        "start": start and start | {"image": seen(start["image"])},
    }


def painted_box(mask: Image.Image) -> list[float]:
    """Normalised xyxy around all that is not black; the masks are opaque."""
    bounds = mask.convert("L").getbbox()
    assert bounds is not None
    return [side / (mask.width, mask.height)[index % 2] for index, side in enumerate(bounds)]


def decoded(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png), formats=("PNG",))


def pixels(picture: Image.Image) -> str:
    return hashlib.sha256(f"{picture.mode} {picture.size}".encode() + picture.tobytes()).hexdigest()
