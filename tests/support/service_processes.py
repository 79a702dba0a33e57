"""Commands of ``msd`` as real processes, for the end-to-end tests."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.paths import PYTHON_PATH

STOP_PATIENCE_S = 60


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# Tests send more jobs in a minute than people do.
NO_RATE = {"MSD_MAX_SUBMITS_PER_MINUTE": "0"}


def environment(**values: str) -> dict[str, str]:
    """This process's environment without settings of ours but ``values``; torch on one thread, and no rate of submissions."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MSD_")}
    own = {"PYTHONPATH": PYTHON_PATH, "OMP_NUM_THREADS": "1", "COLUMNS": "200", **NO_RATE}
    return {**inherited, **own, **values}


def msd(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "cli.main", *map(str, arguments)]


def run_msd(*arguments: object, **values: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        msd(*arguments), env=environment(**values), capture_output=True, text=True, timeout=120, check=False
    )


@contextmanager
def running_msd(*arguments: object, **values: str) -> Iterator[subprocess.Popen[str]]:
    """A command that runs while the block does; stopped by SIGTERM, unless it ended by itself."""
    with subprocess.Popen(msd(*arguments), env=environment(**values), stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.wait(timeout=STOP_PATIENCE_S)


def end(process: subprocess.Popen[Any]) -> None:
    """Stop a process, even one that the test has made stand still; kill it if it does not end."""
    process.send_signal(signal.SIGCONT)
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def processes_of(data_dir: Path) -> dict[int, str]:
    """Processes, by id, that have the data directory in their arguments or their environment."""
    mark = str(data_dir).encode()
    found: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (folder / "cmdline").read_bytes()
            # A process that has ended and was not yet waited for has no arguments any more.
            if arguments and mark in arguments + (folder / "environ").read_bytes():
                found[int(folder.name)] = arguments.replace(b"\0", b" ").decode()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found
