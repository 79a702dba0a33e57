"""Where the real code meets Redis, files and the clock: each such meeting is a step of the schedule.

Nothing of the code under test is changed. It is given Redis clients of a class made here, and while a schedule runs the
functions of ``os``, ``io``, ``time`` and ``secrets`` that it calls take a step first, for the threads of actors alone.
"""

from __future__ import annotations

import io
import os
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

from redis import Redis
from redis.client import Pipeline
from redis.exceptions import ConnectionError
from rq.utils import get_version

from tests.faults.baton import (
    Process,
    Schedule,
    current_actor,
    current_schedule,
    schedule_monotonic,
    schedule_sleep,
    schedule_time,
)
from worker.deadline import Deadline

CLIENT_RETRIES = 1
LONG_S = 3600
CHANGES_OF_FILES = ("mkdir", "rename", "replace", "link", "unlink", "rmdir", "fsync", "listdir", "open")
MAKES_NAMES = ("mkdir", "rename", "replace", "link", "open")


# What an attempt is told that is not the latest.
_REFUSALS = {"progress": b"taken", "finish": None, "requeue": None}


class Network:
    """The one way to Redis: what may go wrong on it, and keys that run out by the schedule's clock."""

    def __init__(self, schedule: Schedule, real: Redis, scripts: dict[str, str]) -> None:
        """``scripts``: names of the job store's scripts by the SHA-1 under which Redis knows them."""
        self.schedule = schedule
        self.scripts = scripts
        self.broken: list[str] = []
        self.real = real
        self.connection = _connection(real)
        self.cut_until = 0.0
        # Called after a command that may have filled the queue.
        self.on_push: Callable[[], None] = lambda: None
        # What befalls the next command: "cut" or "answer lost".
        self.next_fault: str | None = None
        self._runs_out_at: dict[str, float] = {}
        self._latest_attempt: dict[str, int] = {}

    def call(self, process: Process, retries: int | None, command: tuple[Any, ...], send: Callable[[], Any]) -> Any:
        """Send a command as often as a client of this temper does; ``None`` retries is without end."""
        if process.kind == "conductor":
            self._let_keys_run_out()
            return send()
        failures = 0
        while True:
            self.schedule.step(command)
            fault, self.next_fault = self.next_fault, None
            if fault != "cut" and max(self.cut_until, process.cut_until) <= self.schedule.now:
                self._let_keys_run_out()
                answer = send()
                if command[0] in ("EVALSHA", "PIPELINE"):
                    self.on_push()
                if fault is None:
                    return answer
                self.schedule.note("its answer is lost")
            failures += 1
            if retries is not None and failures > retries:
                raise ConnectionError("Redis does not answer.")
            self.schedule.sleep(min(2.0, 0.05 * 2**failures))

    def runs_out(self, key: str, after_s: float) -> None:
        """Let a key be gone some time from now, by the schedule's clock."""
        self._runs_out_at[key] = self.schedule.now + after_s

    def note_answer(self, command: tuple[Any, ...], answer: Any) -> None:
        """Let a lease that was given run out by the schedule's clock; see that old attempts change nothing."""
        if command[0] != "EVALSHA":
            return
        key = command[3]
        if key.startswith("msd:housekeeper:") and len(command) == 6 and answer == 1:
            self.runs_out(key, command[5] / 1000)
        script = self.scripts.get(command[1])
        if script == "begin" and answer:
            self._latest_attempt[key] = int(answer[answer.index(b"attempt") + 1])
        elif script in _REFUSALS and int(command[8]) < self._latest_attempt.get(key, 0) and answer != _REFUSALS[script]:
            self.broken.append(f"{key}: an older attempt wrote after a newer one: {script} gave {answer}")

    def _let_keys_run_out(self) -> None:
        over = [key for key, at in self._runs_out_at.items() if at <= self.schedule.now]
        for key in over:
            del self._runs_out_at[key]
            self.real.delete(key)

    def on_schedule(self, command: tuple[Any, ...]) -> tuple[Any, ...]:
        """The command with the schedule's clock in the place of Redis' own."""
        if command[0] == "EVALSHA":
            key = command[3]
            if key.startswith("msd:job:") and command[4] == "":
                return (*command[:4], self.schedule.now, *command[5:])
            if key.startswith("msd:housekeeper:") and len(command) == 6:
                return (*command[:5], LONG_S * 1000)
            if key.startswith("msd:worker:"):
                self.runs_out(key, command[6])
                return (*command[:6], LONG_S, *command[7:])
        return command


@cache
def _connection(real: Redis) -> Any:
    return real.connection_pool.get_connection()


