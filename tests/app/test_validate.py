"""``POST /validate``: what a request comes to, its errors as ``POST /generate`` gives them, and nothing is stored."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import replace
from typing import Any

import pytest
import redis
from starlette.testclient import TestClient
from transformers import CLIPTokenizer

from app.config import Settings
from app.main import create_app
from ms_core.config import ModelCard, TokenizerFile
from ms_core.spec.tokens import TextTokenizer
from ms_jobs.keys import RATE
from ms_jobs.pace import Pace, Shape
from ms_jobs.registry import Registry
from ms_jobs.tokenizer_files import TokenizerFiles
from tests.support.paths import MINI
from tests.support.sample_requests import good_request, good_subject
from tests.support.value_ranges import REQUEST_RANGES, SPEC_RANGES, request_with


def validate(client: TestClient, **changes: Any) -> dict[str, Any]:
    response = client.post("/validate", json=good_request(**changes))
    assert response.status_code == 200, response.text
    assert response.headers["cache-control"] == "no-store"
    return response.json()


@pytest.fixture
def tokenizer(settings: Settings, registry: Registry, card: ModelCard) -> TextTokenizer:
    """That of mini, as a worker publishes it."""
    tokenizer = TextTokenizer.of(CLIPTokenizer.from_pretrained(MINI / "tokenizer"))
    named = TokenizerFile(TokenizerFiles(settings.data_dir).save(tokenizer.document), tokenizer.max_length)
    assert named.sha256 == tokenizer.sha256
    registry.publish_card(settings.model, replace(card, tokenizer=named))
    return tokenizer


def test_before_a_worker_has_loaded_the_model_the_requests_own_values_are_all_that_is_known(client: TestClient) -> None:
    found = validate(client)
    assert found.keys() == {"request", "warnings", "expected_s", "phrases", "tokens"}
    assert (found["expected_s"], found["tokens"], found["warnings"]) == (None, None, [])
    assert "width" not in found["request"]
    assert found["phrases"] == [{"phrase": "cat", "span": [2, 5]}, {"phrase": "teapot", "span": [12, 18]}]


@pytest.mark.usefixtures("card")
def test_the_values_of_preset_and_card_are_filled_in(client: TestClient) -> None:
    box = {"pixels": [64, 32, 128, 96]}
    request = validate(client, subjects=[good_subject(box=box), good_subject(phrase="teapot")], preset="quick")[
        "request"
    ]
    assert (request["width"], request["height"], request["num_inference_steps"]) == (256, 128, 4)
    assert (request["guidance_scale"], request["scale"], request["timestep_spacing"]) == (1.0, 0.6, "trailing")
    assert (request["scheduler"], request["preset"], request["num_images"]) == ("euler", "quick", 1)
    assert request["subjects"][0]["box"] == [0.25, 0.25, 0.5, 0.75]
    assert "model" not in request


@pytest.mark.usefixtures("card")
def test_pictures_are_named_as_the_job_names_them(client: TestClient) -> None:
    named = [subject["image"] for subject in validate(client)["request"]["subjects"]]
    job = client.post("/generate", json=good_request()).json()
    asked = client.get(job["urls"]["request"]).json()["request"]
    assert [f"sha256:{subject['image'].rsplit('/', 1)[1]}" for subject in asked["subjects"]] == named


@pytest.mark.usefixtures("card")
def test_what_is_filled_in_makes_the_same_request(client: TestClient) -> None:
    """But for its pictures, which are sent again."""
    request = validate(client)["request"]
    for subject, sent in zip(request["subjects"], good_request()["subjects"], strict=True):
        subject["image"] = sent["image"]
    assert validate(client, **request)["request"]["width"] == 256


@pytest.mark.usefixtures("tokenizer")
def test_nothing_is_stored_and_nothing_queued(
    client: TestClient, settings: Settings, redis_client: redis.Redis
) -> None:
    files, keys = sorted(settings.data_dir.rglob("*")), _keys(redis_client, settings)
    validate(client)
    assert (sorted(settings.data_dir.rglob("*")), _keys(redis_client, settings)) == (files, keys)
    assert settings.model not in {job["model"] for job in client.get("/jobs").json()["jobs"]}


def _keys(client: redis.Redis, settings: Settings) -> set[bytes]:
    """Without the count of what was sent."""
    return {key for key in client.scan_iter(f"*{settings.model}*") if not key.startswith(RATE.encode())}


def problem(client: TestClient, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
    response = client.post(path, content=body, headers={"content-type": "application/json"})
    told = response.json()
    return response.status_code, {name: told.get(name) for name in ("type", "title", "detail", "code", "errors")}


BAD: list[bytes] = [
    *(json.dumps(request_with(each, value)).encode() for each in (*SPEC_RANGES, *REQUEST_RANGES) for value in each.bad),
    *(
        json.dumps(good_request(**changes)).encode()
        for changes in (
            {"preset": "none", "loras": [{"name": "lost"}], "width": 4096},
            {"scheduler": "nothing", "unknown": 1},
            {"subjects": [good_subject(image=f"asset:{'0' * 32}")]},
            {"subjects": [{"cast": "nobody", "box": [0, 0, 1, 1]}]},
            {"subjects": [good_subject(image="upload:cat")]},
            {"subjects": [good_subject(image="no picture"), good_subject(box=None)]},
            {"subjects": [good_subject(box={"pixels": [0, 0, 9999, 9999]})], "score": True},
        )
    ),
    b"{",
    b"[]",
    b"",
    b"\xff\xfe",
    b"[" * 60_000,
]


@pytest.mark.usefixtures("card")
def test_the_same_body_gives_the_same_errors_as_where_it_is_sent_to_be_run(client: TestClient) -> None:
    for body in BAD:
        told = problem(client, "/validate", body)
        assert told[0] >= 400, body[:300]
        assert told == problem(client, "/generate", body)


@pytest.mark.parametrize(
    "headers", [{"content-type": "text/plain"}, {"content-type": "application/json", "content-encoding": "gzip"}]
)
def test_what_is_not_json_is_refused(client: TestClient, headers: dict[str, str]) -> None:
    assert client.post("/validate", content=b"{}", headers=headers).status_code == 415


def test_without_redis_it_is_unavailable(settings: Settings) -> None:
    nowhere = settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    with TestClient(create_app(nowhere)) as client:
        assert client.post("/validate", json=good_request()).json()["code"] == "queue_unavailable"


def test_the_expected_seconds_are_those_of_such_jobs(
    client: TestClient, settings: Settings, card: ModelCard, redis_client: redis.Redis
) -> None:
    assert validate(client)["expected_s"] is None
    pace = Pace(redis_client, settings.model)
    for steps, seconds in ((20, 3.0), (40, 6.0)):
        shape = Shape(steps, 1, card.defaults.height, card.defaults.width, True, 2, 0)
        pace.learn(str(shape), seconds)
        pace.learn(str(shape), seconds)
    time.sleep(0.6)
    assert validate(client)["expected_s"] == 3.0
    assert validate(client, num_inference_steps=40)["expected_s"] == 6.0
    assert validate(client, num_inference_steps=40, num_images=2)["expected_s"] > 6.0


@pytest.mark.usefixtures("tokenizer")
def test_the_tokens_of_each_text_and_what_is_cut_off(client: TestClient) -> None:
    found = validate(client, prompt="cat " * 74 + "and a teapot on the beach", negative_prompt="blurry")
    tokens = found["tokens"]
    assert tokens["prompt"] == {"count": 82, "limit": 75, "cut_off": "a teapot on the beach"}
    assert tokens["negative_prompt"]["cut_off"] is None
    assert [text["count"] for text in tokens["phrases"]] == [1, 3]
    warnings = [warning for warning in found["warnings"] if warning["code"] == "text_truncated"]
    assert [(warning["pointer"], "a teapot on the beach" in warning["detail"]) for warning in warnings] == [
        ("/prompt", True)
    ]


@pytest.mark.usefixtures("tokenizer")
def test_the_tokens_of_a_subjects_own_words(client: TestClient) -> None:
    words = {"phrase": "tree", "prompt": "cat " * 74 + "and a teapot", "box": [0, 0, 1, 1]}
    found = validate(client, subjects=[good_subject(), words])
    assert found["tokens"]["subject_prompts"] == [None, {"count": 79, "limit": 75, "cut_off": "a teapot"}]
    assert [(warning["code"], warning["pointer"]) for warning in found["warnings"]] == [
        ("text_truncated", "/subjects/1/prompt")
    ]
    subject = found["request"]["subjects"][1]
    assert {name: subject.get(name) for name in words} == words
    assert not {"image", "images"} & subject.keys()


@pytest.mark.usefixtures("tokenizer")
def test_a_text_that_fits_needs_no_warning(client: TestClient) -> None:
    found = validate(client)
    assert (found["warnings"], found["tokens"]["prompt"]["cut_off"]) == ([], None)
    assert found["tokens"]["prompt"]["count"] == 10


def test_a_phrase_that_the_prompt_lacks_has_no_span(client: TestClient) -> None:
    found = validate(client, prompt="a teapot")
    assert found["phrases"] == [{"phrase": "cat", "span": None}, {"phrase": "teapot", "span": [2, 8]}]
    assert [warning["code"] for warning in found["warnings"]] == ["phrase_not_found"]


@pytest.mark.parametrize("harm", ["missing", "damaged", "no tokenizer"])
def test_a_tokenizer_that_cannot_be_read_costs_only_the_tokens_and_is_told_once(
    client: TestClient,
    settings: Settings,
    registry: Registry,
    card: ModelCard,
    tokenizer: TextTokenizer,
    caplog: pytest.LogCaptureFixture,
    harm: str,
) -> None:
    path = settings.data_dir / "tokenizers" / tokenizer.sha256 / "tokenizer.json"
    if harm == "missing":
        path.unlink()
    elif harm == "damaged":
        path.write_text("{}")
    else:
        other = TokenizerFiles(settings.data_dir).save('{"version": "9.0"}')
        registry.publish_card(settings.model, replace(card, tokenizer=TokenizerFile(other, 77)))
    for _ in range(2):
        assert validate(client)["tokens"] is None
    told = [record.message for record in caplog.records if record.name == "app.requests.tokenizers"]
    assert len(told) == 1
    assert told[0].startswith("tokens are not counted: ")


def test_a_tokenizer_that_appears_later_is_found(
    client: TestClient, settings: Settings, tokenizer: TextTokenizer
) -> None:
    path = settings.data_dir / "tokenizers" / tokenizer.sha256 / "tokenizer.json"
    path.rename(path.with_name("away"))
    assert validate(client)["tokens"] is None
    path.with_name("away").rename(path)
    assert validate(client)["tokens"] is not None


@pytest.mark.usefixtures("tokenizer")
def test_a_tokenizer_is_loaded_once(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    validate(client)
    monkeypatch.setattr(TokenizerFiles, "load", None)
    assert validate(client)["tokens"] is not None


def test_a_model_with_a_new_word_has_its_new_tokenizer(
    client: TestClient, settings: Settings, registry: Registry, card: ModelCard, tokenizer: TextTokenizer
) -> None:
    before = validate(client)["tokens"]["prompt"]["limit"]
    named = TokenizerFile(tokenizer.sha256, 5)
    registry.publish_card(settings.model, replace(card, tokenizer=named))
    assert (before, validate(client)["tokens"]["prompt"]["limit"]) == (75, 3)


@pytest.mark.usefixtures("card")
def test_pixel_boxes_and_auto_layout_are_normalised_as_the_job_has_them(client: TestClient) -> None:
    subjects = [good_subject(box=None), good_subject(phrase="teapot", box=None)]
    request = validate(client, subjects=subjects, layout={"mode": "auto"})["request"]
    assert request["layout"] == {"mode": "auto", "threshold": 0.5, "start_step": 5}


def test_a_form_is_taken_too(client: TestClient) -> None:
    cat, teapot = good_request()["subjects"]
    picture = base64.b64decode(cat["image"].partition(",")[2])
    request = good_request(subjects=[cat | {"image": "upload:cat"}, teapot])
    response = client.post("/validate", files={"request": (None, json.dumps(request)), "cat": ("cat.png", picture)})
    assert response.json()["request"] == validate(client)["request"]
