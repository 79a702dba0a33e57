"""Job records and worker records, as the API and the workers exchange them through Redis."""

from __future__ import annotations

import json
import logging
import re
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Any, NamedTuple, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from ms_core.errors import UnreadableJobError
from ms_core.spec import GenerationWarning, SubjectScore
from ms_core.spec.score import Redraw
from ms_jobs.keys import JobKey

GENERATE_JOB = "worker.jobs.generate"
CUTOUT_JOB = "worker.jobs.cutout"
MAX_IMAGES = 8
MAX_ATTEMPTS = 2
LOCAL_OWNER = "local"

JOB_ID_PATTERN = r"[A-Za-z0-9_-]{16,64}"
MODEL_NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"
OWNER_PATTERN = r"[a-z0-9-]{1,64}"
SHA256_PATTERN = r"[0-9a-f]{64}"

# What dates and floats can hold: other numbers are damage, and would break arithmetic far from here.
LATEST_S = 253_402_300_799
LARGEST_COUNT = 2**53

Sha256 = Annotated[str, Field(pattern=rf"^{SHA256_PATTERN}$")]
UnixTime = Annotated[float, Field(ge=0, le=LATEST_S)]
Count = Annotated[int, Field(ge=0, le=LARGEST_COUNT)]

log = logging.getLogger(__name__)


