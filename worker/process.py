"""Runs child processes that die with their parent, and restarts them with back-off."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from worker.log_files import roll

log = logging.getLogger(__name__)

FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 30.0
HEALTHY_AFTER_S = 60.0
# A killed process ends at once, unless it hangs in the kernel, as with a broken device.
KILL_PATIENCE_S = 2.0
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Command:
    """A command to run.

    Attributes:
        name: for the log.
        argv: program and arguments.
        env: added to this process's environment.
        log_file: of the output; ``None``: this process's output.
        descriptors: open file descriptors that the child inherits.
        umask: of the files that it makes; -1: as this process's.
        orphan_signal: sent to the child by the kernel when its parent dies (Linux).
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    log_file: Path | None = None
    descriptors: Sequence[int] = ()
    umask: int = -1
    orphan_signal: signal.Signals = signal.SIGKILL


class ManagedProcess:
    """Keeps one child running: call ``tick`` often, and ``stop`` at the end.

    Use it from one thread that lives as long as the process, since the kernel ties a child to the thread that started it.
    """

    def __init__(self, make_command: Callable[[], Command]) -> None:
        """``make_command`` is called before each start, so that the environment can differ."""
        self._make_command = make_command
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._next_start = 0.0
        self._backoff_s = FIRST_BACKOFF_S
        self._has_worked = False
        self._was_started = False
        self._log_file: Path | None = None
        self.name = ""

    @property
    def pid(self) -> int | None:
        """The child's process id while it runs."""
        return None if self._process is None else self._process.pid

    @property
    def age_s(self) -> float:
        """Seconds since the child was started."""
        return time.monotonic() - self._started_at

    def tick(self) -> int | None:
        """Start the child if due; returns its exit code once after it ended, else ``None``."""
        if self._process is None:
            if time.monotonic() >= self._next_start:
                self._start()
            return None
        if self._log_file is not None:
            roll(self._log_file)
        code = self._process.poll()
        if code is not None:
            self._note_end(code)
        return code

    def note_work(self) -> None:
        """Note that the child works: if it is killed, the next one starts without delay."""
        self._has_worked = True

    def kill(self) -> None:
        """Kill the child; ``tick`` starts another."""
        if self._process is not None:
            self._process.kill()

    def terminate(self) -> None:
        """Send the child SIGTERM."""
        if self._process is not None:
            self._process.terminate()

    def stop(self, grace_s: float) -> int | None:
        """Send the child SIGTERM, wait up to ``grace_s`` seconds, then kill it; it is not restarted.

        Returns:
            Its exit code, or minus the signal that ended it; ``None`` if it was not running.
        """
        if self._process is None:
            return None
        self._process.terminate()
        try:
            code = self._process.wait(timeout=max(grace_s, 0.0))
        except subprocess.TimeoutExpired:
            log.warning("%s did not stop in time and is killed", self.name)
            code = self._kill_and_wait(self._process)
        self._process = None
        return code

    def _kill_and_wait(self, process: subprocess.Popen[bytes]) -> int:
        process.kill()
        try:
            return process.wait(timeout=KILL_PATIENCE_S)
        except subprocess.TimeoutExpired:
            log.error("%s, pid %d, was killed but hangs in the kernel; giving up on it", self.name, process.pid)
            return -signal.SIGKILL

    def _start(self) -> None:
        command = self._make_command()
        self.name = command.name
        self._log_file = command.log_file
        self._started_at = time.monotonic()
        self._has_worked = False
        try:
            self._process = start_process(command)
        except OSError as error:
            if not self._was_started:
                raise
            # Perhaps out of memory, which may pass; it must not end this process.
            log.warning("%s cannot be started: %s; trying again in %.1f s", command.name, error, self._backoff_s)
            self._put_off_start()
            return
        self._was_started = True
        log.info("started %s, pid %d", command.name, self._process.pid)

    def _note_end(self, code: int) -> None:
        # A child that keeps exiting by itself, as with a broken device, is restarted ever more slowly.
        was_well = self._has_worked and code <= 0
        if was_well or self.age_s > HEALTHY_AFTER_S:
            self._backoff_s = FIRST_BACKOFF_S
        log.warning("%s ended with code %d; restarting it in %.1f s", self.name, code, self._backoff_s)
        self._process = None
        self._put_off_start()

    def _put_off_start(self) -> None:
        self._next_start = time.monotonic() + self._backoff_s
        self._backoff_s = min(2 * self._backoff_s, LONGEST_BACKOFF_S)


class StopSignal:
    """Records whether this process got SIGTERM or Ctrl-C."""

    def __init__(self) -> None:
        self.received = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.received = True


def start_process(command: Command) -> subprocess.Popen[bytes]:
    """Start a child in a new session, so that Ctrl-C reaches only its parent, which stops all in order."""
    output = None if command.log_file is None else _open_log(command.log_file)
    try:
        return subprocess.Popen(  # noqa: S603 - the arguments are our own
            list(command.argv),
            env={**os.environ, **command.env},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=None if output is None else subprocess.STDOUT,
            start_new_session=True,
            pass_fds=command.descriptors,
            umask=command.umask,
            preexec_fn=_die_with_parent(command.orphan_signal),
        )
    finally:
        if output is not None:
            os.close(output)


def end_process(process: subprocess.Popen[bytes], grace_s: float) -> None:
    """Send a process SIGTERM, wait up to ``grace_s`` seconds, then kill it."""
    process.terminate()
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    """Find a free port of the loopback address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _open_log(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def _die_with_parent(orphan_signal: signal.Signals) -> Callable[[], None] | None:
    """Make what a child runs before its program: ask the kernel for ``orphan_signal`` when the parent dies."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def ask_kernel() -> None:
        prctl(PR_SET_PDEATHSIG, int(orphan_signal))
        # The parent may have died before this request.
        if os.getppid() != parent:
            os._exit(1)

    return ask_kernel
