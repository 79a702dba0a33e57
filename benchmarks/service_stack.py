"""The real service for benchmarks: Redis, ``msd api`` and ``msd worker`` as processes, with the pipeline that sleeps."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis

from ms_jobs.artifacts import ArtifactStore
from ms_jobs.job_store import JobStore
from ms_jobs.records import JobRecord, WorkerState
from ms_jobs.registry import Registry
from worker.process import Command, end_process, free_port, start_process
from worker.redis_server import RedisServer

ROOT = Path(__file__).resolve().parent.parent
MODEL = "mini"
PATIENCE_S = 60.0
STOP_GRACE_S = 20.0
RUNTIME = "benchmarks.sleeping_runtime:SleepingRuntime"


class ServiceStack:
    """One service in its own folder; leaving the block ends all its processes and removes the folder.

    It listens on the loopback address and on a socket file only, and dies with this process.
    """

    def __init__(self, redis_url: str | None = None, **settings: str) -> None:
        """Nothing runs yet.

        Args:
            redis_url: of an empty Redis to use, which is emptied again; by default an embedded one is started.
            settings: in the environment of all processes.
        """
        self._settings = settings
        self._exit = ExitStack()
        self._redis_url = redis_url
        self._workers: list[subprocess.Popen[bytes]] = []
        self._folder: Path
        self.port = free_port()
        self.client: redis.Redis
        self.jobs: JobStore
        self.artifacts: ArtifactStore
        self.data_dir: Path
        self.api_pid: int

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.push(self)
            self._start()
            stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is not None:
            self._show_logs()
        try:
            self.stop_workers()
        finally:
            self._exit.close()

    def start_workers(self, count: int = 1, step_s: float = 0.05) -> None:
        """Start workers whose steps sleep ``step_s`` seconds, and wait until all are ready."""
        registry = Registry(self.client)

        def ready() -> bool:
            states = [worker.state for worker in registry.workers(MODEL)]
            return states.count(WorkerState.IDLE) == count

        # One supervisor starts one worker for the CPU: more workers on it are more supervisors.
        self._workers += [self._msd("worker", MSD_BENCH_STEP_S=str(step_s)) for _ in range(count)]
        wait_until(ready, f"{count} ready workers")

    def stop_workers(self) -> None:
        """End all workers."""
        for process in self._workers:
            process.terminate()
        for process in self._workers:
            end_process(process, STOP_GRACE_S)
        self._workers.clear()

    def connect(self) -> Connection:
        """A connection to the API."""
        return Connection(self.port)

    def record(self, job_id: str) -> JobRecord:
        """The job as Redis knows it."""
        record = self.jobs.get(job_id)
        assert record is not None, f"job {job_id} is gone"
        return record

    def wait_for_end(self, job_id: str) -> JobRecord:
        """The job when it has ended; it must have succeeded."""
        wait_until(lambda: self.record(job_id).state.ended, f"the end of job {job_id}")
        record = self.record(job_id)
        assert record.state == "succeeded", f"job {job_id} {record.state}: {record.error}"
        return record

    def _start(self) -> None:
        self._folder = Path(self._exit.enter_context(tempfile.TemporaryDirectory(prefix="msd-bench-")))
        self.data_dir = data = self._folder / "data"
        self.artifacts = ArtifactStore(data)
        if self._redis_url is None:
            server = RedisServer(data, self._folder / "redis.log")
            self._exit.callback(server.stop)
            server.start()
            self._redis_url = server.url
        self.client = self._exit.enter_context(redis.Redis.from_url(self._redis_url))
        if self.client.dbsize():
            sys.exit(f"{self._redis_url} is not empty: give the benchmark an empty Redis database.")
        self._exit.callback(self.client.flushdb)
        self.jobs = JobStore(self.client)
        api = self._msd("api", "--port", str(self.port))
        self.api_pid = api.pid
        self._exit.callback(end_process, api, STOP_GRACE_S)
        wait_until(lambda: api.poll() is not None or self._answers(), "the API")
        assert api.poll() is None, "the API ended while starting"

    def _msd(self, command: str, *options: str, **values: str) -> subprocess.Popen[bytes]:
        data = str(self._folder / "data")
        argv = [sys.executable, "-m", "cli.main", command, "--model", MODEL, "--data", data, *options]
        settings = {"PYTHONPATH": str(ROOT), "MSD_RUNTIME": RUNTIME, "MSD_DEVICE": "cpu", **self._settings, **values}
        environment = {**settings, "MSD_REDIS_URL": str(self._redis_url)}
        return start_process(Command(command, argv, environment, self._folder / f"{command}.log"))

    def _show_logs(self) -> None:
        """What the processes said last: their logs go with the folder."""
        for path in sorted(self._folder.glob("*.log")):
            last = [line[:300] for line in path.read_text(errors="replace").splitlines()[-10:]]
            print(f"--- {path.name}", *last, sep="\n", file=sys.stderr)

    def _answers(self) -> bool:
        try:
            with self.connect() as connection:
                return connection.get("/livez")[0] == 200
        except OSError:
            return False


class Connection:
    """One kept connection to the API; cheaper than the usual clients, which would take time away from the service."""

    def __init__(self, port: int, key: str | None = None) -> None:
        """Connect; ``key`` is an API key."""
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._http = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        self._http.connect()
        self._http.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body."""
        return self._ask("GET", path, None, {})

    def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer to a JSON body."""
        return self._ask("POST", path, body, {"Content-Type": "application/json"})

    def _ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
        self._http.request(method, path, body, self._headers | headers)
        response = self._http.getresponse()
        return response.status, response.read()


def wait_until(condition: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> None:
    """Ask again and again until ``condition`` is true."""
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {patience_s:g} s in vain for {what}"
        time.sleep(0.02)