class JobState(StrEnum):
    """State of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    EXPIRED = "expired"

    @property
    def ended(self) -> bool:
        """Whether the state is final."""
        return self not in (JobState.QUEUED, JobState.RUNNING)


class WorkerState(StrEnum):
    """State of a worker; it takes jobs while ``idle`` and runs one while ``busy``.

    ``failed``: its setup failed; ``defunct``: it broke after its setup and will be replaced; ``unknown``: only a newer version
    of the service knows its state.
    """

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    FAILED = "failed"
    DEFUNCT = "defunct"
    UNKNOWN = "unknown"

    @classmethod
    def _missing_(cls, value: object) -> WorkerState | None:
        return cls.UNKNOWN if isinstance(value, str) else None

    @property
    def serves(self) -> bool:
        """Whether the worker takes jobs, now or after its current one."""
        return self in (WorkerState.IDLE, WorkerState.BUSY)


def new_job_id() -> str:
    """Make an id of 22 url-safe characters (128 random bits)."""
    return secrets.token_urlsafe(16)


def is_job_id(text: str) -> bool:
    """Whether ``text`` has the form of a job id."""
    return re.fullmatch(JOB_ID_PATTERN, text) is not None


def is_model_name(text: str) -> bool:
    """Whether ``text`` can name a model in keys and queues."""
    return re.fullmatch(MODEL_NAME_PATTERN, text) is not None


class FrozenModel(BaseModel):
    """Immutable data as it is stored.

    Fields that only a newer version of the service knows are kept, and written back with the others.
    """

    # Values are mostly ids, seen a few times each: not worth caching.
    model_config = ConfigDict(extra="allow", frozen=True, cache_strings="keys")


class JobError(FrozenModel):
    """Why a job failed: a stable code and a sentence."""

    code: str
    detail: str


class PictureScore(NamedTuple):
    """Score of a picture; in Redis a list of three, with a list of three numbers or nulls for each subject.

    Attributes:
        draws: number of draws; the best was kept.
        subjects: in the order of the request; ``None`` for scenes.
        redraws: the draws after the first; older versions of the service stored none.
    """

    draws: int
    subjects: tuple[SubjectScore | None, ...]
    redraws: tuple[Redraw, ...] = ()


def _known_parts(value: Any) -> Any:
    """A stored score without the items that a newer version added to its lists."""
    if not isinstance(value, list):
        return value
    parts = value[: len(PictureScore._fields)]
    sizes = (0, len(SubjectScore._fields), len(Redraw._fields))
    return [
        [item[:size] if isinstance(item, list) else item for item in part] if isinstance(part, list) else part
        for part, size in zip(parts, sizes, strict=False)
    ]


class StoredImage(FrozenModel):
    """A finished picture of a job; its bytes are in the artifact store.

    Attributes:
        seed: seed of the kept draw, or the request's if that drew one subject's place only.
        score: only if the request has ``score``.
    """

    index: int
    sha256: Sha256
    width: int
    height: int
    seed: int
    content_type: str = "image/png"
    score: Annotated[PictureScore | None, BeforeValidator(_known_parts)] = None


class JobRecord(FrozenModel):
    """A job's record in Redis. Times are Unix seconds.

    Attributes:
        owner: the job's owner; ids are per owner.
        version: grows by one with every change.
        folder: the job's folder in the artifact store.
        request_hash: SHA-256 of the request, to tell a repeated request from a different one.
        sent_hash: SHA-256 of the request before its names were resolved, if it names an asset or somebody of the cast: what a
            name stands for may be gone when the request is repeated.
        idempotency_key: hash of the key with which the request can be repeated.
        request_id: id of the HTTP request that made the job, for the logs.
        retried_from: id of the job that this one retries.
        queued_at: when it last entered the queue.
        expires_at: when it is erased with all its files; set when it ends.
        cancel_at: it is canceled if it has not ended by then.
        start_before: it expires if it has not started by then.
        attempt: number of attempts started; workers pass it with every change.
        handed_back: number of attempts that do not count, since the worker was told to stop.
        phase: current phase, such as ``encode`` or ``denoise``.
        step, steps: denoising steps done, and in total.
        result_attempt: the attempt that made the pictures, once the job succeeded.
        references: positions of the subjects whose reference, as the model sees it, is stored.
        error: set only in the state ``failed``.
        device, worker: which run it or ran it last.
        shape: see ``ms_jobs.pace``; empty if unknown.
        charge: picture-steps that it may take, see ``ms_jobs.limits``.
    """

    # Its changes write single fields, so those of a newer version stay in Redis.
    model_config = ConfigDict(extra="ignore")

    id: Annotated[str, Field(pattern=rf"^{JOB_ID_PATTERN}$")]
    owner: Annotated[str, Field(pattern=rf"^{OWNER_PATTERN}$")] = LOCAL_OWNER
    model: Annotated[str, Field(pattern=rf"^{MODEL_NAME_PATTERN}$")]
    state: JobState = JobState.QUEUED
    version: Count = 1
    folder: str
    request_hash: str = ""
    sent_hash: str | None = None
    idempotency_key: str | None = None
    request_id: str | None = None
    retried_from: str | None = None
    created_at: UnixTime = Field(default_factory=time.time)
    queued_at: UnixTime = Field(default_factory=time.time)
    started_at: UnixTime | None = None
    ended_at: UnixTime | None = None
    expires_at: UnixTime | None = None
    cancel_at: UnixTime | None = None
    start_before: UnixTime | None = None
    cancel_requested: bool = False
    cancel_requested_at: UnixTime | None = None
    attempt: Count = 0
    handed_back: Count = 0
    phase: str | None = None
    step: Count | None = None
    steps: Count | None = None
    seed: int
    num_images: int = 1
    warnings: tuple[GenerationWarning, ...] = ()
    images: tuple[StoredImage, ...] = ()
    references: tuple[int, ...] = ()
    result_attempt: Count | None = None
    error: JobError | None = None
    device: str | None = None
    worker: str | None = None
    shape: str = ""
    charge: Count = 0

    @property
    def key(self) -> JobKey:
        """Its owner and id."""
        return JobKey(self.owner, self.id)

    @property
    def entry(self) -> str:
        """RQ's id of the job's entry; it differs for each attempt, so that none removes another's."""
        return self.key.entry(self.attempt)

    @property
    def files_attempt(self) -> int:
        """The attempt whose files are served: the one that made the pictures, else the latest."""
        return self.attempt if self.result_attempt is None else self.result_attempt

    def to_hash(self) -> dict[str, str]:
        """Encode the record as the fields of a Redis hash, without ``None`` values."""
        return {name: encode_field(value) for name, value in self.model_dump(mode="json", exclude_none=True).items()}

    @classmethod
    def from_hash(cls, fields: Mapping[Any, bytes | str]) -> Self:
        """Parse the record of a Redis hash, read with or without ``decode_responses``, also of a newer version.

        Raises:
            UnreadableJobError: a field is missing, damaged, or has a value that only a newer version knows.
        """
        # The values are JSON already; parsing them as one text takes a fifth of the time.
        parts = (f'"{as_text(name)}":{as_text(value)}' for name, value in fields.items())
        try:
            return cls.model_validate_json(f"{{{','.join(parts)}}}")
        except ValueError as error:
            raise unreadable_job() from error


