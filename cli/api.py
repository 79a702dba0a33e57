"""``msd api``: the HTTP side alone."""

from __future__ import annotations

import gc
import os
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.api_processes import run_processes
from cli.options import (
    DEFAULT_HOST,
    DEFAULT_PORT,
    AllowRemote,
    Data,
    Host,
    Model,
    Port,
    require_free_port,
    require_loopback,
)
from ms_core.errors import StartupError

if TYPE_CHECKING:
    import uvicorn

    from app.config import Settings

FIRST_KEY = (
    "Make the first one with: msd keys create NAME --scope admin; or set MSD_AUTH=off if a login stands in front."
)
# As uvicorn's own command ends.
STARTUP_FAILURE = 3


def api(
    host: Host = DEFAULT_HOST,
    port: Port = DEFAULT_PORT,
    model: Model = "mini",
    data: Data = Path("data"),
    allow_remote: AllowRemote = False,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes behind the port.")] = 1,
) -> None:
    """Run the HTTP API alone. Needs MSD_REDIS_URL, and workers that share --data."""
    if not allow_remote:
        require_loopback(host, "Listen on 127.0.0.1, or add --allow-remote, with which every request needs a key.")
    require_free_port(host, port)
    # The queue goes by the model's name; the directory itself is the workers' business.
    os.environ["MSD_MODEL"] = Path(model).name
    os.environ["MSD_DATA_DIR"] = str(data)
    settings = _guarded(_settings(), allow_remote)
    if workers > 1:
        run_processes(settings, _options(settings, host, port), workers)
        return
    server = _server(settings, host, port)
    # What lives as long as the process need not be searched for garbage, which would hold up all requests.
    gc.freeze()
    with suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        raise typer.Exit(STARTUP_FAILURE)


def _settings() -> Settings:
    from pydantic import ValidationError

    from app.config import Settings
    from ms_jobs.redis_checks import require_address
    from worker.config import settings_error

    try:
        settings = Settings()
    except ValidationError as error:
        raise settings_error(error) from error
    require_address(settings.redis_url)
    return settings


def _guarded(settings: Settings, allow_remote: bool) -> Settings:
    """Ask for keys where other machines may come, unless ``MSD_AUTH`` says otherwise.

    Raises:
        StartupError: Redis holds no key yet, so nobody could come in.
    """
    auth = settings.auth if settings.auth != "auto" else "on" if allow_remote else "off"
    if auth == "on" and not _has_key(settings):
        if allow_remote:
            raise StartupError(f"With --allow-remote every request needs a key, and there is none yet. {FIRST_KEY}")
        typer.echo(f"MSD_AUTH=on: every request needs a key, and there is none yet. {FIRST_KEY}", err=True)
    return settings.model_copy(update={"auth": auth})


def _has_key(settings: Settings) -> bool:
    """Whether a key works; also where Redis does not say: then no request comes in."""
    from redis.exceptions import RedisError

    from ms_jobs.api_keys import ApiKeyStore
    from ms_jobs.connection import redis_client

    client = redis_client(settings.redis_url, settings.redis_timeout_s)
    try:
        return ApiKeyStore(client).has_any()
    except RedisError:
        return True
    finally:
        client.close()


def _server(settings: Settings, host: str, port: int) -> uvicorn.Server:
    import uvicorn

    from app.main import create_app

    app = create_app(settings)

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            # Those who watch jobs would hold the process until its grace is over.
            app.state.event_log.is_stopping = True
            super().handle_exit(sig, frame)

    return Server(uvicorn.Config(app, **_options(settings, host, port)))


def _options(settings: Settings, host: str, port: int) -> dict[str, Any]:
    """Options of uvicorn."""
    from cli.http_protocol import GuardedProtocol, most_connections
    from worker.logs import LogSettings, logging_config

    return {
        "host": host,
        "port": port,
        "log_config": logging_config(LogSettings.load()),
        "access_log": False,
        # The application itself heeds MSD_TRUSTED_PROXIES.
        "proxy_headers": False,
        "http": GuardedProtocol,
        "limit_concurrency": most_connections(settings.max_watchers),
        "timeout_graceful_shutdown": 3,
    }
