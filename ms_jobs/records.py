"""The small data that the API and the workers exchange through Redis: job records and worker records."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field

from ms_core.spec import GenerationWarning, SubjectScore
from ms_jobs.keys import JobKey

GENERATE_JOB = "worker.jobs.generate"
MAX_IMAGES = 8
MAX_ATTEMPTS = 2
LOCAL_OWNER = "local"

JOB_ID_PATTERN = r"[A-Za-z0-9_-]{16,64}"
MODEL_NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"
OWNER_PATTERN = r"[a-z0-9-]{1,64}"
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
    """Where a worker stands; it takes jobs while ``idle`` and works on one while ``busy``.

    ``failed`` could not set up; ``defunct`` could once work and cannot any more, and is about to be replaced.
    """

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    FAILED = "failed"
    DEFUNCT = "defunct"

    @property
    def serves(self) -> bool:
        """Whether the worker takes jobs, now or when the one it works on has ended."""
        return self in (WorkerState.IDLE, WorkerState.BUSY)


def new_job_id() -> str:
    """A fresh id of 22 url-safe characters (128 random bits)."""
    return secrets.token_urlsafe(16)


def is_job_id(text: str) -> bool:
    """Whether ``text`` has the form of a job id."""
    return re.fullmatch(JOB_ID_PATTERN, text) is not None


def is_model_name(text: str) -> bool:
    """Whether ``text`` can name a model in keys and queues."""
    return re.fullmatch(MODEL_NAME_PATTERN, text) is not None


class FrozenModel(BaseModel):
    """Data that is never changed and has no unknown fields."""

    # Values are ids and the like, each seen a few times and then never again: not worth a place in a cache.
    model_config = ConfigDict(extra="forbid", frozen=True, cache_strings="keys")


class JobError(FrozenModel):
    """Why a job failed: a stable code and one sentence."""

    code: str
    detail: str


class PictureScore(NamedTuple):
    """How well a picture turned out; in Redis a list of two, and each subject's score a list of three numbers.

    Attributes:
        draws: how often it was drawn; the best draw was kept.
        subjects: in the order of the request; ``None`` for scenes.
    """

    draws: int
    subjects: tuple[SubjectScore | None, ...]


class StoredImage(FrozenModel):
    """One finished picture of a job; its bytes lie in the artifact store.

    Attributes:
        seed: of the draw that was kept.
        score: only if it was asked for.
    """

    index: int
    sha256: Sha256
    width: int
    height: int
    seed: int
    content_type: str = "image/png"
    score: PictureScore | None = None


class JobRecord(FrozenModel):
    """What Redis knows of a job. Times are Unix seconds.

    Attributes:
        owner: whose job it is; ids are per owner.
        version: grows by one with every change.
        folder: where the artifact store keeps what belongs to the job.
        request_hash: SHA-256 of what was asked, to tell a repeated request from another one.
        idempotency_key: by which the request may be repeated.
        request_id: of the HTTP request that made the job, for the logs.
        retried_from: id of the job that this one repeats.
        queued_at: when it last began to wait.
        expires_at: when it and all its files are removed; set when it ends.
        cancel_at: when it is canceled if it has not ended by then.
        start_before: when it expires if it has not begun by then.
        attempt: how often a worker has begun the job; whatever a worker writes carries this number.
        handed_back: how many of these attempts do not count, for the worker was told to end.
        phase: what the worker is doing with it, such as ``encode`` or ``denoise``.
        step, steps: denoising steps done, and in all.
        result_attempt: the attempt that made the pictures, once the job succeeded.
        references: positions of the subjects of which it is stored what the model sees.
        error: set only with the state ``failed``.
        device, worker: who runs it or ran it last.
        shape: what decides how long it takes, see ``ms_jobs.pace``; empty if that is not known.
    """

    id: Annotated[str, Field(pattern=rf"^{JOB_ID_PATTERN}$")]
    owner: Annotated[str, Field(pattern=rf"^{OWNER_PATTERN}$")] = LOCAL_OWNER
    model: Annotated[str, Field(pattern=rf"^{MODEL_NAME_PATTERN}$")]
    state: JobState = JobState.QUEUED
    version: int = 1
    folder: str
    request_hash: str = ""
    idempotency_key: str | None = None
    request_id: str | None = None
    retried_from: str | None = None
    created_at: float = Field(default_factory=time.time)
    queued_at: float = Field(default_factory=time.time)
    started_at: float | None = None
    ended_at: float | None = None
    expires_at: float | None = None
    cancel_at: float | None = None
    start_before: float | None = None
    cancel_requested: bool = False
    cancel_requested_at: float | None = None
    attempt: int = 0
    handed_back: int = 0
    phase: str | None = None
    step: int | None = None
    steps: int | None = None
    seed: int
    num_images: int = 1
    warnings: tuple[GenerationWarning, ...] = ()
    images: tuple[StoredImage, ...] = ()
    references: tuple[int, ...] = ()
    result_attempt: int | None = None
    error: JobError | None = None
    device: str | None = None
    worker: str | None = None
    shape: str = ""

    @property
    def entry(self) -> str:
        """RQ's id of the job's entry in the queue; each attempt has its own, so that none can remove another's."""
        return JobKey(self.owner, self.id).entry(self.attempt)

    @property
    def files_attempt(self) -> int:
        """The attempt whose files are shown: the one that made the pictures, else the latest."""
        return self.attempt if self.result_attempt is None else self.result_attempt

    def to_hash(self) -> dict[str, str]:
        """The record as the fields of a Redis hash; what is not known yet takes no place there."""
        return {name: encode_field(value) for name, value in self.model_dump(mode="json", exclude_none=True).items()}

    @classmethod
    def from_hash(cls, fields: Mapping[Any, bytes | str]) -> Self:
        """The record of a Redis hash, as redis-py gives it with or without ``decode_responses``."""
        # The values are JSON already; to read them as one text takes a fifth of the time.
        parts = (f'"{as_text(name)}":{as_text(value)}' for name, value in fields.items())
        # A newer version of the service, beside this one while hosts are brought up to date, may know of more.
        return cls.model_validate_json(f"{{{','.join(parts)}}}", extra="ignore")


