"""The API process is killed while it accepts jobs: what was answered exists and ends, what was not leaves nothing."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator

import httpx2
import pytest

from ms_jobs.connection import redis_client
from ms_jobs.records import JobState
from tests.e2e.fault_service import MODEL, SMALL, FaultService
from tests.support.job_helpers import wait_until
from tests.support.sample_requests import good_request
from worker.housekeeper import Housekeeper

CLIENTS = 8


@pytest.fixture
def service() -> Iterator[FaultService]:
    with FaultService(MSD_BENCH_STEP_S="0") as service:
        yield service.start()


class Client:
    """Sends requests one after the other, every second one with a key, until the API is gone."""

    def __init__(self, service: FaultService, name: str) -> None:
        self._service = service
        self._name = name
        self.accepted: dict[str, str | None] = {}
        self.unanswered: str | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        with httpx2.Client(base_url=self._service.http.base_url, timeout=60, trust_env=False) as http:
            for number in range(10_000):
                key = f"{self._name}-{number}" if number % 2 else None
                try:
                    answer = ask(http, key)
                except httpx2.TransportError:
                    self.unanswered = key
                    return
                # 200 where the job has ended by the time of the answer.
                assert answer.status_code in (200, 202), answer.text
                self.accepted[answer.json()["id"]] = key


def ask(http: httpx2.Client, key: str | None) -> httpx2.Response:
    headers = {} if key is None else {"Idempotency-Key": f'"{key}"'}
    return http.post("/generate", json=good_request(**SMALL, num_inference_steps=1), headers=headers)


def clear_leftovers(service: FaultService) -> list[str]:
    """What the housekeeper does after a while, at once."""
    client = redis_client(service.proxy.url)
    housekeeper = Housekeeper(client, service.artifacts, MODEL, service.worker_settings())
    try:
        return housekeeper.clear_leftovers(age_s=0)
    finally:
        client.close()


@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.faults)])
def test_the_api_is_killed_while_it_accepts_jobs(service: FaultService, kills: int) -> None:
    moments = random.Random(4)
    accepted: dict[str, str | None] = {}
    repeated: list[str] = []
    for round_number in range(kills):
        clients = [Client(service, f"round-{round_number}-client-{number}") for number in range(CLIENTS)]
        wait_until(lambda clients=clients: any(client.accepted for client in clients), "jobs that are accepted")
        time.sleep(moments.uniform(0, 0.4))
        service.kill_api()
        for client in clients:
            client.join()
            accepted |= client.accepted
        service.start_api()
        # What got no answer is asked again, with its key: it is one job, whether the API had queued it or not.
        for key in filter(None, (client.unanswered for client in clients)):
            first, second = (ask(service.http, key).json()["id"] for _ in range(2))
            assert first == second
            repeated.append(first)
    assert len(accepted) > 2 * kills
    assert repeated
    assert len({*accepted, *repeated}) == len(accepted) + len(repeated)
    for job_id in (*accepted, *repeated):
        assert service.wait_for_end(job_id).state is JobState.SUCCEEDED
    # Jobs that were queued and not answered end too.
    wait_until(lambda: not service.jobs.active(MODEL), "the end of every job")
    wait_until(lambda: not service.client.exists(f"rq:wip:generate-{MODEL}"), "RQ, which ends a job after us")
    clear_leftovers(service)
    known = {record.folder for record in (service.record(job_id) for job_id, _ in service.jobs.ids(limit=100_000))}
    owner_dir = service.data_dir / "local"
    assert {path.name for path in (owner_dir / "jobs").iterdir()} == known
    assert not [path for path in service.data_dir.rglob("*") if path.name.startswith(".") or path.suffix == ".part"]
    assert all(path.stat().st_nlink > 1 for path in (owner_dir / "pictures").iterdir())
    assert service.client.llen(f"rq:queue:generate-{MODEL}") == 0
    wait_until(lambda: not service.client.keys("rq:job:*"), "the end of RQ's own records")


def test_a_folder_whose_job_was_never_accepted_is_cleared_and_others_stay(service: FaultService) -> None:
    job_id = service.submit(num_inference_steps=1)
    service.wait_for_end(job_id)
    wait_until(lambda: not service.client.keys("rq:job:*"), "the end of RQ's own records")
    files = {path for path in (service.data_dir / "local").rglob("*") if path.is_file()}
    with service.artifacts.new_folder("never-accepted-job") as folder:
        folder.save_picture(b"of a request that was never answered")
    half_written = service.data_dir / "local" / "pictures" / ".half.part"
    half_written.write_bytes(b"half")
    cleared = clear_leftovers(service)
    assert {folder.name, ".half.part"} <= set(cleared)
    assert {path for path in (service.data_dir / "local").rglob("*") if path.is_file()} == files
    assert clear_leftovers(service) == []
