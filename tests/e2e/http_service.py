"""The real service for tests: a Redis, ``msd api`` and ``msd worker`` with the tiny golden model, each its own process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import redis

from ms_jobs.api_keys import ApiKeyStore
from ms_jobs.job_store import JobStore
from ms_jobs.records import JobRecord, JobState
from tests.support.job_helpers import wait_until
from tests.support.paths import ROOT
from tests.support.service_processes import NO_RATE, end, free_port, run_msd
from worker.redis_server import find_redis_binary

# Quick on the tiny model: a small picture, two steps.
QUICK = {"width": 64, "height": 64, "num_inference_steps": 2}
# Long enough to be met while it runs.
LONG = {"width": 512, "height": 512, "num_inference_steps": 150}


class HttpService:
    """One service below one folder; ``stop`` ends all its processes."""

    def __init__(self, folder: Path, model: Path, **settings: str) -> None:
        """``settings`` are set in the environment of all processes."""
        self._settings = settings
        self._folder = folder
        self._model = model
        self._socket = folder / "redis.sock"
        self._port = free_port()
        self._exit = ExitStack()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        # Which browsers sign in with before they open the page; see ``ask_with_key``.
        self.key: str | None = None
        self.url = f"http://127.0.0.1:{self._port}"
        self.client = httpx2.Client(base_url=self.url, timeout=60.0, trust_env=False)
        self._exit.enter_context(self.client)
        self.redis = self._exit.enter_context(redis.Redis(unix_socket_path=str(self._socket)))
        self._jobs = JobStore(self.redis)

    def start(self) -> None:
        """Start all three and wait until the API answers; the worker may take longer."""
        self.start_redis()
        self._start_both()

    def start_worker(self, host: str = "worker") -> subprocess.Popen[bytes]:
        """Start a supervisor with its worker; ``host`` names it among several."""
        self._start("worker", name=host)
        return self._processes[host]

    def start_redis(self) -> None:
        """Start Redis; what it held is read back."""
        options = ["--port", "0", "--unixsocket", str(self._socket), "--dir", str(self._folder), "--appendonly", "yes"]
        log = self._exit.enter_context((self._folder / "redis.log").open("ab"))
        self._processes["redis"] = subprocess.Popen([find_redis_binary(), *options], stdout=log, stderr=log)
        wait_until(self._socket.exists, "the socket of Redis")

    def kill_redis(self) -> None:
        """End Redis as a power cut would, but for what is on disk."""
        self._processes["redis"].send_signal(signal.SIGKILL)
        self._processes["redis"].wait()
        self._socket.unlink(missing_ok=True)

    @contextmanager
    def redis_stopped(self) -> Iterator[None]:
        """Redis takes connections and answers nothing."""
        self._processes["redis"].send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._processes["redis"].send_signal(signal.SIGCONT)

    @contextmanager
    def away(self) -> Iterator[None]:
        """API and worker have ended, as when the service is upgraded; at the end both run again."""
        for name in ("worker", "api"):
            end(self._processes[name])
        try:
            yield
        finally:
            self._start_both()

    @property
    def data_dir(self) -> Path:
        return self._folder / "data"

    @property
    def redis_url(self) -> str:
        return f"unix://{self._socket}"

    @property
    def api_pid(self) -> int:
        return self._processes["api"].pid

    def process(self, name: str) -> subprocess.Popen[bytes]:
        """``api``, ``redis`` or a supervisor."""
        return self._processes[name]

    def make_key(self, name: str, *options: str) -> str:
        """Make a key as an operator does; returns its text."""
        made = run_msd("keys", "create", name, *options, MSD_REDIS_URL=self.redis_url)
        assert made.returncode == 0, made.stderr
        return made.stdout.strip()

    def revoke_key(self, name: str) -> None:
        """End a key; it works for a moment still."""
        ApiKeyStore(self.redis).revoke(name)

    def ask_with_key(self) -> None:
        """Make a key; ``client`` sends it from now on, and it is ``key``."""
        self.key = self.make_key("tests", "--owner", "tests")
        self.client.headers["Authorization"] = f"Bearer {self.key}"

    def wait_until_ready(self) -> None:
        wait_until(lambda: self.client.get("/readyz").status_code == 200, "a worker that is ready")

    def submit(self, request: dict[str, Any]) -> dict[str, Any]:
        """Queue a request that must be accepted."""
        response = self.client.post("/generate", json=request)
        assert response.status_code == 202, response.text
        return response.json()

    def wait_for_end(self, job: dict[str, Any]) -> dict[str, Any]:
        """The job when it has ended."""

        def ended() -> dict[str, Any] | None:
            now = self.client.get(job["urls"]["self"]).json()
            return now if now["status"] not in ("queued", "running") else None

        return wait_until(ended, f"the end of job {job['id']}")

    def wait_for_step(self, job: dict[str, Any]) -> dict[str, Any]:
        """The job when a worker has done a step of it."""

        def begun() -> dict[str, Any] | None:
            now = self.client.get(job["urls"]["self"]).json()
            assert now["status"] in ("queued", "running"), now
            return now if (now["progress"] or {}).get("step") else None

        return wait_until(begun, f"the first step of job {job['id']}")

    def make(self, request: dict[str, Any]) -> dict[str, Any]:
        """Queue a request and wait for its pictures."""
        job = self.wait_for_end(self.submit(request))
        assert job["status"] == "succeeded", job["error"]
        return job

    def running_job(self) -> JobRecord | None:
        """The job that the worker is denoising, as Redis knows it."""
        jobs = (self._jobs.get(key.id) for key in self._jobs.active(self._model.name))
        return next((job for job in jobs if job is not None and job.state == "running" and job.step), None)

    def job_state(self, job_id: str) -> JobState:
        record = self._jobs.get(job_id)
        assert record is not None
        return record.state

    def stop(self) -> None:
        names = [*(self._processes.keys() - {"api", "redis"}), "api", "redis"]
        for name in names:
            if name in self._processes:
                end(self._processes[name])
        self._exit.close()

    def _start(self, command: str, *options: str, name: str | None = None) -> None:
        name = name or command
        log = self._exit.enter_context((self._folder / f"{name}.log").open("ab"))
        arguments = [command, "--model", str(self._model), "--data", str(self.data_dir), *options]
        own = {"MSD_REDIS_URL": self.redis_url, "MSD_DEVICE": "cpu", "MSD_CPU_THREADS": "1", **NO_RATE}
        settings = own | self._settings
        self._processes[name] = subprocess.Popen(
            [sys.executable, "-m", "cli.main", *arguments], cwd=ROOT, env=os.environ | settings, stdout=log, stderr=log
        )

    def _start_both(self) -> None:
        self._start("api", "--port", str(self._port))
        self.start_worker()
        wait_until(self._api_answers, "the API")

    def _api_answers(self) -> bool:
        assert self._processes["api"].poll() is None, "the API ended while starting"
        try:
            return self.client.get("/livez").status_code == 200
        except httpx2.TransportError:
            return False
