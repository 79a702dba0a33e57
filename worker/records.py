"""The data that the API and the workers exchange: requests, job records, worker records."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field

from ms_core.spec import MAX_SEED, AutoLayout, Box, GenerationSpec, Subject

if TYPE_CHECKING:
    from PIL import Image

GENERATE_JOB = "worker.jobs.generate"
MAX_IMAGES = 8

JOB_ID_PATTERN = r"[A-Za-z0-9_-]{16,64}"
MODEL_NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"
SHA256_PATTERN = r"[0-9a-f]{64}"

Sha256 = Annotated[str, Field(pattern=rf"^{SHA256_PATTERN}$")]


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    EXPIRED = "expired"

    @property
    def ended(self) -> bool:
        """Whether the job can change no more."""
        return self not in (JobState.QUEUED, JobState.RUNNING)


class WorkerState(StrEnum):
    """Where a worker stands; it takes jobs while ``idle`` and works on one while ``busy``."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    FAILED = "failed"


def new_job_id() -> str:
    """A fresh id of 22 url-safe characters (128 random bits)."""
    return secrets.token_urlsafe(16)


def is_job_id(text: str) -> bool:
    """Whether ``text`` has the form of a job id."""
    return re.fullmatch(JOB_ID_PATTERN, text) is not None


def is_model_name(text: str) -> bool:
    """Whether ``text`` can name a model in keys and queues."""
    return re.fullmatch(MODEL_NAME_PATTERN, text) is not None


def queue_name(model: str) -> str:
    """The one RQ queue that all workers of ``model`` share."""
    return f"generate-{model}"


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StoredSubject(_Frozen):
    """One subject of a stored request; ``image`` is the SHA-256 of a stored picture, ``box`` normalised xyxy."""

    phrase: str
    image: Sha256
    box: tuple[float, float, float, float] | None = None
    scale: float | None = None


class StoredLayout(_Frozen):
    """Auto layout, as ``ms_core.spec.AutoLayout``."""

    threshold: float = 0.5
    start_step: int = 5


class StoredRequest(_Frozen):
    """One validated request, as the artifact store keeps it; ``None`` means the model card's default."""

    prompt: str
    negative_prompt: str | None = None
    subjects: tuple[StoredSubject, ...]
    height: int | None = None
    width: int | None = None
    num_images: Annotated[int, Field(ge=1, le=MAX_IMAGES)] = 1
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    scale: float | None = None
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)]
    layout: StoredLayout | None = None
    grounding: bool = True
    scheduler: str | None = None
    model: Annotated[str, Field(pattern=rf"^{MODEL_NAME_PATTERN}$")]

    def seeds(self) -> list[int]:
        """The seed of each picture: counting up from ``seed``, wrapping at 2**53."""
        return [(self.seed + index) % (MAX_SEED + 1) for index in range(self.num_images)]

    def to_specs(self, load_image: Callable[[str], Image.Image]) -> list[GenerationSpec]:
        """One spec for each picture.

        Args:
            load_image: gives the stored picture of a SHA-256, such as ``ArtifactStore.load_picture``.

        Raises:
            InvalidInputError: a value is out of range.
        """
        subjects = tuple(
            Subject(
                phrase=subject.phrase,
                image=load_image(subject.image),
                box=None if subject.box is None else Box(*subject.box),
                scale=subject.scale,
            )
            for subject in self.subjects
        )
        layout = None if self.layout is None else AutoLayout(self.layout.threshold, self.layout.start_step)
        return [
            GenerationSpec(
                prompt=self.prompt,
                subjects=subjects,
                negative_prompt=self.negative_prompt,
                height=self.height,
                width=self.width,
                num_inference_steps=self.num_inference_steps,
                guidance_scale=self.guidance_scale,
                scale=self.scale,
                seed=seed,
                layout=layout,
                grounding=self.grounding,
                scheduler=self.scheduler,
            )
            for seed in self.seeds()
        ]


class JobWarning(_Frozen):
    """Something the user should know about a job that runs all the same."""

    code: str
    detail: str
    pointer: str = ""


class JobError(_Frozen):
    """Why a job failed: a stable code and one sentence."""

    code: str
    detail: str


class StoredImage(_Frozen):
    """One finished picture of a job; its bytes lie in the artifact store."""

    index: int
    sha256: Sha256
    width: int
    height: int
    seed: int
    content_type: str = "image/png"


class JobRecord(_Frozen):
    """What Redis knows of a job. Times are Unix seconds.

    Attributes:
        version: grows by one with every change.
        attempt: how often a worker has begun the job.
        phase: what the worker is doing with it, such as ``encode`` or ``denoise``.
        step, steps: denoising steps done, and in all.
        error: set only with the state ``failed``.
        device, worker: who runs it or ran it last.
    """

    id: Annotated[str, Field(pattern=rf"^{JOB_ID_PATTERN}$")]
    model: Annotated[str, Field(pattern=rf"^{MODEL_NAME_PATTERN}$")]
    state: JobState = JobState.QUEUED
    version: int = 1
    created_at: float = Field(default_factory=time.time)
    started_at: float | None = None
    ended_at: float | None = None
    cancel_requested: bool = False
    attempt: int = 0
    phase: str | None = None
    step: int | None = None
    steps: int | None = None
    seed: int
    num_images: int = 1
    warnings: tuple[JobWarning, ...] = ()
    images: tuple[StoredImage, ...] = ()
    error: JobError | None = None
    device: str | None = None
    worker: str | None = None

    def to_hash(self) -> dict[str, str]:
        """The record as the fields of a Redis hash."""
        return {name: encode_field(value) for name, value in self.model_dump(mode="json").items()}

    @classmethod
    def from_hash(cls, fields: dict[bytes, bytes] | dict[str, str]) -> Self:
        """The record of a Redis hash, as redis-py gives it with or without ``decode_responses``."""
        return cls.model_validate({_text(name): json.loads(_text(value)) for name, value in fields.items()})


def encode_field(value: Any) -> str:
    """One field of a job's hash: compact JSON of JSON-ready data."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


class WorkerRecord(_Frozen):
    """What a worker says of itself with every beat.

    Attributes:
        phase: what it is doing, such as ``load`` or ``denoise``.
        device: such as ``cpu`` or ``cuda GPU-<uuid>``.
        job_id: the job it works on.
        started_at: Unix seconds.
        error: why it cannot work, with the state ``failed``.
    """

    name: str
    model: str
    state: WorkerState
    phase: str | None = None
    device: str
    host: str
    pid: int
    job_id: str | None = None
    started_at: float
    error: JobError | None = None