class ActorsPipeline(Pipeline):
    """A pipeline is one step."""

    network: Network
    process: Process
    retries: int | None

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        commands = list(self.command_stack)

        def send() -> list[Any]:
            self.command_stack = list(commands)
            return super(ActorsPipeline, self).execute(raise_on_error)

        try:
            return self.network.call(self.process, self.retries, ("PIPELINE", *(c[0][:2] for c in commands)), send)
        finally:
            self.reset()

    def immediate_execute_command(self, *args: Any, **options: Any) -> Any:
        send = super().immediate_execute_command
        return self.network.call(self.process, self.retries, args, lambda: send(*args, **options))


class ActorsRedis(Redis):
    """A client of one process, blocking or not; each command is a step."""

    def __init__(self, network: Network, process: Process, retries: int | None) -> None:
        super().__init__(connection_pool=network.real.connection_pool)
        # RQ asks for it once for each client, of which there are many here.
        setattr(self, "__rq_redis_server_version", get_version(network.real))
        self.network, self.process, self.retries = network, process, retries

    def execute_command(self, *args: Any, **options: Any) -> Any:
        network = self.network
        if args[0] == "TIME":
            network.call(self.process, self.retries, args, lambda: None)
            now = network.schedule.now
            return int(now), int(now % 1 * 1e6)

        def send() -> Any:
            # All actors share one connection, for they take turns; that halves the time of a command.
            network.connection.send_command(*network.on_schedule(args))
            answer = self.parse_response(network.connection, args[0], **options)
            network.note_answer(args, answer)
            return answer

        return network.call(self.process, self.retries, args, send)

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> ActorsPipeline:
        pipeline = ActorsPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)
        pipeline.network, pipeline.process, pipeline.retries = self.network, self.process, self.retries
        return pipeline


class FlagDeadline(Deadline):
    """A deadline without its signal, which only the main thread may have; ``check`` tells by the schedule's clock."""

    def __enter__(self) -> FlagDeadline:
        self._ends_at = time.monotonic() + self._seconds
        return self

    def __exit__(self, *_: object) -> None:
        pass


@contextmanager
def seams(root: Path) -> Iterator[None]:
    """Let what actors do with files below ``root``, with clocks and with chance be the schedule's."""
    with ExitStack() as stack:
        for name in CHANGES_OF_FILES:
            stack.enter_context(patch.object(os, name, _stepping(name, getattr(os, name), str(root))))
        stack.enter_context(patch.object(io, "open", _stepping("read", io.open, str(root))))
        stack.enter_context(patch.object(time, "time", schedule_time))
        stack.enter_context(patch.object(time, "monotonic", schedule_monotonic))
        stack.enter_context(patch.object(time, "sleep", schedule_sleep))
        stack.enter_context(patch.object(secrets, "token_bytes", _token_bytes))
        stack.enter_context(patch.object(secrets, "token_hex", lambda n=32: _token_bytes(n).hex()))
        stack.enter_context(patch.object(secrets, "token_urlsafe", _token_urlsafe))
        stack.enter_context(patch.object(secrets, "randbelow", _randbelow))
        stack.enter_context(patch("worker.job_run.Deadline", FlagDeadline))
        yield


def _stepping(name: str, real: Callable[..., Any], root: str) -> Callable[..., Any]:
    def function(path: Any, *args: Any, **options: Any) -> Any:
        schedule = current_schedule()
        if schedule is None or current_actor().process.kind == "conductor":
            return real(path, *args, **options)
        is_ours = name == "fsync" if isinstance(path, int) else str(path).startswith(root) or "dir_fd" in options
        if not is_ours:
            return real(path, *args, **options)
        schedule.step((name, path, *args))
        result = real(path, *args, **options)
        if name in MAKES_NAMES and "dir_fd" not in options:
            # What files say of their age is the schedule's too.
            _touch(args[0] if name in ("rename", "replace", "link") else path, schedule.now)
        return result

    return function


def _touch(path: Any, now: float) -> None:
    for touched in (path, os.path.dirname(path)):
        with suppress(FileNotFoundError, TypeError):
            os.utime(touched, (now, now))


def _token_bytes(size: int | None = None) -> bytes:
    schedule = current_schedule()
    size = 32 if size is None else size
    return os.urandom(size) if schedule is None else schedule.random.randbytes(size)


def _token_urlsafe(size: int | None = None) -> str:
    return urlsafe_b64encode(_token_bytes(size)).rstrip(b"=").decode()


def _randbelow(bound: int) -> int:
    return int.from_bytes(_token_bytes(16), "big") % bound
