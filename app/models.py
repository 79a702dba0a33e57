"""The models that pictures can be asked of."""

from __future__ import annotations

import redis

from app.resources import model_resource
from app.schemas import ModelsResource
from ms_jobs.registry import Registry


class Models:
    """What is known of the models; one service has one.

    Args:
        client: of the Redis in which workers publish their model's card.
        model: whose queue the service fills.
    """

    def __init__(self, client: redis.Redis, model: str) -> None:
        self._registry = Registry(client)
        self._model = model

    def all(self) -> ModelsResource:
        """Every model as it stands now.

        Raises:
            redis.exceptions.RedisError: Redis cannot be reached.
        """
        ready = any(worker.state.serves for worker in self._registry.workers(self._model))
        return ModelsResource(models=[model_resource(self._model, ready, self._registry.card(self._model))])
