"""What the service tells of jobs, models and assets."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self

_NO_PROGRESS: Mapping[str, Any] = {"phase": None, "step": None, "steps": None, "fraction": 0.0}
ENDS = ("succeeded", "failed", "canceled", "expired")


@dataclass(frozen=True, slots=True)
class JobWarning:
    """What the user should know of a job that still runs."""

    code: str
    detail: str
    pointer: str = ""


@dataclass(frozen=True, slots=True)
class SubjectScore:
    """How well a subject turned out: two probabilities and an estimated overlap with its box, each from 0 to 1.

    All are ``None`` if each of its references shows only one colour, or is unlike what the scorer knows.
    """

    subject: int
    present: float | None
    identity: float | None
    box_iou: float | None


@dataclass(frozen=True, slots=True)
class Redraw:
    """One draw of a picture after its first.

    Attributes:
        subject: position of the subject at whose place alone it was drawn again; ``None``: all of it was.
        kept: whether it was better than the best before it, and took its place.
    """

    subject: int | None
    kept: bool


@dataclass(frozen=True, slots=True)
class Score:
    """How often a picture was drawn, how well its subjects turned out in what was kept, and its draws after the first."""

    draws: int
    subjects: tuple[SubjectScore, ...]
    redraws: tuple[Redraw, ...] = ()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The score of an image resource."""
        subjects = (
            SubjectScore(subject["subject"], subject["present"], subject["identity"], subject["box_iou"])
            for subject in data["subjects"]
        )
        redraws = (Redraw(redraw["subject"], redraw["kept"]) for redraw in data.get("redraws", ()))
        return cls(data["draws"], tuple(subjects), tuple(redraws))


@dataclass(frozen=True, slots=True)
class JobImage:
    """A finished picture that the service keeps; sizes in pixels."""

    index: int
    seed: int
    width: int
    height: int
    content_type: str
    sha256: str
    score: Score | None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """An image resource."""
        score = data.get("score")
        return cls(
            index=data["index"],
            seed=data["seed"],
            width=data["width"],
            height=data["height"],
            content_type=data["content_type"],
            sha256=data["sha256"],
            score=None if score is None else Score.from_json(score),
        )


@dataclass(frozen=True, slots=True)
class Estimate:
    """The seconds until a job's end, as the service guessed at a moment and after so many steps."""

    seconds: float
    step: int | None
    told_at: float = field(default_factory=lambda: time.monotonic(), compare=False)

    @property
    def age_s(self) -> float:
        """Seconds since then."""
        return time.monotonic() - self.told_at


class Progress(Protocol):
    """What an event tells of a job's progress."""

    @property
    def version(self) -> int: ...
    @property
    def phase(self) -> str | None: ...
    @property
    def step(self) -> int | None: ...
    @property
    def steps(self) -> int | None: ...
    @property
    def fraction(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the service last showed it.

    Attributes:
        status: ``queued``, ``running``, ``succeeded``, ``failed``, ``canceled`` or ``expired``.
        version: grows with every change.
        position: jobs ahead of it; ``None`` unless it is queued.
        estimate: what the service last guessed of its end; ``None`` if it does not guess.
        phase: what the worker is doing; ``None`` before it has begun.
        step, steps: denoising steps done, and in all; ``None`` before the first.
        fraction: part of the denoising that is done, from 0 to 1.
        seed: of the first picture.
        images: finished pictures.
        references: positions of the subjects with a picture of what the model sees.
        error, error_code, error_status: why it failed or expired: a sentence, a stable name, an HTTP status.
        resource: all that the service said, as ``GET /jobs/{id}`` gives it.
    """

    id: str
    status: str
    version: int
    position: int | None
    estimate: Estimate | None
    phase: str | None
    step: int | None
    steps: int | None
    fraction: float
    seed: int
    images: tuple[JobImage, ...]
    references: tuple[int, ...]
    warnings: tuple[JobWarning, ...]
    error: str | None
    error_code: str | None
    error_status: int | None
    resource: Mapping[str, Any] = field(repr=False, compare=False)

    @property
    def ended(self) -> bool:
        """Whether the job can change no more."""
        return self.status in ENDS

    @property
    def eta_s(self) -> float | None:
        """Seconds until its end by the last estimate and the clock; ``None`` if there is none, and after the end."""
        return None if self.estimate is None else max(0.0, self.estimate.seconds - self.estimate.age_s)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """A job resource."""
        progress: Mapping[str, Any] = data["progress"] or _NO_PROGRESS
        error: Mapping[str, Any] = data["error"] or {}
        eta_s = data.get("eta_seconds")
        return cls(
            id=data["id"],
            status=data["status"],
            version=data["version"],
            position=data["position"],
            estimate=None if eta_s is None else Estimate(eta_s, progress["step"]),
            phase=progress["phase"],
            step=progress["step"],
            steps=progress["steps"],
            fraction=progress["fraction"],
            seed=data["seed"],
            images=tuple(JobImage.from_json(image) for image in data["images"]),
            references=tuple(reference["subject"] for reference in data["references"]),
            warnings=tuple(warning_from_json(warning) for warning in data["warnings"]),
            error=error.get("detail"),
            error_code=error.get("code"),
            error_status=error.get("status"),
            resource=data,
        )

    def advanced(self, progress: Progress) -> Self:
        """The job after an event ``progress``."""
        return replace(
            self,
            version=progress.version,
            phase=progress.phase,
            step=progress.step,
            steps=progress.steps,
            fraction=progress.fraction,
        )


def warning_from_json(data: Mapping[str, Any]) -> JobWarning:
    """A warning of a job resource."""
    return JobWarning(data.get("code", ""), data["detail"], data.get("pointer", ""))


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether the service can make pictures.

    Attributes:
        status: ``ready``, ``degraded``, ``starting`` or ``unavailable``.
        detail: a sentence for each thing that it lacks.
    """

    status: str
    detail: str

    @property
    def is_ready(self) -> bool:
        """Whether a picture can be asked for."""
        return self.status in ("ready", "degraded")

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The answer of ``GET /readyz``."""
        lacking = (check["detail"] for check in data["checks"].values() if not check["ok"])
        return cls(data["status"], " ".join(lacking))


@dataclass(frozen=True, slots=True)
class Model:
    """A model of the service.

    Attributes:
        ready: whether a worker serves it now; jobs are accepted either way.
        abilities: sizes, presets, LoRAs and so on, as ``GET /models`` gives them; ``None`` until a worker has loaded it.
    """

    name: str
    ready: bool
    abilities: Mapping[str, Any] | None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """A model resource."""
        return cls(data["name"], data["ready"], data["abilities"])


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a picture says of how it was made.

    Attributes:
        recipe: the body of ``POST /generate`` that makes it again; ``None`` without one.
        missing: SHA-256 of the recipe's pictures that the service does not keep any more.
        detail: why there is no recipe.
    """

    recipe: Mapping[str, Any] | None
    missing: tuple[str, ...]
    detail: str | None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """An inspection resource."""
        return cls(data["recipe"], tuple(data["missing"]), data["detail"])


@dataclass(frozen=True, slots=True)
class Asset:
    """A picture that the service keeps; in a request it stands for that picture. Sizes in pixels."""

    id: str
    sha256: str
    width: int
    height: int
    has_alpha: bool
    expires_at: str | None

    @property
    def reference(self) -> str:
        """How a request names it."""
        return f"asset:{self.id}"

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """An asset resource."""
        return cls(
            id=data["id"],
            sha256=data["sha256"],
            width=data["width"],
            height=data["height"],
            has_alpha=data["has_alpha"],
            expires_at=data.get("expires_at"),
        )
