"""The API as an ASGI application; ``uvicorn --factory app.main:create_app`` runs it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import TypedDict

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import RedirectResponse
from redis import Redis
from starlette.datastructures import State as AppState

from app.access import AccessMiddleware
from app.config import Settings
from app.decoders import Decoders
from app.documentation import install_documentation
from app.errors import install_error_handlers
from app.eta import Forecast
from app.event_log import EventLog
from app.health import Health
from app.job_list import JobList
from app.jobs import Jobs
from app.lookup import Lookup
from app.metrics import Metrics
from app.models import Models
from app.parameters import REQUEST_HEADERS
from app.request_id import REQUEST_ID_HEADER, RequestIdMiddleware
from app.routes import events, health, jobs, metrics, models, submissions
from app.routes.answers import RESPONSE_HEADERS
from app.submissions import Submissions
from app.waiting import Waiting
from ms_jobs.artifacts import ArtifactStore
from ms_jobs.connection import brisk_client

DESCRIPTION = (
    "Multi-subject, layout-guided image personalisation: your own subjects, each in its box, in one picture. "
    "Ask with `POST /generate`, follow the job, fetch the picture. Every error is an RFC 9457 problem."
)


class State(TypedDict):
    """What lives as long as the process: the lifespan yields it, and endpoints are given parts of it."""

    settings: Settings
    decoders: Decoders
    jobs: Jobs
    submissions: Submissions
    job_list: JobList
    lookup: Lookup
    waiting: Waiting
    event_log: EventLog
    metrics: Metrics
    models: Models
    health: Health


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the API; nothing is connected before the first request.

    Args:
        settings: by default from the environment (prefix ``MSD_``).
    """
    settings = Settings() if settings is None else settings
    client = brisk_client(settings.redis_url, settings.redis_timeout_s)
    state = _state(client, settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[State]:
        yield state
        await state["event_log"].close()
        state["decoders"].close()
        state["lookup"].close()
        client.close()

    app = FastAPI(
        title="MS-Diffusion service",
        version=_version(),
        description=DESCRIPTION,
        lifespan=lifespan,
        redoc_url=None,
        # A redirect would name the host as a proxy in front writes it, and has no body that says what is wrong.
        redirect_slashes=False,
    )
    # For who has the app and no request, such as ``cli.api``.
    app.state = AppState(dict(state))
    app.include_router(submissions.router)
    app.include_router(jobs.router)
    app.include_router(events.router)
    app.include_router(models.router)
    app.include_router(health.router)
    app.include_router(metrics.router)
    app.add_api_route("/", _to_documentation, include_in_schema=False)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=settings.cors_origins,
        allow_methods=["GET", "POST", "PUT", "DELETE"],
        allow_headers=[*REQUEST_HEADERS, REQUEST_ID_HEADER],
        expose_headers=[*RESPONSE_HEADERS, REQUEST_ID_HEADER],
    )
    # Added last, so outermost: answers of the CORS middleware carry the id too.
    app.add_middleware(RequestIdMiddleware)
    app.add_middleware(AccessMiddleware, meter=state["metrics"].http)
    install_error_handlers(app)
    install_documentation(app)
    return app


def _state(client: Redis, settings: Settings) -> State:
    artifacts = ArtifactStore(settings.data_dir)
    forecast = Forecast(client, settings.model)
    event_log = EventLog.connect(settings)
    jobs = Jobs(client, artifacts, settings)
    lookup = Lookup(client, jobs, forecast, settings.lifetime_s)
    return State(
        settings=settings,
        decoders=Decoders(),
        jobs=jobs,
        submissions=Submissions(client, artifacts, jobs, settings),
        job_list=JobList(client, jobs, forecast, settings),
        lookup=lookup,
        waiting=Waiting(lookup, event_log),
        event_log=event_log,
        metrics=Metrics(client, settings.model, _version()),
        models=Models(client, settings.model),
        health=Health(client, settings.data_dir, settings.model, settings.min_free_disk_mb),
    )


def _version() -> str:
    try:
        return version("ms-diffusion-service")
    except PackageNotFoundError:
        return "0+uninstalled"


def _to_documentation() -> RedirectResponse:
    return RedirectResponse("/docs")
