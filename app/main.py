"""Builds the API as an ASGI application; run it with ``uvicorn --factory app.main:create_app``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import TypedDict
from urllib.parse import urlsplit

from fastapi import FastAPI
from redis import Redis
from starlette.datastructures import State as AppState
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from app.assets import inspection
from app.assets import routes as asset_routes
from app.auth import sessions
from app.auth.authenticator import Authenticator
from app.auth.guard import GuardMiddleware
from app.auth.sessions import Sessions
from app.auth.signatures import Signatures
from app.cast import routes as cast_routes
from app.config import Settings
from app.docs_page import docs_page, ui_file
from app.documentation import install_documentation
from app.jobs import queue_state, rate, routes, usage, validate, watch
from app.jobs.eta import Forecast
from app.jobs.event_log import EventLog
from app.jobs.queue_state import QueueState
from app.jobs.resources import RESPONSE_HEADERS
from app.jobs.validate import Validator
from app.openai import routes as openai_routes
from app.owners import Owners
from app.playground import page as playground
from app.requests.body import LARGEST_BODIES, Decoders, Uploads
from app.requests.fetching import Fetcher
from app.requests.sent import SentBytes
from app.requests.tokenizers import Tokenizers
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
from app.service.security_headers import SecurityHeadersMiddleware
from ms_jobs.connection import redis_client

DESCRIPTION = (
    "Multi-subject, layout-guided image personalisation: your own subjects, each in its box, in one picture. "
    "Submit a job with `POST /generate`, follow it, fetch the picture. Every error is an RFC 9457 problem; below `/v1`, "
    "for clients of OpenAI's images interface, it has the form that those read."
)

# With routes of jobs and their pictures.
_PARTS = (routes, validate, watch, queue_state, usage, asset_routes, inspection, cast_routes, openai_routes)


class State(TypedDict):
    """State of the process: yielded by the lifespan; endpoints get parts of it."""

    settings: Settings
    decoders: Decoders
    uploads: Uploads
    fetcher: Fetcher
    sent: SentBytes
    owners: Owners
    authenticator: Authenticator
    signatures: Signatures
    sessions: Sessions
    validator: Validator
    queue_state: QueueState
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
        state["fetcher"].close()
        state["owners"].close()
        state["authenticator"].close()
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
    for part in (*_PARTS, sessions, models, health, metrics):
        # Their routes as they are: an included router builds all of its routes once more with the first request.
        app.router.routes.extend(part.router.routes)
    app.add_api_route("/", playground.page, include_in_schema=False)
    app.add_api_route("/app/{name}", playground.part, include_in_schema=False)
    app.add_api_route("/docs", docs_page, include_in_schema=False)
    app.add_api_route("/docs/{name}", ui_file, include_in_schema=False)
    _add_middleware(app, settings, state, client)
    install_error_handlers(app)
    install_documentation(app)
    return app


def _add_middleware(app: FastAPI, settings: Settings, state: State, client: Redis) -> None:
    """From the inside out."""
    public = urlsplit(settings.public_url)
    hosts = {*settings.allowed_hosts, *filter(None, [public.hostname])}
    origins = {*settings.cors_origins, *([f"{public.scheme}://{public.netloc}"] if public.netloc else [])}
    app.add_middleware(HeadMiddleware)
    if settings.max_submits_per_minute:
        submit_rate = rate.SubmitRate(client, settings.model, settings.max_submits_per_minute)
        app.add_middleware(rate.SubmitRateMiddleware, rate=submit_rate)
    app.add_middleware(GuardMiddleware, authenticator=state["authenticator"])
    app.add_middleware(OriginMiddleware, hosts=hosts, origins=origins)
    app.add_middleware(
        MirroringCors,
        allow_origins=settings.cors_origins,
        allow_methods=["GET", "HEAD", "POST", "PUT", "DELETE"],
        allow_headers=["*"],
        expose_headers=[*RESPONSE_HEADERS, *rate.RESPONSE_HEADERS, *openai_routes.RESPONSE_HEADERS, REQUEST_ID_HEADER],
    )
    # Answers of the CORS middleware carry the id too.
    app.add_middleware(RequestIdMiddleware)
    app.add_middleware(SecurityHeadersMiddleware)
    app.add_middleware(AccessMiddleware, meter=state["metrics"].http)
    if settings.trusted_proxies:
        app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=list(settings.trusted_proxies))


def _state(client: Redis, settings: Settings) -> State:
    forecast = Forecast(client, settings.model)
    event_log = EventLog.connect(settings)
    signatures = Signatures(client, settings.signed_url_lifetime_s)
    # Without ``msd api``, which knows where it listens, ``auto`` is off.
    several = settings.auth == "on"
    authenticator = Authenticator(client, signatures, is_on=several)
    return State(
        settings=settings,
        decoders=Decoders(by_owner=several),
        uploads=Uploads(LARGEST_BODIES * settings.max_body_bytes, by_owner=several),
        fetcher=Fetcher(settings),
        sent=SentBytes(client, settings.model, settings.max_sent_mb_per_day),
        authenticator=authenticator,
        signatures=signatures,
        sessions=Sessions(client, authenticator, settings),
        owners=Owners(client, forecast, event_log, settings),
        validator=Validator(client, forecast, Tokenizers(settings.data_dir), settings.model),
        queue_state=QueueState(client, forecast, settings.model),
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
