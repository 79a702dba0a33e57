"""Builds the API as an ASGI application; run it with ``uvicorn --factory app.main:create_app``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import TypedDict

from fastapi import FastAPI
from fastapi.responses import RedirectResponse
from redis import Redis
from starlette.datastructures import State as AppState

from app.config import Settings
from app.docs_page import docs_page, ui_file
from app.documentation import install_documentation
from app.jobs import routes, watch
from app.jobs.eta import Forecast
from app.jobs.event_log import EventLog
from app.jobs.list import JobList
from app.jobs.manage import Jobs
from app.jobs.read import Reader
from app.jobs.resources import RESPONSE_HEADERS
from app.jobs.submit import Submissions
from app.requests.body import LARGEST_BODIES, Decoders, Uploads
from app.service import health, metrics, models
from app.service.access import AccessMiddleware
from app.service.cors import MirroringCors
from app.service.errors import install_error_handlers
from app.service.head import HeadMiddleware
from app.service.health import Health
from app.service.metrics import Metrics
from app.service.models import Models
from app.service.origins import OriginMiddleware
from app.service.request_id import REQUEST_ID_HEADER, RequestIdMiddleware
from ms_jobs.artifacts import ArtifactStore
from ms_jobs.connection import redis_client

DESCRIPTION = (
    "Multi-subject, layout-guided image personalisation: your own subjects, each in its box, in one picture. "
    "Submit a job with `POST /generate`, follow it, fetch the picture. Every error is an RFC 9457 problem."
)


class State(TypedDict):
    """State of the process: yielded by the lifespan; endpoints get parts of it."""

    settings: Settings
    decoders: Decoders
    uploads: Uploads
    jobs: Jobs
    submissions: Submissions
    job_list: JobList
    reader: Reader
    event_log: EventLog
    metrics: Metrics
    models: Models
    health: Health


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the API; it connects to Redis with the first request.

    Args:
        settings: by default from the environment (prefix ``MSD_``).
    """
    settings = Settings() if settings is None else settings
    client = redis_client(settings.redis_url, settings.redis_timeout_s)
    state = _state(client, settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[State]:
        yield state
        await state["event_log"].close()
        state["decoders"].close()
        state["reader"].close()
        client.close()

    app = FastAPI(
        title="MS-Diffusion service",
        version=_version(),
        description=DESCRIPTION,
        lifespan=lifespan,
        # See ``app.docs_page``.
        docs_url=None,
        redoc_url=None,
        # A redirect would name the host as a proxy writes it, and has no problem body.
        redirect_slashes=False,
    )
    # For code that has the app but no request, such as ``cli.api``.
    app.state = AppState(dict(state))
    for part in (routes, watch, models, health, metrics):
        app.include_router(part.router)
    app.add_api_route("/", _to_documentation, include_in_schema=False)
    app.add_api_route("/docs", docs_page, include_in_schema=False)
    app.add_api_route("/docs/{name}", ui_file, include_in_schema=False)
    app.add_middleware(HeadMiddleware)
    app.add_middleware(OriginMiddleware, hosts=settings.allowed_hosts, origins=settings.cors_origins)
    app.add_middleware(
        MirroringCors,
        allow_origins=settings.cors_origins,
        allow_methods=["GET", "HEAD", "POST", "PUT", "DELETE"],
        allow_headers=["*"],
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
    return State(
        settings=settings,
        decoders=Decoders(),
        uploads=Uploads(LARGEST_BODIES * settings.max_body_bytes),
        jobs=jobs,
        submissions=Submissions(client, artifacts, jobs, settings),
        job_list=JobList(client, jobs, forecast, settings),
        reader=Reader(client, jobs, forecast, event_log, settings.lifetime_s),
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
