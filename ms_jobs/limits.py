"""What an owner, and all together, may have in the queue and take of the devices.

A job is charged, in the step that queues it, for the picture-steps that it may take: pictures, times calls of the UNet, times one
and its retries. What it did not take is given back in the step that ends it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from redis import Redis

from ms_core.errors import LimitError, QueueFullError, StepsSpentError, TooManyWaitingError
from ms_jobs import keys
from ms_jobs.outcomes import CreateOutcome
from ms_jobs.records import as_text

if TYPE_CHECKING:
    from ms_jobs.job_request import JobRequest

# Charged where the model's default is not known yet.
USUAL_STEPS = 30
SLOT_S = 900
WINDOW_S = 24 * 3600
# Somebody else's job, or one's own, takes about as long.
RETRY_AFTER_S = 10


class Limits(NamedTuple):
    """The most that may be; 0 is no limit.

    Attributes:
        waiting: jobs of one owner in the queue.
        queue: jobs of all owners in the queue.
        picture_steps: of one owner within 24 hours.
    """

    waiting: int = 0
    queue: int = 0
    picture_steps: int = 0


NO_LIMITS = Limits()


def charge_of(request: JobRequest) -> int:
    """The picture-steps that a job may take."""
    return request.num_images * (request.num_unet_calls or USUAL_STEPS) * (1 + request.retries)


def limit_error(outcome: CreateOutcome, limits: Limits, retry_after_s: int) -> LimitError | None:
    """The error of a job that was not created because of a limit; ``None`` for every other outcome.

    Args:
        retry_after_s: of ``STEPS_SPENT``, in seconds; negative: never.
    """
    if outcome is CreateOutcome.TOO_MANY_WAITING:
        detail = f"{limits.waiting} of your jobs wait already; send this one when some have started, or cancel some."
        return TooManyWaitingError(detail, RETRY_AFTER_S)
    if outcome is CreateOutcome.QUEUE_FULL:
        return QueueFullError(f"{limits.queue} jobs wait already; send this one later.", RETRY_AFTER_S)
    if outcome is not CreateOutcome.STEPS_SPENT:
        return None
    limit = f"{limits.picture_steps:,} picture-steps within 24 hours"
    if retry_after_s < 0:
        detail = f"This job alone may take more than your {limit}; ask for fewer pictures, steps or retries."
        return StepsSpentError(detail, None)
    return StepsSpentError(f"This job and your others may take more than your {limit}; send it later.", retry_after_s)


def spent_steps(client: Redis, model: str, owner: str) -> int:
    """The picture-steps that an owner was charged for within 24 hours."""
    (seconds, _), slots = client.time(), client.hgetall(keys.spent(model, owner))
    oldest = (seconds - WINDOW_S) // SLOT_S
    return sum(int(as_text(steps)) for slot, steps in slots.items() if int(as_text(slot)) >= oldest)
