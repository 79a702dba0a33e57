"""Cut-outs of assets: asked of a worker, and kept beside the asset."""

from __future__ import annotations

from typing import Annotated

import redis

from app.config import Settings
from app.dependencies import owned
from app.service.errors import HTTPProblem
from app.service.problems import INTERNAL_ERROR, INVALID_PARAMETER, NO_WORKER, problem_of_code
from ms_jobs.assets import AssetStore
from ms_jobs.queue import JobQueue
from ms_jobs.records import JobError
from ms_jobs.registry import Registry


class Cutouts:
    """The cut-outs of one owner's assets, by the service's model.

    Raises (every method):
        redis.exceptions.RedisError: Redis cannot be reached.
        StorageError: the artifact store cannot be read.
    """

    def __init__(self, client: redis.Redis, assets: AssetStore, settings: Settings) -> None:
        self._assets = assets
        self._model = settings.model
        self._queue = JobQueue(client, settings.model)
        self._registry = Registry(client)

    def get(self, asset_id: str, model: str | None) -> bytes | None:
        """The PNG of a cut-out; ``None``: a worker was asked to make it.

        Raises:
            AssetNotFoundError: there is no such asset.
            HTTPProblem: no worker can make it, or the worker could not.
        """
        if model not in (None, self._model):
            detail = f"This service makes cut-outs by its own model, {self._model}; leave model out."
            raise HTTPProblem(INVALID_PARAMETER, detail)
        asset = self._assets.use(asset_id)
        found = self._assets.cutout(asset.id, self._model)
        if isinstance(found, JobError):
            # Once: who asks again has it tried again.
            self._assets.forget_cutout(asset.id, self._model)
            raise HTTPProblem(problem_of_code(found.code) or INTERNAL_ERROR, found.detail)
        if found is None:
            self._ask(asset.id)
        return found

    def _ask(self, asset_id: str) -> None:
        if not any(worker.state.serves for worker in self._registry.workers(self._model)):
            raise HTTPProblem(NO_WORKER, "No worker is ready to make the cut-out; ask again when one is.")
        self._queue.put_cutout(self._assets.owner, asset_id)


CutoutsDependency = Annotated[Cutouts, owned("cutouts")]
