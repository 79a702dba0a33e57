"""``msd api``: the HTTP side alone."""

from __future__ import annotations

import gc
import os
from contextlib import suppress
from pathlib import Path
from types import FrameType

import typer

from cli.options import AllowRemote, Data, Host, Model, Port, require_free_port, require_loopback

# As uvicorn's own command ends.
STARTUP_FAILURE = 3


def api(
    host: Host = "127.0.0.1",
    port: Port = 8000,
    model: Model = "mini",
    data: Data = Path("data"),
    allow_remote: AllowRemote = False,
) -> None:
    """Run the HTTP API alone. Needs MSD_REDIS_URL, and workers that share --data."""
    import uvicorn
    from pydantic import ValidationError

    from app.config import Settings
    from app.main import create_app
    from cli.http_protocol import GuardedProtocol, most_connections
    from ms_jobs.redis_checks import require_address
    from worker.config import settings_error
    from worker.logs import LogSettings, logging_config

    if not allow_remote:
        require_loopback(host, "Listen on 127.0.0.1, or add --allow-remote if a gateway with a login stands in front.")
    require_free_port(host, port)
    # The queue goes by the model's name; the directory itself is the workers' business.
    os.environ["MSD_MODEL"] = Path(model).name
    os.environ["MSD_DATA_DIR"] = str(data)
    try:
        settings = Settings()
    except ValidationError as error:
        raise settings_error(error) from error
    require_address(settings.redis_url)
    app = create_app(settings)

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            # Those who watch jobs would hold the process until its grace is over.
            app.state.event_log.is_stopping = True
            super().handle_exit(sig, frame)

    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_config=logging_config(LogSettings.load()),
        access_log=False,
        http=GuardedProtocol,
        limit_concurrency=most_connections(settings.max_watchers),
        timeout_graceful_shutdown=3,
    )
    server = Server(config)
    # What lives as long as the process need not be searched for garbage, which would hold up all requests.
    gc.freeze()
    with suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        raise typer.Exit(STARTUP_FAILURE)
