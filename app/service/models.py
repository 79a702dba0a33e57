"""The models of the service, and the endpoint that lists them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import redis
from fastapi import APIRouter, Response

from app.dependencies import given
from app.schemas import (
    AbilitiesResource,
    DefaultsResource,
    ModelResource,
    ModelsResource,
    PresetResource,
    SizeResource,
)
from app.service.problems import problem_responses
from ms_core.config import SCHEDULERS, ModelCard
from ms_jobs.registry import Registry

router = APIRouter(tags=["models"])


class Models:
    """Lists the models; a service has one.

    Args:
        client: of the Redis where workers publish the model's card.
        model: its name.
    """

    def __init__(self, client: redis.Redis, model: str) -> None:
        self._registry = Registry(client)
        self._model = model

    def all(self) -> ModelsResource:
        """List every model.

        Raises:
            redis.exceptions.RedisError: Redis cannot be reached.
        """
        ready = any(worker.state.serves for worker in self._registry.workers(self._model))
        return ModelsResource(models=[_model(self._model, ready, self._registry.card(self._model))])


ModelsDependency = Annotated[Models, given("models")]


@router.get("/models", operation_id="list_models", summary="List the models", responses=problem_responses(503))
def list_models(models: ModelsDependency, response: Response) -> ModelsResource:
    """Each model with its sizes, presets, LoRAs and ControlNets, and whether a worker is ready."""
    response.headers["Cache-Control"] = "no-store"
    return models.all()


def _model(name: str, ready: bool, card: ModelCard | None) -> ModelResource:
    """Make the resource of a model; ``ready``: a worker serves it."""
    return ModelResource(name=name, ready=ready, abilities=None if card is None else _abilities(card))


def _abilities(card: ModelCard) -> AbilitiesResource:
    return AbilitiesResource(
        defaults=DefaultsResource(**asdict(card.defaults)),
        max_width=card.max_width,
        max_height=card.max_height,
        max_subjects=card.max_subjects,
        sizes=[SizeResource(width=width, height=height) for height, width in card.sizes],
        presets=[_preset(name, card) for name in card.presets],
        loras=list(card.extras.loras),
        controls=list(card.extras.controls),
        embeddings=list(card.extras.embeddings),
        scores=card.scorer is not None,
        licence=card.licence,
        schedulers=list(card.schedulers.unspaced) if card.schedulers else list(SCHEDULERS),
        auto_layout=card.auto_layout,
        backgrounds=list(card.backgrounds),
        treatments=list(card.treatments),
    )


def _preset(name: str, card: ModelCard) -> PresetResource:
    preset = card.presets[name]
    available = all(lora.name in card.extras.loras for lora in preset.loras)
    return PresetResource(name=name, available=available, **asdict(preset))
