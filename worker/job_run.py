"""Runs one attempt at one job: begins it, makes and stores its pictures, records its end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from PIL import Image
from redis.exceptions import RedisError
from structlog.contextvars import bound_contextvars

from ms_core.config import ModelCard
from ms_core.errors import AttemptOverError, DeviceLostError, MSDiffusionError, UnreadableJobError
from ms_core.spec import GenerationSpec, GenerationWarning, Subject
from ms_jobs.artifacts import ArtifactStore, Manifest
from ms_jobs.assets import DEFAULT_ASSET_LIFETIME_S
from ms_jobs.connection import describe, persist
from ms_jobs.job_request import JobRequest, job_document
from ms_jobs.job_store import JobStore
from ms_jobs.keys import JobKey
from ms_jobs.outcomes import ProgressReply, Requeue
from ms_jobs.queue import JobQueue
from ms_jobs.records import (
    JobError,
    JobRecord,
    JobState,
    PictureScore,
    StoredImage,
    WorkerState,
)
from ms_jobs.result_files import FILE_FORMATS, encode, png_of
from worker.config import WorkerSettings
from worker.deadline import Deadline, JobTimeout
from worker.heartbeat import Heartbeat
from worker.live_previews import LivePreviews
from worker.logs import error_fields
from worker.recovery import FILES_CLOSED, out_of_attempts
from worker.telemetry import PhaseTimes, Telemetry

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 8.0


@dataclass(frozen=True, slots=True)
class Report:
    """Progress of a job: ``step`` of ``steps`` denoising steps are done.

    Attributes:
        preview: draws a small WebP of the first picture as it is now; valid until the next report.
    """

    phase: str
    step: int | None = None
    steps: int | None = None
    warnings: tuple[GenerationWarning, ...] = ()
    preview: Callable[[], bytes] | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """A finished picture.

    Attributes:
        seed: as ``ms_core.sampling.events.Generation`` has it; ``None``: the spec's.
        score: only if the spec has ``score``.
    """

    image: Image.Image
    warnings: tuple[GenerationWarning, ...] = ()
    seed: int | None = None
    score: PictureScore | None = None


class Runtime(Protocol):
    """Makes the pictures; in production ``worker.runtime.PipelineRuntime``."""

    device: str

    def run(self, specs: list[GenerationSpec]) -> Generator[Report | list[Picture]]:
        """Make one picture for each spec; yields reports, then the pictures."""
        ...

    def preview(self, subject: Subject) -> Image.Image:
        """Draw what the model sees of a subject's pictures."""
        ...

    def recipe(self, spec: GenerationSpec) -> dict[str, Any]:
        """Get the rest of a picture's recipe: the model, the values in force, versions."""
        ...


class LoadedRuntime(Runtime, Protocol):
    """A runtime that loads itself: the class that ``MSD_RUNTIME`` names."""

    @classmethod
    def setup(cls, settings: WorkerSettings, directory: Path, device: str) -> Self:
        """Load the model of ``directory``; ``device`` is the device's name in job records."""
        ...

    @property
    def card(self) -> ModelCard:
        """The model's card."""
        ...

    @property
    def memory_mode(self) -> str:
        """Which parts of the model stay on the device, see ``ms_core.device.modes``."""
        ...


class JobCanceled(BaseException):
    """The job's cancel was requested."""


class JobTaken(BaseException):
    """Another attempt has the job, by its record."""


class WorkerStopping(BaseException):
    """The worker was told to stop; the job is requeued."""


@dataclass(slots=True)
class WorkerContext:
    """State that all jobs of a worker process share.

    Attributes:
        job_timeout_s: longest time, in seconds, from the first encoding to the last pixel.
        jobs: for progress; with a short timeout.
        blocking_jobs: for the start and the end of a job; waits until Redis answers.
        asset_lifetime_s: how long an asset is kept after its last use.
        telemetry: stores how long jobs took; ``None``: nothing is stored.
        stopping: the worker was told to stop.
        device_lost: the process can no longer use its device.
        jobs_done: jobs that ended in this process.
    """

    name: str
    job_timeout_s: float
    jobs: JobStore
    blocking_jobs: JobStore
    queue: JobQueue
    artifacts: ArtifactStore
    heartbeat: Heartbeat
    runtime: Runtime
    asset_lifetime_s: float = DEFAULT_ASSET_LIFETIME_S
    telemetry: Telemetry | None = None
    stopping: bool = False
    device_lost: bool = False
    jobs_done: int = 0


