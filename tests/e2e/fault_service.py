"""The real service for tests of faults: Redis behind a proxy, ``msd api`` and ``msd worker``, each its own process.

Its workers sleep instead of computing, so they start in a moment: what is tested is everything around them.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2
import redis

from ms_jobs.artifacts import ArtifactStore
from ms_jobs.job_store import JobStore
from ms_jobs.records import JobRecord, WorkerRecord, WorkerState
from ms_jobs.registry import Registry
from tests.support.job_helpers import wait_until
from tests.support.sample_requests import good_request
from tests.support.service_processes import end, environment, free_port, msd
from tests.support.socket_proxy import SocketProxy
from worker.config import WorkerSettings
from worker.redis_server import find_redis_binary

MODEL = "mini"
SMALL = {"width": 64, "height": 64}
RUNTIME = "benchmarks.sleeping_runtime:SleepingRuntime"
# A request of the API must be answered within this time, whatever Redis does.
ANSWER_PATIENCE_S = 10.0


class FaultService:
    """One service in a folder of its own; leaving the block ends all its processes and removes the folder."""

    def __init__(
        self, data_dir: Path | None = None, redis_dir: Path | None = None, model: str = MODEL, **settings: str
    ) -> None:
        """Nothing runs yet; ``model`` is a name or a directory, ``settings`` are environment variables of API and workers."""
        self._model = model
        self._exit = ExitStack()
        # Short, for the path of a socket must be.
        self.folder = Path(tempfile.mkdtemp(prefix="msd-faults-", dir="/tmp"))
        self._exit.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.data_dir = data_dir or self.folder / "data"
        self._redis_dir = redis_dir or self.folder
        self._socket = self.folder / "redis.sock"
        self._redis: subprocess.Popen[bytes] | None = None
        self._api: subprocess.Popen[bytes] | None = None
        self._workers: list[subprocess.Popen[bytes]] = []
        self._port = free_port()
        self._settings = {"MSD_RUNTIME": RUNTIME, "MSD_DEVICE": "cpu", "MSD_BENCH_STEP_S": "0.2", **settings}
        self.proxy = SocketProxy(self._socket)
        self.http = httpx2.Client(base_url=f"http://127.0.0.1:{self._port}", timeout=60, trust_env=False)
        # Past the proxy: what a test sees is what there is.
        self.client = redis.Redis(unix_socket_path=str(self._socket))
        self.jobs = JobStore(self.client)
        self.registry = Registry(self.client)
        self.artifacts = ArtifactStore(self.data_dir)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            for process in (*self._workers, self._api, self._redis):
                if process is not None:
                    end(process)
            self.proxy.stop()
            self.http.close()
            self.client.close()
        finally:
            self._exit.close()

    def start(self) -> Self:
        """Start everything, with one worker, and wait until it is idle."""
        self.start_redis()
        self.start_api()
        self.start_worker()
        self.idle_worker()
        return self

    @property
    def model(self) -> str:
        """The name of the model."""
        return Path(self._model).name

    def start_redis(self) -> None:
        """Start Redis; what it had on disk is read back."""
        options = ["--port", "0", "--unixsocket", self._socket, "--dir", self._redis_dir, "--appendonly", "yes"]
        self._redis = self._start("redis", [str(item) for item in (find_redis_binary(), *options, "--save", "")])
        wait_until(self._redis_answers, "an answer of Redis")

    def kill_redis(self) -> None:
        assert self._redis is not None
        self._redis.kill()
        self._redis.wait()

    def start_api(self) -> None:
        self._api = self._start_msd("api", "--port", self._port)
        wait_until(self._api_answers, "an answer of the API")

    def kill_api(self) -> None:
        assert self._api is not None
        self._api.kill()
        self._api.wait()

    def start_worker(self) -> subprocess.Popen[bytes]:
        """One more supervisor with one worker."""
        self._workers.append(self._start_msd("worker"))
        return self._workers[-1]

    def idle_worker(self) -> WorkerRecord:
        """A worker that waits for jobs, as soon as there is one."""

        def idle() -> list[WorkerRecord]:
            return [worker for worker in self.registry.workers(self.model) if worker.state is WorkerState.IDLE]

        return wait_until(idle, "an idle worker")[0]

    def post(self, headers: dict[str, str] | None = None, **changes: Any) -> httpx2.Response:
        """Ask for a picture; ``num_inference_steps`` tells how long it takes, at 20 steps a second."""
        begun = time.monotonic()
        answer = self.http.post("/generate", json=good_request(**{**SMALL, **changes}), headers=headers)
        assert time.monotonic() - begun < ANSWER_PATIENCE_S
        return answer

    def submit(self, **changes: Any) -> str:
        """A job that must be accepted; returns its id."""
        answer = self.post(**changes)
        # 200 where the job has ended by the time of the answer.
        assert answer.status_code in (200, 202), answer.text
        return answer.json()["id"]

    def record(self, job_id: str) -> JobRecord:
        record = self.jobs.get(job_id)
        assert record is not None
        return record

    def wait_for(self, job_id: str, condition: Callable[[JobRecord], Any], what: str) -> JobRecord:
        wait_until(lambda: condition(self.record(job_id)), f"{what} of job {job_id}")
        return self.record(job_id)

    def wait_for_step(self, job_id: str) -> JobRecord:
        return self.wait_for(job_id, lambda record: record.step, "the first step")

    def wait_for_end(self, job_id: str) -> JobRecord:
        return self.wait_for(job_id, lambda record: record.state.ended, "the end")

    def manifest_is_stored(self, record: JobRecord) -> bool:
        return self.artifacts.load_manifest(record.folder, record.attempt) is not None

    def worker_settings(self) -> WorkerSettings:
        """As the supervisors have them."""
        names = {name.removeprefix("MSD_").lower(): value for name, value in self._settings.items()}
        known = {name: value for name, value in names.items() if name in WorkerSettings.model_fields}
        return WorkerSettings(**{**known, "data_dir": self.data_dir})

    def log(self, name: str) -> str:
        """What the processes of this name wrote."""
        return (self.folder / f"{name}.log").read_text()

    def _start_msd(self, command: str, *options: object) -> subprocess.Popen[bytes]:
        return self._start(command, msd(command, "--model", self._model, "--data", self.data_dir, *options))

    def _start(self, name: str, argv: list[str]) -> subprocess.Popen[bytes]:
        values = environment(MSD_REDIS_URL=self.proxy.url, **self._settings)
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(argv, env=values, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def _redis_answers(self) -> bool:
        try:
            return self.client.ping()
        except redis.RedisError:
            return False

    def _api_answers(self) -> bool:
        assert self._api is not None
        assert self._api.poll() is None, "the API ended while starting"
        try:
            return self.http.get("/livez").status_code == 200
        except httpx2.TransportError:
            return False
