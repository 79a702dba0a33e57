"""The API as an ASGI application; ``uvicorn --factory app.main:create_app`` runs it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import RedirectResponse

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


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the API; nothing is connected before the first request.

    Args:
        settings: by default from the environment (prefix ``MSD_``).
    """
    settings = Settings() if settings is None else settings
    client = brisk_client(settings.redis_url, settings.redis_timeout_s)
    event_log = EventLog.connect(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await event_log.close()
        app.state.decoders.close()
        app.state.lookup.close()
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
    app.state.settings = settings
    app.state.decoders = Decoders()
    artifacts = ArtifactStore(settings.data_dir)
    forecast = Forecast(client, settings.model)
    app.state.jobs = Jobs(client, artifacts, settings)
    app.state.submissions = Submissions(client, artifacts, app.state.jobs, settings)
    app.state.job_list = JobList(client, app.state.jobs, forecast, settings)
    app.state.lookup = Lookup(client, app.state.jobs, forecast, settings.lifetime_s)
    app.state.event_log = event_log
    app.state.waiting = Waiting(app.state.lookup, event_log)
    app.state.metrics = Metrics(client, settings.model, app.version)
    app.state.models = Models(client, settings.model)
    app.state.health = Health(client, settings.data_dir, settings.model, settings.min_free_disk_mb)
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
    app.add_middleware(AccessMiddleware, meter=app.state.metrics.http)
    install_error_handlers(app)
    install_documentation(app)
    return app


def _version() -> str:
    try:
        return version("ms-diffusion-service")
    except PackageNotFoundError:
        return "0+uninstalled"


def _to_documentation() -> RedirectResponse:
    return RedirectResponse("/docs")
