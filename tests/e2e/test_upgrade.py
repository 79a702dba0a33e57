"""The present service on the Redis and the data folder that release 95c17de left, see ``tests/golden/README.md``."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image

from tests.support.event_source import Event, read_events, read_lines
from tests.support.job_helpers import wait_until
from tests.support.paths import GOLDEN
from tests.support.service_processes import free_port, running_msd

pytestmark = pytest.mark.slow

ARCHIVE = GOLDEN / "service_95c17de.tar.gz"
UNFINISHED = ("queued", "queued_second", "killed")
PATIENCE_S = 240.0


# Why a job expired is not stored in words.
WRITTEN_WHEN_ASKED = ("start_deadline_passed", "waited_too_long")


@dataclass(frozen=True)
class Upgraded:
    """The present service, and what it was found to say before any test changed something.

    Attributes:
        then: the answers of 95c17de, and the ids of its jobs by their roles.
        listed: all jobs as ``GET /jobs`` lists them.
        pictures: of the jobs that had succeeded then, by their addresses.
        events: of the jobs that had ended then, by their ids.
    """

    data_dir: Path
    client: httpx2.Client
    then: dict[str, Any]
    listed: list[dict[str, Any]]
    pictures: dict[str, bytes]
    events: dict[str, list[Event]]

    def id_of(self, role: str) -> str:
        return self.then["ids"][role]

    def job(self, job_id: str) -> dict[str, Any]:
        return self.client.get(f"/jobs/{job_id}").json()

    def wait_for_end(self, job_id: str) -> dict[str, Any]:
        def has_ended() -> bool:
            return self.job(job_id)["status"] not in ("queued", "running")

        wait_until(has_ended, f"the end of job {job_id}", PATIENCE_S)
        return self.job(job_id)

    def ended_then(self) -> dict[str, dict[str, Any]]:
        """The jobs that had ended, as 95c17de told them, by their ids."""
        return {job["id"]: job for job in self.then["jobs"] if job["status"] not in ("queued", "running")}


@pytest.fixture(scope="module")
def upgraded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upgraded]:
    root = tmp_path_factory.mktemp("upgrade")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(root, filter="data")
    folder = root / "service_95c17de"
    then = json.loads((folder / "answers.json").read_text())
    port = free_port()
    arguments = ("up", "--model", "mini", "--data", folder / "data", "--port", port)
    # As it was set then: with the usual day nothing of these jobs would be left.
    settings = {"MSD_DEVICE": "cpu", "MSD_LIFETIME_S": str(then["lifetime_s"])}
    with (
        running_msd(*arguments, **settings) as process,
        httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client,
    ):
        assert process.stdout is not None
        assert process.stdout.readline().startswith("msd is up")
        yield first_look(folder / "data", client, then)


def first_look(data_dir: Path, client: httpx2.Client, then: dict[str, Any]) -> Upgraded:
    listed = client.get("/jobs", params={"limit": 100}).json()["jobs"]
    urls = [image["url"] for job in then["jobs"] for image in job["images"]]
    pictures = {url: client.get(url).content for url in urls}
    events = {job_id: events_of(client.get(f"/jobs/{job_id}/events").text) for job_id in then["events"]}
    return Upgraded(data_dir, client, then, listed, pictures, events)


def events_of(text: str) -> list[Event]:
    return list(read_events(read_lines([text])))


def part_known_then(now: Any, then: Any) -> Any:
    """``now`` without the fields that 95c17de did not have; sentences that are written when asked may be reworded."""
    if isinstance(now, dict) and isinstance(then, dict):
        reworded = {"title", "detail"} if then.get("code") in WRITTEN_WHEN_ASKED else {"title"}
        return {
            name: then[name] if name in reworded else part_known_then(value, then[name])
            for name, value in now.items()
            if name in then
        }
    if isinstance(now, list) and isinstance(then, list) and len(now) == len(then):
        return [part_known_then(*pair) for pair in zip(now, then, strict=True)]
    return now


def test_the_saved_jobs_are_in_every_state(upgraded: Upgraded) -> None:
    states = {job["status"] for job in upgraded.then["jobs"]}
    assert states == {"queued", "running", "succeeded", "failed", "canceled", "expired"}


def test_every_job_is_listed_as_it_ended(upgraded: Upgraded) -> None:
    assert [job["id"] for job in upgraded.listed] == [job["id"] for job in upgraded.then["jobs"]]
    now = {job["id"]: job for job in upgraded.listed}
    for job_id, then in upgraded.ended_then().items():
        assert part_known_then(now[job_id], then) == then
    # Perhaps made already.
    states = {now[upgraded.id_of(role)]["status"] for role in UNFINISHED}
    assert states <= {"queued", "running", "succeeded"}


def test_finished_pictures_are_the_same_bytes(upgraded: Upgraded) -> None:
    images = [image for job in upgraded.then["jobs"] for image in job["images"]]
    assert len(images) == 6
    for image in images:
        assert hashlib.sha256(upgraded.pictures[image["url"]]).hexdigest() == image["sha256"]


def test_what_the_model_saw_of_a_subject_is_shown(upgraded: Upgraded) -> None:
    (reference,) = upgraded.ended_then()[upgraded.id_of("cutout_and_mask")]["references"]
    (saved,) = upgraded.data_dir.glob("local/jobs/*/attempts/1/reference-0.png")
    assert upgraded.client.get(reference["url"]).content == saved.read_bytes()


def test_the_events_of_ended_jobs_are_told_as_before(upgraded: Upgraded) -> None:
    assert upgraded.events.keys() == upgraded.ended_then().keys()
    for job_id, text in upgraded.then["events"].items():
        now, then = upgraded.events[job_id], events_of(text)
        assert [(event.name, event.version) for event in now] == [(event.name, event.version) for event in then]
        assert part_known_then([event.data for event in now], [event.data for event in then]) == [
            event.data for event in then
        ]


def test_what_was_counted_is_still_counted(upgraded: Upgraded) -> None:
    """Of failed, canceled and expired jobs, of which no more come."""
    lines = upgraded.client.get("/metrics").text.splitlines()
    assert upgraded.then["metrics"]
    assert [line for line in upgraded.then["metrics"] if line not in lines] == []


def test_a_client_that_repeats_its_request_gets_its_job(upgraded: Upgraded) -> None:
    saved = upgraded.then["repeatable"]
    headers = {"Idempotency-Key": saved["idempotency_key"]}
    answer = upgraded.client.post("/generate", json=saved["body"], headers=headers)
    assert (answer.status_code, answer.headers["Idempotency-Replayed"]) == (200, "true"), answer.text
    assert answer.json()["id"] == saved["id"]


@pytest.mark.parametrize(("role", "attempt", "images"), [("queued", 1, 2), ("queued_second", 1, 1), ("killed", 2, 1)])
def test_what_was_not_finished_is_made(upgraded: Upgraded, role: str, attempt: int, images: int) -> None:
    """Also the job whose worker was killed: that was its first attempt."""
    job = upgraded.wait_for_end(upgraded.id_of(role))
    assert (job["status"], job["attempt"], len(job["images"])) == ("succeeded", attempt, images), job["error"]
    for image in job["images"]:
        png = upgraded.client.get(image["url"]).content
        assert hashlib.sha256(png).hexdigest() == image["sha256"]
        assert Image.open(io.BytesIO(png)).size == (128, 128)
        if role == "queued":
            assert [score["subject"] for score in image["score"]["subjects"]] == [0, 1]


def test_an_old_job_runs_once_more(upgraded: Upgraded) -> None:
    old = upgraded.id_of("cutout_and_mask")
    answer = upgraded.client.post(f"/jobs/{old}/retry")
    assert answer.status_code == 202, answer.text
    job = upgraded.wait_for_end(answer.json()["id"])
    assert (job["status"], job["retried_from"], job["seed"]) == ("succeeded", old, 4), job["error"]
    assert [reference["subject"] for reference in job["references"]] == [0]


def test_an_old_job_is_deleted_and_leaves_others_their_pictures(upgraded: Upgraded) -> None:
    job_id = upgraded.id_of("retried")
    (folder,) = upgraded.data_dir.glob(f"local/jobs/{job_id}.*")
    shared = {path.name for path in (folder / "pictures").iterdir()}
    assert upgraded.client.delete(f"/jobs/{job_id}").status_code == 204
    assert upgraded.client.get(f"/jobs/{job_id}").status_code == 410
    assert list(upgraded.data_dir.glob(f"local/jobs/*{job_id}*")) == []
    assert shared <= {path.name for path in (upgraded.data_dir / "local" / "pictures").iterdir()}
    assert upgraded.job(upgraded.id_of("plain"))["status"] == "succeeded"
