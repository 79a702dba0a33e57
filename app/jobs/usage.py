"""What is used of the limits."""

from __future__ import annotations

from typing import Annotated

import redis
from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from app.config import MEBIBYTE, Settings
from app.dependencies import owned
from app.requests.sent import SentBytes
from app.service.problems import problem_responses
from ms_jobs.assets import AssetStore
from ms_jobs.limits import spent_steps
from ms_jobs.queue import JobQueue

router = APIRouter(tags=["service"])


class Use(BaseModel):
    """Use of one limit."""

    used: int
    limit: int | None = Field(description="The most that may be; null: no limit.")


class UsageResource(BaseModel):
    """What you, and all together, use of the limits."""

    waiting: Use = Field(description="Your jobs that no worker has taken.")
    queue: Use = Field(description="The jobs of all owners that no worker has taken.")
    asset_bytes: Use = Field(description="What your uploaded pictures take.")
    sent_bytes: Use = Field(description="What you sent within 24 hours: requests and their pictures.")
    picture_steps: Use = Field(
        description="Yours within 24 hours: of each job its pictures, times its steps, times one and its retries; what was not "
        "done is given back when the job ends."
    )


class Usage:
    """Looks up what an owner uses of the limits of one model."""

    def __init__(self, client: redis.Redis, settings: Settings, assets: AssetStore) -> None:
        self._client = client
        self._settings = settings
        self._assets = assets
        self._owner = assets.owner

    def now(self) -> UsageResource:
        """What is used.

        Raises:
            redis.exceptions.RedisError: Redis cannot be reached.
        """
        settings = self._settings
        jobs = JobQueue(self._client, settings.model).waiting()
        own = sum(job.owner == self._owner for job in jobs)
        sent = SentBytes(self._client, settings.model, settings.max_sent_mb_per_day)
        steps = spent_steps(self._client, settings.model, self._owner)
        return UsageResource(
            waiting=_use(own, settings.max_waiting),
            queue=_use(len(jobs), settings.max_queue),
            asset_bytes=_use(self._assets.size_bytes(), settings.max_asset_mb * MEBIBYTE),
            sent_bytes=_use(sent.used(self._owner), settings.max_sent_mb_per_day * MEBIBYTE),
            picture_steps=_use(steps, settings.max_steps_per_day),
        )


UsageDependency = Annotated[Usage, owned("usage")]


@router.get("/usage", operation_id="get_usage", summary="Get the use of the limits", responses=problem_responses(503))
def get_usage(usage: UsageDependency, response: Response) -> UsageResource:
    """What you use of the limits of this service, and what all use together."""
    response.headers["Cache-Control"] = "no-store"
    return usage.now()


def _use(used: int, limit: int) -> Use:
    return Use(used=used, limit=limit or None)
