"""Result codes of the job scripts, and the reasons for requeueing and erasing a job."""

from __future__ import annotations

from enum import StrEnum


class CreateOutcome(StrEnum):
    """Result of creating a job: created, or why not; the last three are limits."""

    CREATED = "created"
    EXISTS = "exists"
    KEY_USED = "key_used"
    GONE = "gone"
    TOO_MANY_WAITING = "too_many_waiting"
    QUEUE_FULL = "queue_full"
    STEPS_SPENT = "steps_spent"


class CancelOutcome(StrEnum):
    """Result of a cancel: canceled now or before, requested from the worker, too late, or unknown job."""

    CANCELED = "canceled"
    REQUESTED = "requested"
    ENDED = "ended"
    UNKNOWN = "unknown"


class ProgressReply(StrEnum):
    """What a worker must do after a progress report: go on, end the job as canceled, or drop it, since it lost the job."""

    CONTINUE = "continue"
    CANCEL = "cancel"
    TAKEN = "taken"


class Requeue(StrEnum):
    """Why a running job returns to the queue; the values are stored.

    Attributes:
        WORKER_STOPPING: its worker was told to stop; the attempt does not count.
        ATTEMPT_FAILED: its worker lost the device or the attempt's folder; the attempt counts.
        ABANDONED: its worker died or fell silent; the attempt counts.
    """

    WORKER_STOPPING = "handed_back"
    ATTEMPT_FAILED = "given_back"
    ABANDONED = "abandoned"


class Gone(StrEnum):
    """Why a job's record was erased."""

    EXPIRED = "expired"
    DELETED = "deleted"
