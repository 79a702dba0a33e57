"""What each owner has here: requests reach what is their caller's, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import redis
from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from app.assets.cutouts import Cutouts
from app.auth.callers import Caller
from app.config import Settings
from app.jobs.eta import Forecast
from app.jobs.event_log import EventLog
from app.jobs.list import JobList
from app.jobs.manage import Jobs
from app.jobs.read import Lookups, Reader
from app.jobs.submit import Submissions
from app.jobs.usage import Usage
from app.openai.retries import Retries
from app.requests.sources import Keeps
from ms_jobs.artifacts import ArtifactStore
from ms_jobs.job_store import JobStore
from ms_jobs.keys import JobKey
from ms_jobs.waiters import Waiters

# Kept at a time; others are made again when they are needed.
MOST_OWNERS = 1000


@dataclass(frozen=True, slots=True)
class Own:
    """What one owner has, by the names of ``app.dependencies.owned``."""

    jobs: Jobs
    submissions: Submissions
    retries: Retries
    job_list: JobList
    reader: Reader
    keeps: Keeps
    cutouts: Cutouts
    usage: Usage


class Owners:
    """Finds what an owner has."""

    def __init__(self, client: redis.Redis, forecast: Forecast, event_log: EventLog, settings: Settings) -> None:
        """Ask nothing of Redis yet."""
        self._client = client
        self._forecast = forecast
        self._event_log = event_log
        self._settings = settings
        self._lookups = Lookups(client, forecast, settings.lifetime_s)
        self._artifacts = ArtifactStore(settings.data_dir)
        self._store = JobStore(client)
        self._made = lru_cache(MOST_OWNERS)(self._make)

    async def of(self, request: Request) -> Own:
        """What the caller of a request has; of one who sees all, what the owner of the job has that the request names."""
        caller: Caller = request.state.caller
        own = self.of_owner(caller.owner)
        if not caller.sees_all:
            return own
        job_id = request.path_params.get("job_id")
        # Whoever chooses an id makes a job of his own.
        if job_id is not None and request.method != "PUT":
            own = self.of_owner(await run_in_threadpool(self._owner_of_job, caller.owner, job_id))
        return replace(own, job_list=JobList(self._client, self._jobs_of_all, self._forecast, self._settings))

    def of_owner(self, owner: str) -> Own:
        """What an owner has."""
        return self._made(owner)

    def close(self) -> None:
        """Stop the lookups."""
        self._lookups.close()

    def _make(self, owner: str) -> Own:
        client, settings, artifacts = self._client, self._settings, self._artifacts.for_owner(owner)
        jobs = Jobs(client, artifacts, settings)
        submissions = Submissions(client, artifacts, jobs, settings)
        store = JobStore(client, owner, settings.lifetime_s)
        waiters = Waiters(client, store, settings.retry_window_s, owner)
        assets = artifacts.assets(settings.asset_lifetime_s)
        return Own(
            jobs=jobs,
            submissions=submissions,
            retries=Retries(waiters, submissions, jobs, settings),
            job_list=JobList(client, lambda: [jobs], self._forecast, settings),
            reader=Reader(jobs, self._lookups, self._event_log),
            keeps=Keeps(assets, artifacts.cast()),
            cutouts=Cutouts(client, assets, settings),
            usage=Usage(client, settings, assets),
        )

    def _owner_of_job(self, first: str, job_id: str) -> str:
        """The owner of a job with this id; ``first`` if that is one, or none is known."""
        owners = [first, *(owner for owner in sorted(self._artifacts.owners()) if owner != first)]
        known = self._store.is_known([JobKey(owner, job_id) for owner in owners])
        return next((owner for owner, is_known in zip(owners, known, strict=True) if is_known), first)

    def _jobs_of_all(self) -> list[Jobs]:
        return [self.of_owner(owner).jobs for owner in self._artifacts.owners()]
