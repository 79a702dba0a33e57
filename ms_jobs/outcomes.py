"""What may become of a wish to change a job's record, and why a job goes back or is no more."""

from __future__ import annotations

from enum import StrEnum


class CreateOutcome(StrEnum):
    """What became of a wish to create a job: made, or why another job is meant."""

    CREATED = "created"
    EXISTS = "exists"
    KEY_USED = "key_used"
    GONE = "gone"


class CancelOutcome(StrEnum):
    """What became of a wish to cancel: done now or before, promised, too late, or no such job."""

    CANCELED = "canceled"
    REQUESTED = "requested"
    ENDED = "ended"
    UNKNOWN = "unknown"


class ProgressReply(StrEnum):
    """What a worker is to do after it reported progress: go on, end the job as canceled, or leave it to others."""

    CONTINUE = "continue"
    CANCEL = "cancel"
    TAKEN = "taken"


class Requeue(StrEnum):
    """Why a running job goes back to the queue; only ``HANDED_BACK`` does not count as an attempt."""

    HANDED_BACK = "handed_back"
    GIVEN_BACK = "given_back"
    ABANDONED = "abandoned"


class Gone(StrEnum):
    """Why a job's record is no more."""

    EXPIRED = "expired"
    DELETED = "deleted"
