"""What front ends learn of the model."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from starlette.testclient import TestClient

from app.config import Settings
from app.main import create_app
from ms_core.config import SCHEDULERS, ModelCard, ScorerConfig, UsableSchedulers
from ms_jobs.records import WorkerRecord, WorkerState
from ms_jobs.registry import Registry
from tests.support.sample_requests import good_request


def publish_worker(registry: Registry, model: str, state: WorkerState) -> None:
    record = WorkerRecord(name="w", model=model, state=state, device="cpu", host="h", pid=1, started_at=time.time())
    registry.publish_worker(record, ttl_s=30)


def test_before_a_worker_has_loaded_the_model_its_name_is_all_that_is_known(
    client: TestClient, settings: Settings
) -> None:
    response = client.get("/models")
    assert response.status_code == 200
    assert response.json() == {"models": [{"name": settings.model, "ready": False, "abilities": None}]}


@pytest.mark.parametrize(
    ("state", "ready"),
    [
        (WorkerState.STARTING, False),
        (WorkerState.IDLE, True),
        (WorkerState.BUSY, True),
        (WorkerState.FAILED, False),
    ],
)
def test_it_is_ready_while_a_worker_serves_it(
    client: TestClient, settings: Settings, registry: Registry, state: WorkerState, ready: bool
) -> None:
    publish_worker(registry, settings.model, state)
    assert client.get("/models").json()["models"][0]["ready"] is ready


def test_the_card_tells_what_can_be_asked_for(client: TestClient, card: ModelCard) -> None:
    (model,) = client.get("/models").json()["models"]
    abilities = model["abilities"]
    assert abilities["defaults"] == {
        "width": 256,
        "height": 128,
        "num_inference_steps": 20,
        "guidance_scale": 7.5,
        "scale": 0.6,
        "negative_prompt": card.defaults.negative_prompt,
        "scheduler": "euler",
    }
    assert (abilities["max_width"], abilities["max_height"], abilities["max_subjects"]) == (512, 512, 4)
    assert abilities["sizes"] == [{"width": 256, "height": 128}, {"width": 256, "height": 256}]
    assert abilities["loras"] == ["lightning", "paper"]
    assert abilities["controls"] == ["canny"]
    assert abilities["embeddings"] == ["zoë"]
    assert abilities["licence"] == "Apache-2.0"
    assert abilities["scores"] is False


def test_a_small_models_words_and_schedulers_are_told(
    client: TestClient, settings: Settings, registry: Registry, card: ModelCard
) -> None:
    (abilities,) = (model["abilities"] for model in client.get("/models").json()["models"])
    assert (abilities["schedulers"], abilities["backgrounds"], abilities["treatments"]) == (list(SCHEDULERS), [], [])
    usable = UsableSchedulers(("ddim", "euler"))
    small = replace(card, schedulers=usable, backgrounds=("on the beach",), treatments=("at night",))
    registry.publish_card(settings.model, small)
    (abilities,) = (model["abilities"] for model in client.get("/models").json()["models"])
    told = (abilities["schedulers"], abilities["backgrounds"], abilities["treatments"])
    assert told == (["ddim", "euler"], ["on the beach"], ["at night"])


def test_a_scheduler_that_the_model_cannot_use_is_refused_when_it_is_sent(
    client: TestClient, settings: Settings, registry: Registry, card: ModelCard
) -> None:
    registry.publish_card(settings.model, replace(card, schedulers=UsableSchedulers(("ddim", "euler"))))
    response = client.post("/generate", json=good_request(scheduler="heun"))
    assert response.status_code == 422
    (problem,) = response.json()["errors"]
    assert (problem["pointer"], problem["code"]) == ("/scheduler", "unsupported_scheduler")
    assert "choose ddim, euler." in problem["detail"]


def test_a_card_with_a_scorer_tells_that_the_model_can_score(
    client: TestClient, settings: Settings, registry: Registry, card: ModelCard
) -> None:
    registry.publish_card(settings.model, replace(card, scorer=ScorerConfig()))
    assert client.get("/models").json()["models"][0]["abilities"]["scores"] is True


def test_presets_tell_what_they_set_and_whether_they_can_be_used(client: TestClient, card: ModelCard) -> None:
    quick, broken = client.get("/models").json()["models"][0]["abilities"]["presets"]
    assert quick == {
        "name": "quick",
        "description": "Four steps.",
        "available": True,
        "num_inference_steps": 4,
        "guidance_scale": 1.0,
        "scale": None,
        "scheduler": None,
        "timestep_spacing": "trailing",
        "loras": [{"name": "lightning", "weight": 0.9}],
    }
    assert (broken["name"], broken["available"]) == ("broken", False)


def test_without_redis_nothing_is_known(settings: Settings) -> None:
    nowhere = settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    with TestClient(create_app(nowhere)) as client:
        response = client.get("/models")
    assert (response.status_code, response.json()["code"]) == (503, "queue_unavailable")
