"""The artifact store is full: a clear failure, nothing half, and everything works again once there is room."""

from __future__ import annotations

import io
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from ms_jobs.records import JobState
from tests.e2e.fault_service import FaultService
from tests.support.job_helpers import wait_until
from tests.support.sample_requests import picture_uri

VOLUME_MB = 16


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small file system of its own."""
    folder = tmp_path_factory.mktemp("volume")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={VOLUME_MB}m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root can mount a small file system here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="module")
def service(volume: Path) -> Iterator[FaultService]:
    """Its files lie on the small volume; what Redis writes lies elsewhere."""
    with FaultService(volume / "data", MSD_MIN_FREE_DISK_MB="2") as service:
        yield service.start()


class Filler:
    """A file that leaves no more room on the volume than is wanted."""

    def __init__(self, volume: Path) -> None:
        self._volume = volume
        self._path = volume / "filler"

    def leave(self, wanted: int) -> None:
        """Leave ``wanted`` bytes, or a little less."""
        with self._path.open("ab") as file:
            while (free := self._free()) > wanted:
                try:
                    file.write(bytes(min(free - wanted, 1 << 20)))
                    file.flush()
                except OSError:
                    return

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)

    def _free(self) -> int:
        state = os.statvfs(self._volume)
        return state.f_bavail * state.f_frsize


@pytest.fixture
def filler(volume: Path) -> Iterator[Filler]:
    filler = Filler(volume)
    yield filler
    filler.remove()


def files_of(service: FaultService) -> set[Path]:
    return {path for path in service.data_dir.rglob("*") if path.is_file()}


def assert_works(service: FaultService) -> None:
    wait_until(lambda: service.http.get("/readyz").status_code == 200, "a service that is ready")
    job_id = service.submit(num_inference_steps=1)
    assert service.wait_for_end(job_id).state is JobState.SUCCEEDED
    assert service.http.get(f"/jobs/{job_id}/images/0").status_code == 200


def assert_refused(service: FaultService, **changes: object) -> None:
    """Nothing is accepted, and nothing of it stays."""
    files, jobs = files_of(service), service.jobs.ids()
    answer = service.post(**changes)
    assert (answer.status_code, answer.json()["code"]) == (503, "storage_full")
    assert int(answer.headers["retry-after"]) >= 1
    assert (files_of(service), service.jobs.ids()) == (files, jobs)
    assert service.client.llen("rq:queue:generate-mini") == 0


def test_nothing_is_accepted_when_little_room_is_left(service: FaultService, filler: Filler) -> None:
    assert_works(service)
    filler.leave(1 << 20)
    assert_refused(service)
    ready = service.http.get("/readyz")
    storage = ready.json()["checks"]["storage"]
    assert (ready.status_code, storage["ok"]) == (503, False)
    assert "full" in storage["detail"]
    filler.remove()
    assert_works(service)


def test_a_request_that_does_not_fit_leaves_nothing(volume: Path, filler: Filler) -> None:
    """With no watermark the store fills up in the midst of a request."""
    noise = Image.frombytes("RGB", (512, 512), os.urandom(512 * 512 * 3))
    subject = {"phrase": "cat", "image": picture_uri(noise), "box": [0.05, 0.3, 0.45, 0.8]}
    with FaultService(volume / "unwatched", MSD_MIN_FREE_DISK_MB="0") as service:
        service.start()
        assert_works(service)
        filler.leave(1 << 19)
        assert_refused(service, subjects=[subject])
        filler.remove()
        assert_works(service)


def test_a_picture_that_does_not_fit_fails_its_job(service: FaultService, filler: Filler) -> None:
    pid = service.idle_worker().pid
    job_id = service.submit(num_inference_steps=20)
    service.wait_for_step(job_id)
    filler.leave(0)
    answers = []

    def ended() -> bool:
        answers.append(service.http.get(f"/jobs/{job_id}/images/0"))
        return service.record(job_id).state.ended

    wait_until(ended, "the end of the job")
    record = service.record(job_id)
    assert (record.state, record.images, record.attempt) == (JobState.FAILED, (), 1)
    assert record.error is not None
    assert record.error.code == "storage_full"
    assert record.error.detail.endswith(".")
    assert {answer.status_code for answer in answers} == {404}
    attempts = service.data_dir / "local" / "jobs" / record.folder / "attempts"
    assert not [path for path in attempts.rglob("*") if path.is_file()]
    filler.remove()
    assert_works(service)
    assert service.idle_worker().pid == pid


def test_pictures_are_served_whole_or_not_at_all_while_room_comes_and_goes(
    service: FaultService, filler: Filler
) -> None:
    seen = 0
    for room in (0, 4 << 10, 8 << 10, 16 << 10, 3 << 20):
        job_id = service.submit(num_inference_steps=4, num_images=4)
        service.wait_for_step(job_id)
        filler.leave(room)
        wait_until(lambda job_id=job_id: service.record(job_id).state.ended, "the end of the job")
        images = [service.http.get(f"/jobs/{job_id}/images/{index}") for index in range(4)]
        filler.remove()
        whole = service.record(job_id).state is JobState.SUCCEEDED
        assert [image.status_code for image in images] == [200 if whole else 404] * 4
        for image in images if whole else ():
            Image.open(io.BytesIO(image.content)).load()
            seen += 1
    assert seen >= 4


def test_redis_cannot_write_either(volume: Path, filler: Filler) -> None:
    """All on one full volume, as ``msd up`` has it: nothing can be written, no job can end, until there is room."""
    with FaultService(volume / "together", volume, MSD_MIN_FREE_DISK_MB="0") as service:
        service.start()
        pid = service.idle_worker().pid
        job_id = service.submit(num_inference_steps=20)
        service.wait_for_step(job_id)
        filler.leave(0)
        wait_until(lambda: service.post().status_code == 503, "a refusal")
        answer = service.post()
        assert answer.status_code == 503
        assert answer.json()["code"] in ("storage_full", "queue_unavailable")
        assert int(answer.headers["retry-after"]) >= 1
        # Longer than the job takes, so that its end meets a Redis that takes nothing.
        time.sleep(3)
        assert service.http.get(f"/jobs/{job_id}").json()["status"] == "running"
        filler.remove()
        record = service.wait_for_end(job_id)
        assert (record.state, record.attempt) == (JobState.FAILED, 1)
        assert record.error is not None
        assert record.error.code == "storage_full"
        assert_works(service)
        assert service.idle_worker().pid == pid
