"""``msd api --workers``: several API processes behind one port, started, watched and replaced by uvicorn."""

from __future__ import annotations

import gc
import os
import signal
import tempfile
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi import FastAPI

    from app.config import Settings

# What is silent for longer is replaced; on a busy machine a process takes long to start, and says nothing meanwhile.
SILENCE_S = 30


def run_processes(settings: Settings, options: dict[str, Any], workers: int) -> None:
    """Serve until told to stop.

    Args:
        settings: of all of them.
        options: of ``uvicorn.Config``, without the application.
        workers: how many, at least 2.
    """
    from uvicorn import Config
    from uvicorn.supervisors import Multiprocess

    # They read the settings of this process from the environment, in which what was decided here is not yet.
    os.environ["MSD_AUTH"] = settings.auth
    config = Config(
        "cli.api_processes:make_app", factory=True, workers=workers, timeout_worker_healthcheck=SILENCE_S, **options
    )
    with tempfile.TemporaryDirectory(prefix="msd-metrics-") as folder:
        # There they add up what they count: a scrape reaches one of them.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        socket = config.bind_socket()
        try:
            Multiprocess(config, sockets=[socket]).run()
        finally:
            socket.close()


def make_app() -> FastAPI:
    """Make the application of one process; called by uvicorn when its signal handlers stand."""
    from app.main import create_app

    app = create_app()
    for number in (signal.SIGTERM, signal.SIGINT):
        _let_watchers_go(app, number)
    # As ``cli.api`` does.
    gc.freeze()
    return app


def _let_watchers_go(app: FastAPI, number: signal.Signals) -> None:
    """Before the process stops: those who watch jobs would hold it until its grace is over."""
    stop = signal.getsignal(number)

    def handle(number: int, frame: FrameType | None) -> None:
        app.state.event_log.is_stopping = True
        if callable(stop):
            stop(number, frame)

    signal.signal(number, handle)