class JobRun:
    """Runs one attempt at a job: ``run`` raises nothing, the result is in the job's record."""

    def __init__(self, context: WorkerContext, key: JobKey) -> None:
        self._context = context
        self._key = key
        self._jobs = context.jobs.for_owner(key.owner)
        self._blocking_jobs = context.blocking_jobs.for_owner(key.owner)
        self._artifacts = context.artifacts.for_owner(key.owner)
        self._record: JobRecord
        self._warnings: tuple[GenerationWarning, ...] = ()
        self._references: tuple[int, ...] = ()
        self._previews = LivePreviews(wanted=False)
        self._pause_s = 0.0
        self._silent_until = 0.0
        self._times = PhaseTimes()

    def run(self) -> None:
        """Begin the job if it is still queued, run it, and record its end."""
        begun = time.monotonic()
        context = self._context
        try:
            record = persist(lambda: self._blocking_jobs.begin(self._key.id, context.name, context.runtime.device))
        except UnreadableJobError as error:
            log.warning("job %s is left alone: %s", self._key, error.detail)
            return
        if record is None:
            log.info("job %s is no longer queued; skipped", self._key)
            return
        self._record = record
        self._warnings = record.warnings
        with bound_contextvars(
            request_id=record.request_id, job_id=record.id, attempt=record.attempt, worker=self._context.name
        ):
            log.info("job begun")
            ended = self._work()
            self._account(ended, time.monotonic() - begun)

    def _work(self) -> JobState | None:
        """Run the job, and record its end or requeue it; returns its new state, if this attempt changed it."""
        record = self._record
        self._context.heartbeat.enter("open", WorkerState.BUSY, self._key.id)
        try:
            manifest = self._artifacts.open_attempt(record.folder, record.attempt) or self._make()
        except JobTaken:
            log.warning("job is no longer this worker's")
        except AttemptOverError:
            log.warning("job's files are no longer this worker's")
            return self._requeue(Requeue.ATTEMPT_FAILED, FILES_CLOSED)
        except JobCanceled:
            return self._end(JobState.CANCELED)
        except WorkerStopping:
            return self._requeue(Requeue.WORKER_STOPPING, device_lost_error())
        except DeviceLostError as error:
            log.critical("device lost", extra=error_fields(error))
            self._context.device_lost = True
            self._context.heartbeat.enter("record", WorkerState.DEFUNCT, self._key.id)
            return self._requeue(Requeue.ATTEMPT_FAILED, device_lost_error())
        except JobTimeout:
            return self._fail(JobError(code="timed_out", detail=self._timeout_detail()))
        except MSDiffusionError as error:
            log.warning("job cannot be done", extra=error_fields(error))
            return self._fail(JobError(code=error.code, detail=error.detail))
        except Exception:  # the job boundary: the worker goes on after any error
            log.exception("job broke the service's own code")
            detail = "Internal error; see the worker's log. Other requests still work."
            return self._fail(JobError(code="internal", detail=detail))
        else:
            return self._succeed(manifest)
        finally:
            state = WorkerState.DEFUNCT if self._context.device_lost else WorkerState.IDLE
            self._context.heartbeat.enter("idle", state)
        return None

    def _account(self, ended: JobState | None, seconds: float) -> None:
        """Store how long the job took, for estimates and metrics."""
        context = self._context
        context.jobs_done += ended is not None and ended.ended
        if context.telemetry is not None and ended is JobState.SUCCEEDED and self._times.seconds:
            context.telemetry.keep(self._record.shape, seconds, self._times.seconds)

    def _timeout_detail(self) -> str:
        return (
            f"The job took longer than {self._context.job_timeout_s:g} s. Use fewer steps, images or retries, or a smaller "
            "picture, or raise MSD_JOB_TIMEOUT_S."
        )

    def _make(self) -> Manifest:
        """Make and store the pictures, the manifest last."""
        folder = self._record.folder
        stored = self._artifacts.pictures_of(folder)
        request = self._artifacts.load_request(folder, stored)
        self._previews = LivePreviews(request.previews)
        specs = request.specs()
        document = job_document(request, stored)
        pictures = self._generate(specs)
        for picture in pictures:
            self._warnings = _joined(self._warnings, picture.warnings)
        self._report(Report("store"))
        images = [
            self._store(index, *pair, request, document) for index, pair in enumerate(zip(specs, pictures, strict=True))
        ]
        manifest = Manifest(
            attempt=self._record.attempt,
            images=tuple(images),
            warnings=self._warnings,
            references=self._references,
        )
        self._artifacts.save_manifest(folder, manifest)
        return manifest

    def _generate(self, specs: list[GenerationSpec]) -> list[Picture]:
        self._report(Report("encode"))
        with Deadline(self._context.job_timeout_s) as deadline, closing(self._context.runtime.run(specs)) as events:
            for event in events:
                deadline.check()
                if isinstance(event, list):
                    return event
                if event.phase != "encode":
                    self._keep_references(specs[0].subjects)
                self._report(event)
        raise RuntimeError("The pipeline ended without pictures.")

    def _keep_references(self, subjects: Sequence[Subject]) -> None:
        """Store what the model sees of the pictures with ``cutout``, available once they are encoded."""
        wanted = tuple(index for index, subject in enumerate(subjects) if subject.cutout and subject.images)
        for index in wanted if self._references != wanted else ():
            png = png_of(self._context.runtime.preview(subjects[index]))
            self._artifacts.save_reference(self._record.folder, self._record.attempt, index, png)
        self._references = wanted

    def _store(  # noqa: PLR0913 - what a file is made of
        self, index: int, spec: GenerationSpec, picture: Picture, request: JobRequest, document: dict[str, Any]
    ) -> StoredImage:
        seed = spec.seed if picture.seed is None else picture.seed
        recipe = {
            "request": document,
            "image_index": index,
            "seed": seed,
            **({} if picture.score is None else {"score": picture.score._asdict()}),
            **self._context.runtime.recipe(spec),
        }
        encoded = encode(picture.image, recipe, request.output_format, request.quality)
        media_type = FILE_FORMATS[request.output_format].media_type
        return StoredImage(
            index=index,
            sha256=self._artifacts.save_image(self._record.folder, self._record.attempt, index, encoded, media_type),
            width=picture.image.width,
            height=picture.image.height,
            seed=seed,
            content_type=media_type,
            score=picture.score,
        )

    def _report(self, report: Report) -> None:
        """Report progress to Redis, and raise if the job must stop."""
        context = self._context
        context.heartbeat.enter(report.phase, WorkerState.BUSY, self._key.id)
        self._times.enter(report.phase)
        if report.step is not None:
            log.debug("step", extra={"phase": report.phase, "step": report.step, "steps": report.steps})
        # Finished pictures are stored even when stopping.
        if context.stopping and report.phase != "store":
            raise WorkerStopping
        self._warnings = _joined(self._warnings, report.warnings)
        fields: dict[str, Any] = {
            "phase": report.phase,
            "warnings": self._warnings,
            "references": self._references,
        }
        if report.steps is not None:
            fields |= {"step": report.step, "steps": report.steps}
        if time.monotonic() < self._silent_until:
            return
        preview = self._previews.draw(report.preview)
        try:
            reply = self._jobs.progress(self._key.id, self._record.attempt, preview, **fields)
        except RedisError as error:
            if not self._pause_s:
                log.warning("job goes on: %s", describe(error))
            # So that waiting for a silent Redis takes a small part of the job's time.
            self._pause_s = min(2 * self._pause_s or FIRST_PAUSE_S, LONGEST_PAUSE_S)
            self._silent_until = time.monotonic() + self._pause_s
            return
        self._pause_s = 0.0
        if reply is ProgressReply.CANCEL:
            raise JobCanceled
        if reply is ProgressReply.TAKEN:
            raise JobTaken

    def _succeed(self, manifest: Manifest) -> JobState | None:
        result = {name: value for name, value in manifest if name != "attempt"}
        return self._end(JobState.SUCCEEDED, result_attempt=manifest.attempt, **result)

    def _fail(self, error: JobError) -> JobState | None:
        return self._end(JobState.FAILED, error=error)

    def _end(self, state: JobState, **fields: Any) -> JobState | None:
        self._times.enter(None)
        self._context.heartbeat.enter("record", WorkerState.BUSY, self._key.id)
        record = self._record
        ended = persist(lambda: self._blocking_jobs.finish(record.id, record.attempt, state, **fields))
        if ended is None:
            log.warning("job was no longer this worker's when it ended")
        else:
            log.info("job ended", extra={"state": ended.value})
        return ended

    def _requeue(self, reason: Requeue, error: JobError) -> JobState | None:
        """Requeue the job at the head of the queue; after the last attempt it fails with ``error``."""
        self._times.enter(None)
        record = self._record
        state = persist(lambda: self._blocking_jobs.requeue(record.id, record.attempt, reason, error))
        if state is JobState.QUEUED:
            persist(lambda: self._context.queue.put_first(record))
        log.info("job put back", extra={"reason": reason.value, "state": None if state is None else state.value})
        return state


def device_lost_error() -> JobError:
    """Make the error of a job that lost the device in every attempt."""
    return out_of_attempts(DeviceLostError.code, "The device failed")


def _joined(known: tuple[GenerationWarning, ...], new: Iterable[GenerationWarning]) -> tuple[GenerationWarning, ...]:
    """Join warnings, each once: pictures of a batch share theirs, and the API may have added some."""
    joined = {(warning.code, warning.pointer): warning for warning in (*new, *known)}
    order = dict.fromkeys((warning.code, warning.pointer) for warning in (*known, *new))
    return tuple(joined[key] for key in order)