class ErasedJob(NamedTuple):
    """What is to be removed beside an erased record; ``None`` where the record did not tell.

    Attributes:
        folder: in the artifact store.
        model: in whose queue it may have an entry.
        entry: see ``JobRecord.entry``.
    """

    folder: str | None
    model: str | None
    entry: str

    @classmethod
    def from_hash(cls, key: JobKey, fields: Mapping[Any, bytes | str]) -> Self:
        """Read only what is needed of a record's hash, which need not be readable as a whole."""
        texts = {as_text(name): as_text(value) for name, value in fields.items()}
        folder, model = (_text(texts.get(name)) for name in ("folder", "model"))
        return cls(folder, model, key.entry(int(texts["attempt"]) if texts.get("attempt", "").isdecimal() else 0))


def _text(json_text: str | None) -> str | None:
    try:
        value = json.loads(json_text or "null")
    except ValueError:
        return None
    return value if isinstance(value, str) else None


def unreadable_job() -> UnreadableJobError:
    """Make the error of a record that cannot be read."""
    return UnreadableJobError(
        "The record of this job cannot be read: it is damaged, or a newer version of the service wrote it. Delete the job, or "
        "update the service."
    )


def encode_field(value: Any) -> str:
    """Encode one field of a job's hash as compact JSON."""
    return _encode(value)


# One encoder for all: json.dumps makes a new one for each call with options.
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def as_text(value: bytes | str) -> str:
    """Decode a reply of Redis, read with or without ``decode_responses``; what is not UTF-8 becomes question marks."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


class Usage(FrozenModel):
    """Resources that a worker uses; ``None`` if unknown.

    Attributes:
        device_uuid: UUID of the CUDA device, as NVML gives it.
        memory_used_bytes, memory_total_bytes: memory of the device, used by all processes.
        utilisation: recent utilisation of the device, 0 to 1.
        rss_bytes: resident memory of the worker's process.
    """

    device_uuid: str | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    utilisation: float | None = None
    rss_bytes: int | None = None


class WorkerRecord(FrozenModel):
    """A worker's record, published with every heartbeat.

    Attributes:
        phase: current phase, such as ``load`` or ``denoise``.
        device: such as ``cpu`` or ``cuda GPU-<uuid>``.
        memory_mode: which parts of the model stay on the device, see ``ms_core.device.modes``; known once the model is loaded.
        job_id: the job it runs.
        started_at: Unix seconds.
        error: why it cannot work, in the states ``failed`` and ``defunct``.
        jobs_done: jobs that ended in this process.
        usage: of its device and process, a few seconds ago.
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
        """Parse the record of a heartbeat, also of a newer version of the service."""
        return cls.model_validate_json(text)


def read_beats(texts: Iterable[bytes | str | Exception | None]) -> Iterator[WorkerRecord]:
    """Parse heartbeats; missing ones and those that cannot be read are passed over."""
    for text in texts:
        try:
            if isinstance(text, (bytes, str)):
                yield WorkerRecord.from_beat(text)
        except ValueError as error:
            log.debug("a heartbeat cannot be read: %s", error)
