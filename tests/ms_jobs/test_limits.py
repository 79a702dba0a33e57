"""What an owner may have waiting and take of the devices."""

from __future__ import annotations

from typing import Any

import pytest

from ms_core.errors import LimitError, QueueFullError, StepsSpentError, TooManyWaitingError
from ms_jobs import keys
from ms_jobs.job_store import JobStore
from ms_jobs.limits import SLOT_S, USUAL_STEPS, WINDOW_S, Limits, charge_of, limit_error, spent_steps
from ms_jobs.outcomes import CreateOutcome, Requeue
from ms_jobs.queue import JobQueue
from ms_jobs.records import JobState
from tests.support.job_helpers import Desk
from tests.support.job_keys import DIED, Ledger


def send(ledger: Ledger, limits: Limits, owner: str | None = None, charge: int = 0, **options: Any) -> str:
    record = ledger.new(owner=owner or ledger.name, charge=charge)
    entry = JobQueue(ledger.client, ledger.name).entry(record)
    outcome, job_id = ledger.jobs.for_owner(record.owner).create(record, entry=entry, limits=limits, **options)
    assert outcome is CreateOutcome.CREATED
    return job_id


def spent(ledger: Ledger) -> int:
    slots = ledger.client.hgetall(keys.spent(ledger.name, ledger.name))
    return sum(map(int, slots.values()))


def test_so_many_jobs_of_one_owner_wait_and_no_more(ledger: Ledger) -> None:
    limits = Limits(waiting=3)
    for _ in range(3):
        send(ledger, limits)
    with pytest.raises(TooManyWaitingError, match=r"^3 of your jobs wait already") as caught:
        send(ledger, limits)
    assert caught.value.retry_after_s is not None
    assert ledger.client.llen(keys.queue(ledger.name)) == len(ledger.jobs.active(ledger.name)) == 3
    send(ledger, limits, owner="other")


def test_so_many_jobs_of_all_owners_wait_and_no_more(ledger: Ledger) -> None:
    limits = Limits(queue=3)
    for owner in ("ann", "bob", "cy"):
        send(ledger, limits, owner=owner)
    with pytest.raises(QueueFullError, match=r"^3 jobs wait already"):
        send(ledger, limits, owner="dan")


def test_a_job_that_began_waits_no_more(ledger: Ledger) -> None:
    limits = Limits(waiting=1, queue=1)
    job_id = send(ledger, limits)
    ledger.client.lpop(keys.queue(ledger.name))
    ledger.jobs.begin(job_id, "w1", "cpu")
    send(ledger, limits)


def test_zero_is_no_limit(ledger: Ledger) -> None:
    for _ in range(3):
        send(ledger, Limits(), charge=10**9)


def test_a_repeat_is_answered_at_the_limit(ledger: Ledger) -> None:
    limits = Limits(waiting=1, picture_steps=10)
    job_id = send(ledger, limits, charge=10, idempotency_key="again")
    assert ledger.jobs.create(ledger.new(charge=10), "again", limits=limits) == (CreateOutcome.KEY_USED, job_id)
    assert ledger.jobs.create(ledger.new(id=job_id, charge=10), limits=limits) == (CreateOutcome.EXISTS, job_id)
    assert spent(ledger) == 10


def test_steps_are_spent_and_come_back_after_a_day(ledger: Ledger) -> None:
    limits = Limits(picture_steps=100)
    send(ledger, limits, charge=60)
    ledger.clock.forward(2 * SLOT_S)
    send(ledger, limits, charge=40)
    with pytest.raises(StepsSpentError) as caught:
        send(ledger, limits, charge=1)
    wait_s = caught.value.retry_after_s
    assert wait_s is not None
    assert WINDOW_S - 3 * SLOT_S < wait_s <= WINDOW_S - SLOT_S
    with pytest.raises(StepsSpentError) as caught:
        send(ledger, limits, charge=61)
    assert caught.value.retry_after_s == wait_s + 2 * SLOT_S
    ledger.clock.forward(wait_s - 1)
    with pytest.raises(StepsSpentError):
        send(ledger, limits, charge=1)
    ledger.clock.forward(1)
    send(ledger, limits, charge=60)
    send(ledger, limits, owner="other", charge=100)


def test_a_job_that_is_more_than_the_limit_is_told_so(ledger: Ledger) -> None:
    with pytest.raises(StepsSpentError, match="This job alone") as caught:
        send(ledger, Limits(picture_steps=100), charge=101)
    assert caught.value.retry_after_s is None


def test_a_job_that_never_began_costs_nothing(ledger: Ledger) -> None:
    ledger.jobs.request_cancel(send(ledger, Limits(), charge=10))
    assert spent(ledger) == 0


@pytest.mark.parametrize("end", list(JobState)[2:])
def test_the_steps_that_were_not_taken_are_given_back(ledger: Ledger, end: JobState) -> None:
    job_id = send(ledger, Limits(), charge=90)
    ledger.jobs.begin(job_id, "w1", "cpu")
    ledger.jobs.progress(job_id, 1, phase="denoise", step=10, steps=30)
    ledger.clock.forward(2 * SLOT_S)
    ledger.jobs.finish(job_id, 1, end)
    assert spent(ledger) == 30


def test_an_attempt_that_was_lost_costs_nothing(ledger: Ledger) -> None:
    job_id = send(ledger, Limits(), charge=90)
    ledger.jobs.begin(job_id, "w1", "cpu")
    ledger.jobs.progress(job_id, 1, phase="denoise", step=30, steps=30)
    ledger.jobs.requeue(job_id, 1, Requeue.ATTEMPT_FAILED, DIED)
    ledger.jobs.request_cancel(job_id)
    assert spent(ledger) == 0


def test_damaged_numbers_cost_no_job_its_change(ledger: Ledger) -> None:
    ledger.client.set(keys.spent(ledger.name, ledger.name), "damage")
    job_id = send(ledger, Limits(), charge=10)
    assert ledger.jobs.begin(job_id, "w1", "cpu") is not None
    assert ledger.jobs.finish(job_id, 1, JobState.SUCCEEDED) is JobState.SUCCEEDED


def test_what_was_spent_is_told_by_the_clock_of_redis(desk: Desk) -> None:
    ledger = Ledger.open(desk.client, desk.model)
    jobs = JobStore(desk.client, desk.model)
    jobs.create(ledger.new(charge=7))
    slot = int(desk.client.time()[0]) // SLOT_S
    desk.client.hset(keys.spent(desk.model, desk.model), str(slot - WINDOW_S // SLOT_S - 1), 5)
    assert spent_steps(desk.client, desk.model, desk.model) == 7


@pytest.mark.parametrize(
    ("values", "charge"),
    [
        ({"num_inference_steps": 20}, 20),
        ({"num_inference_steps": 20, "num_images": 3, "score": True, "retries": 2}, 180),
        ({"num_images": 2}, 2 * USUAL_STEPS),
    ],
)
def test_a_job_is_charged_for_what_it_may_take(desk: Desk, values: dict[str, int], charge: int) -> None:
    assert charge_of(desk.request(**values)) == charge


def test_other_outcomes_are_no_limits() -> None:
    errors = {outcome: limit_error(outcome, Limits(1, 1, 1), 1) for outcome in CreateOutcome}
    assert [outcome for outcome, error in errors.items() if isinstance(error, LimitError)] == [
        CreateOutcome.TOO_MANY_WAITING,
        CreateOutcome.QUEUE_FULL,
        CreateOutcome.STEPS_SPENT,
    ]
