"""Jobs for tests of the worker: stored and queued as the API does it, without the API."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from redis import Redis

from ms_core.spec import Box, Subject
from ms_jobs.artifacts import ArtifactStore
from ms_jobs.job_request import JobRequest
from ms_jobs.job_store import JobStore
from ms_jobs.outcomes import CreateOutcome
from ms_jobs.queue import JobQueue
from ms_jobs.records import JobRecord, new_job_id
from ms_jobs.registry import Registry
from tests.support.known_pictures import KnownPictures

PATIENCE_S = 120.0


def wait_until(condition: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
    """Ask again and again until ``condition`` gives something true, and return that."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        result = condition()
        if result:
            return result
        time.sleep(0.02)
    raise AssertionError(f"waited {patience_s:g} s in vain for {what}")


def picture_png(color: tuple[int, int, int] = (200, 60, 30)) -> bytes:
    """A square of this colour on grey."""
    picture, buffer = Image.new("RGB", (32, 32), "grey"), io.BytesIO()
    picture.paste(color, (8, 8, 24, 24))
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def picture_sha256() -> str:
    """The name under which a stored request finds ``picture_png()``."""
    return hashlib.sha256(picture_png()).hexdigest()


PICTURES = KnownPictures(picture_png())
# The one that jobs have unless they name others.
PICTURE = PICTURES.opened[picture_sha256()]


@dataclass(frozen=True)
class Desk:
    """Hands in jobs of one model and looks at them."""

    client: Redis
    jobs: JobStore
    registry: Registry
    queue: JobQueue
    artifacts: ArtifactStore
    model: str

    @classmethod
    def open(cls, redis_url: str, data_dir: Path, model: str) -> Desk:
        client = Redis.from_url(redis_url)
        return cls(client, JobStore(client), Registry(client), JobQueue(client, model), ArtifactStore(data_dir), model)

    def request(self, **values: Any) -> JobRequest:
        subject = Subject("cat", PICTURE, Box(0.1, 0.1, 0.6, 0.9))
        defaults: dict[str, Any] = {"prompt": "a cat on the beach", "subjects": (subject,), "seed": 7}
        return JobRequest(model=self.model, **{**defaults, **values})

    def record(self, **values: Any) -> str:
        """A stored request and its record, in no queue; returns the job's id."""
        request = self.request(**values)
        job_id = new_job_id()
        with self.artifacts.new_folder(job_id) as folder:
            folder.save_picture(picture_png())
            folder.save_request(request, PICTURES)
        record = JobRecord(
            id=job_id, model=self.model, folder=folder.name, seed=request.seed, num_images=request.num_images
        )
        assert self.jobs.create(record) == (CreateOutcome.CREATED, job_id)
        return job_id

    def submit(self, **values: Any) -> str:
        """A job as the API hands it in; returns its id."""
        job_id = self.record(**values)
        self.queue.put_first(self.get(job_id))
        return job_id

    def begin(self, job_id: str, worker: str = "w1") -> JobRecord:
        """Take a job as a worker does."""
        self.client.delete(f"rq:queue:generate-{self.model}")
        record = self.jobs.begin(job_id, worker, "cpu")
        assert record is not None
        return record

    def image(self, job_id: str, index: int = 0) -> bytes:
        """The bytes of a finished picture."""
        record = self.get(job_id)
        return self.artifacts.load_image(record.folder, record.files_attempt, index)

    def get(self, job_id: str) -> JobRecord:
        record = self.jobs.get(job_id)
        assert record is not None
        return record

    def wait_for_end(self, job_id: str) -> JobRecord:
        wait_until(lambda: self.get(job_id).state.ended, f"the end of job {job_id}")
        return self.get(job_id)

    def wait_for_step(self, job_id: str) -> JobRecord:
        wait_until(lambda: (self.get(job_id).step or 0) >= 1, f"the first step of job {job_id}")
        return self.get(job_id)
