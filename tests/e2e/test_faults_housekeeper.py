"""Expiry and the rest of what is periodic: done by one housekeeper, whoever dies."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from ms_jobs.outcomes import Gone
from ms_jobs.records import JobState
from tests.e2e.fault_service import MODEL, FaultService
from tests.support.job_helpers import wait_until

pytestmark = pytest.mark.alone

LEASE = f"msd:housekeeper:{MODEL}"
# The lease runs for five seconds, and who stands by asks for it every second.
TAKE_OVER_S = 10


@pytest.fixture
def service() -> Iterator[FaultService]:
    with FaultService(MSD_LIFETIME_S="2", MSD_STOP_GRACE_S="1") as service:
        service.start_redis()
        service.start_api()
        yield service


def status(service: FaultService, job_id: str) -> int:
    return service.http.get(f"/jobs/{job_id}").status_code


def holder(service: FaultService) -> int | None:
    """Process id of the supervisor that has the lease."""
    token = service.client.get(LEASE)
    return None if token is None else int(token.split(b":")[1])


def test_a_job_that_is_over_its_lifetime_is_gone_with_all_its_files(service: FaultService) -> None:
    service.start_worker()
    service.idle_worker()
    job_id = service.submit(num_inference_steps=1)
    ended_at = service.wait_for_end(job_id).ended_at
    assert ended_at is not None
    assert (status(service, job_id), service.http.get(f"/jobs/{job_id}/images/0").status_code) == (200, 200)
    wait_until(lambda: status(service, job_id) == 410, "the end of its lifetime", patience_s=20)
    assert time.time() - ended_at >= 2
    assert service.http.get(f"/jobs/{job_id}/images/0").status_code == 410
    files = (path for path in service.data_dir.rglob("*") if path.is_file())
    wait_until(lambda: not list(files), "the removal of its files", patience_s=5)
    mark = f"msd:gone:local:{job_id}"
    assert 6 * 24 * 3600 < service.client.ttl(mark) <= 7 * 24 * 3600
    service.client.pexpire(mark, 1)
    wait_until(lambda: status(service, job_id) == 404, "the end of the mark", patience_s=5)


def test_a_job_that_waits_for_longer_than_its_lifetime_expires(service: FaultService) -> None:
    service.start_worker()
    service.idle_worker()
    # Nobody takes jobs, but their supervisor looks after them.
    os.kill(service.idle_worker().pid, signal.SIGSTOP)
    # The worker's question for a job is still open for a second.
    time.sleep(2)
    job_id = service.submit()
    record = service.wait_for_end(job_id)
    assert (record.state, record.attempt) == (JobState.EXPIRED, 0)
    assert service.client.llen(f"rq:queue:generate-{MODEL}") == 0
    assert service.client.exists(f"rq:job:{record.entry}") == 0
    wait_until(lambda: service.jobs.gone(job_id) is Gone.EXPIRED, "the end of its record", patience_s=20)


def test_one_supervisor_keeps_house_and_another_takes_over_when_it_dies_or_freezes(service: FaultService) -> None:
    supervisors = {process.pid: process for process in (service.start_worker(), service.start_worker())}
    first = wait_until(lambda: holder(service), "a housekeeper")
    seen = set()
    ends_at = time.monotonic() + 2
    while time.monotonic() < ends_at:
        seen.add(holder(service))
        time.sleep(0.05)
    assert seen == {first}
    (second,) = supervisors.keys() - {first}
    os.kill(first, signal.SIGSTOP)
    wait_until(lambda: holder(service) == second, "the other to take over", patience_s=TAKE_OVER_S)
    os.kill(first, signal.SIGCONT)
    time.sleep(1)
    assert holder(service) == second
    supervisors[second].kill()
    wait_until(lambda: holder(service) == first, "the first to take over again", patience_s=TAKE_OVER_S)
    job_id = service.submit(num_inference_steps=1)
    wait_until(lambda: status(service, job_id) == 410, "a job that ran and is over its lifetime", patience_s=30)