def encode_field(value: Any) -> str:
    """One field of a job's hash: compact JSON of JSON-ready data."""
    return _encode(value)


# One encoder for all: json.dumps makes a new one for each call that is not as usual.
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def as_text(value: bytes | str) -> str:
    """What Redis gave, with or without ``decode_responses``."""
    return value.decode() if isinstance(value, bytes) else value


class Usage(FrozenModel):
    """What a worker uses; ``None`` where that cannot be known.

    Attributes:
        device_uuid: NVML's, of a CUDA device.
        memory_used_bytes, memory_total_bytes: of the device, by all processes.
        utilisation: share of the last moment in which the device worked, 0 to 1.
        rss_bytes: memory of the worker's process.
    """

    device_uuid: str | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    utilisation: float | None = None
    rss_bytes: int | None = None


class WorkerRecord(FrozenModel):
    """What a worker says of itself with every beat.

    Attributes:
        phase: what it is doing, such as ``load`` or ``denoise``.
        device: such as ``cpu`` or ``cuda GPU-<uuid>``.
        memory_mode: which parts of the model stay on the device, see ``ms_core.device.modes``; known once the model is loaded.
        job_id: the job it works on.
        started_at: Unix seconds.
        error: why it cannot work, with the state ``failed``.
        jobs_done: jobs that came to an end in this process.
        usage: of its device and of its process, a few seconds ago.
    """

    name: str
    model: str
    state: WorkerState
    phase: str | None = None
    device: str
    memory_mode: str | None = None
    host: str
    pid: int
    job_id: str | None = None
    started_at: float
    error: JobError | None = None
    jobs_done: int = 0
    usage: Usage = Usage()

    @classmethod
    def from_beat(cls, text: bytes | str) -> Self:
        """The record of a beat, of a newer version of the service too."""
        return cls.model_validate_json(text, extra="ignore")
