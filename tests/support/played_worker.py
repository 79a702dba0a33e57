"""A worker for tests of the API: it does to jobs what a worker does, and makes no pictures of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from PIL import Image
from redis import Redis

from ms_jobs.artifacts import ArtifactStore, Manifest
from ms_jobs.job_request import JobRequest, job_document
from ms_jobs.job_store import JobStore
from ms_jobs.keys import queue_name
from ms_jobs.records import JobError, JobRecord, JobState, StoredImage
from ms_jobs.result_files import FILE_FORMATS, OutputFormat
from tests.support.sample_requests import encoded

RED = Image.new("RGB", (16, 8), "red")
PNG = encoded(RED)
RESULTS: dict[OutputFormat, bytes] = {"png": PNG, "webp": encoded(RED, "WEBP"), "jpeg": encoded(RED, "JPEG")}


@dataclass(frozen=True)
class PlayedWorker:
    """Takes jobs by their ids, whatever their place in the queue."""

    client: Redis
    jobs: JobStore
    artifacts: ArtifactStore

    def record(self, job_id: str) -> JobRecord:
        record = self.jobs.get(job_id)
        assert record is not None
        return record

    def request(self, job_id: str) -> JobRequest:
        return self.artifacts.load_request(self.record(job_id).folder)

    def document(self, job_id: str) -> dict[str, Any]:
        """The request as it is stored: pictures by their SHA-256."""
        pictures = self.artifacts.pictures_of(self.record(job_id).folder)
        return job_document(self.artifacts.load_request(self.record(job_id).folder, pictures), pictures)

    def picture_names(self, job_id: str) -> frozenset[str]:
        pictures = self.artifacts.pictures_of(self.record(job_id).folder)
        self.artifacts.load_request(self.record(job_id).folder, pictures)
        return pictures.names

    def picture(self, job_id: str, sha256: str) -> Image.Image:
        return self.artifacts.load_picture(self.record(job_id).folder, sha256)

    def begin(self, job_id: str) -> JobRecord:
        record = self.record(job_id)
        self.client.lrem(f"rq:queue:{queue_name(record.model)}", 0, record.entry)
        begun = self.jobs.begin(job_id, "w1", "cpu")
        assert begun is not None
        assert self.artifacts.open_attempt(begun.folder, begun.attempt) is None
        return begun

    def progress(self, job_id: str, **fields: Any) -> None:
        self.jobs.progress(job_id, self.record(job_id).attempt, **fields)

    def save_reference(self, job_id: str, subject: int, png: bytes = PNG) -> None:
        record = self.record(job_id)
        self.artifacts.save_reference(record.folder, record.attempt, subject, png)

    def store(self, job_id: str, output_format: OutputFormat = "png") -> Manifest:
        """Keep the pictures of a job that has begun; the job goes on."""
        record = self.record(job_id)
        media_type = FILE_FORMATS[output_format].media_type
        sha256 = self.artifacts.save_image(record.folder, record.attempt, 0, RESULTS[output_format], media_type)
        image = StoredImage(index=0, sha256=sha256, width=16, height=8, seed=record.seed, content_type=media_type)
        manifest = Manifest(attempt=record.attempt, images=(image,))
        self.artifacts.save_manifest(record.folder, manifest)
        return manifest

    def succeed(self, job_id: str, output_format: OutputFormat = "png") -> bytes:
        """Take a job to its end; returns its picture."""
        self.begin(job_id)
        manifest = self.store(job_id, output_format)
        self.finish(job_id, JobState.SUCCEEDED, images=manifest.images, result_attempt=manifest.attempt)
        return RESULTS[output_format]

    def fail(self, job_id: str, error: JobError | None = None) -> None:
        """Take a job to a bad end."""
        self.begin(job_id)
        detail = "Ask for a smaller picture."
        self.finish(job_id, JobState.FAILED, error=error or JobError(code="device_out_of_memory", detail=detail))

    def finish(self, job_id: str, state: JobState, **fields: Any) -> JobState | None:
        return self.jobs.finish(job_id, self.record(job_id).attempt, state, **fields)
