"""What ``msd up`` runs: Redis, the workers and the API as children of this process, stopped in order."""

from __future__ import annotations

import fcntl
import os
import socket
import sys
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import typer

from cli.options import DEFAULT_URL, require_free_port
from cli.watchdog import Watchdog, api_answers, redis_answers
from ms_core.errors import StartupError
from ms_jobs.connection import check_redis
from ms_jobs.redis_checks import require_address
from worker.config import WorkerSettings
from worker.process import Command, ManagedProcess, StopSignal
from worker.redis_server import RedisServer
from worker.supervisor import TICK_S, Supervisor, warn_of_redis

API_START_TIMEOUT_S = 60.0
API_STOP_GRACE_S = 5.0


class Service:
    """Everything of one ``msd up``."""

    def __init__(self, host: str, port: int, model: str, data_dir: Path) -> None:
        self._host = host
        self._port = port
        self._model = model
        self._data_dir = data_dir.resolve()
        self._logs = self._data_dir / "logs"

    def run(self) -> None:
        """Start all, say where, and keep it running until SIGTERM or Ctrl-C.

        Raises:
            StartupError: another ``msd up`` uses the data directory, or a part does not start.
            ModelNotFoundError: there is no such model.
            QueueUnavailableError: the Redis of ``MSD_REDIS_URL`` does not answer.
        """
        stop = StopSignal()
        with ExitStack() as stack:
            stack.enter_context(_only_one(self._data_dir))
            require_free_port(self._host, self._port)
            redis_server, url = self._start_redis(stack)
            settings = WorkerSettings.load(model=self._model, data_dir=self._data_dir, redis_url=url)
            supervisor = Supervisor(settings, self._logs)
            stack.callback(supervisor.stop)
            supervisor.tick()
            api = ManagedProcess(lambda: self._api_command(settings, supervisor.model.name))
            stack.callback(api.stop, API_STOP_GRACE_S)
            self._wait_for_api(api, supervisor, stop)
            if not stop.received:
                self._tell(supervisor)
            dog = Watchdog(api, lambda: api_answers(self._host, self._port))
            stack.callback(dog.stop)
            while not stop.received:
                if dog.finds_frozen():
                    typer.echo("The API does not answer any more; it is started again.", err=True)
                    api.kill()
                api.tick()
                supervisor.tick()
                if redis_server is not None:
                    redis_server.tick()
                time.sleep(TICK_S)

    def _start_redis(self, stack: ExitStack) -> tuple[RedisServer | None, str]:
        """The Redis of ``MSD_REDIS_URL``, or one that is started here."""
        url = os.environ.get("MSD_REDIS_URL")
        if url:
            require_address(url)
            check_redis(url)
            warn_of_redis(url)
            return None, url
        server = RedisServer(self._data_dir, self._logs / "redis.log")
        stack.callback(server.stop)
        server.start()
        dog = Watchdog(server.process, lambda: redis_answers(server.url))
        stack.callback(dog.stop)
        server.watched_by(dog.finds_frozen)
        return server, server.url

    def _api_command(self, settings: WorkerSettings, model: str) -> Command:
        argv = [sys.executable, "-m", "cli.main", "api", "--host", self._host, "--port", str(self._port)]
        env = {"MSD_REDIS_URL": settings.redis_url, "MSD_DATA_DIR": str(settings.data_dir), "MSD_MODEL": model}
        return Command("api", argv, env, self._logs / "api.log")

    def _wait_for_api(self, api: ManagedProcess, supervisor: Supervisor, stop: StopSignal) -> None:
        deadline = time.monotonic() + API_START_TIMEOUT_S
        while not stop.received:
            supervisor.tick()
            if api.tick() is not None or time.monotonic() > deadline:
                raise StartupError(f"The API did not start; see {self._logs / 'api.log'}.")
            try:
                socket.create_connection((self._host, self._port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.05)

    def _tell(self, supervisor: Supervisor) -> None:
        host = f"[{self._host}]" if ":" in self._host else self._host
        url = f"http://{host}:{self._port}"
        devices = ", ".join(supervisor.devices)
        model = supervisor.model.name
        typer.echo(
            f"msd is up: open {url}/ in your browser (model {model} on {devices}; the page shows when it is loaded)"
        )
        typer.echo(f"Docs of the API, with a form to try: {url}/docs; {url}/readyz shows when the model is loaded")
        where = "" if url == DEFAULT_URL else f" --url {url}"
        typer.echo(
            f'Try: msd generate{where} --subject "cat=cat.png@0.05,0.3,0.45,0.8" "a cat on the beach" -o out.png'
        )
        if os.environ.get("MSD_AUTH") == "on":
            typer.echo(
                f"Every request needs a key (MSD_AUTH=on): msd keys create NAME --data {self._data_dir}; the page asks for it."
            )
        typer.echo(f"Data and logs: {self._data_dir}")
        typer.echo("Ctrl-C stops everything.")


@contextmanager
def _only_one(data_dir: Path) -> Generator[None]:
    """Hold the data directory; the kernel lets go of it when this process ends, however it ends."""
    with (data_dir / "up.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StartupError(
                f"Another msd up uses {data_dir}. Stop it first, or choose another directory with --data."
            ) from error
        yield
