"""``msd api``: the HTTP side alone."""

from __future__ import annotations

import os
from pathlib import Path

from cli.options import AllowRemote, Data, Host, Model, Port, require_free_port, require_loopback


def api(
    host: Host = "127.0.0.1",
    port: Port = 8000,
    model: Model = "mini",
    data: Data = Path("data"),
    allow_remote: AllowRemote = False,
) -> None:
    """Serve HTTP only; needs MSD_REDIS_URL, and workers that share --data."""
    import uvicorn
    from pydantic import ValidationError

    from app.config import Settings
    from worker.config import settings_error
    from worker.logs import LogSettings, logging_config

    if not allow_remote:
        require_loopback(host, "Listen on 127.0.0.1, or say --allow-remote if a gateway with a login stands in front.")
    require_free_port(host, port)
    # The queue goes by the model's name; the directory itself is the workers' business.
    os.environ["MSD_MODEL"] = Path(model).name
    os.environ["MSD_DATA_DIR"] = str(data)
    try:
        Settings()
    except ValidationError as error:
        raise settings_error(error) from error
    uvicorn.run(
        "app.main:create_app",
        factory=True,
        host=host,
        port=port,
        log_config=logging_config(LogSettings.load()),
        access_log=False,
        timeout_graceful_shutdown=3,
    )
