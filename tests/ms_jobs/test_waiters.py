"""Who waits for a job, who joins it, and when one that nobody waits for is canceled."""

from __future__ import annotations

import pytest

from ms_jobs.outcomes import ProgressReply
from ms_jobs.records import JobState
from ms_jobs.waiters import Waiters
from tests.support.job_keys import LIFETIME_S, Ledger

WINDOW_S = 10.0
SENT, OTHER = "0" * 64, "1" * 64


@pytest.fixture
def waiters(ledger: Ledger) -> Waiters:
    return Waiters(ledger.client, ledger.jobs, WINDOW_S, ledger.name)


@pytest.fixture
def waited(ledger: Ledger, waiters: Waiters) -> str:
    """A job with one connection."""
    job_id = ledger.create()
    waiters.begin(job_id, SENT)
    return job_id


def test_a_job_that_is_waited_for_is_joined_by_those_alone_who_say_that_they_retry(
    waiters: Waiters, waited: str
) -> None:
    assert waiters.rejoin(SENT, is_retry=False) is None
    assert waiters.rejoin(OTHER, is_retry=True) is None
    assert waiters.rejoin(SENT, is_retry=True) == waited


def test_a_lost_job_is_joined_within_the_window_by_everybody_who_sends_the_same(
    ledger: Ledger, waiters: Waiters, waited: str
) -> None:
    waiters.end(waited, SENT, answered=False)
    ledger.clock.forward(WINDOW_S - 0.1)
    assert waiters.rejoin(OTHER, is_retry=False) is None
    assert waiters.rejoin(SENT, is_retry=False) == waited
    # The loss is made up for: the next is another request.
    assert waiters.rejoin(SENT, is_retry=False) is None


@pytest.mark.parametrize("is_retry", [False, True])
def test_after_the_window_nobody_joins(ledger: Ledger, waiters: Waiters, waited: str, is_retry: bool) -> None:
    waiters.end(waited, SENT, answered=False)
    ledger.clock.forward(WINDOW_S + 0.1)
    assert waiters.rejoin(SENT, is_retry) is None


def test_a_queued_job_that_nobody_waits_for_is_canceled_after_the_window(
    ledger: Ledger, waiters: Waiters, waited: str
) -> None:
    waiters.end(waited, SENT, answered=False)
    assert ledger.due(waited) == WINDOW_S
    ledger.clock.forward(WINDOW_S - 0.1)
    assert ledger.jobs.pass_time(waited) == (JobState.QUEUED, False)
    ledger.clock.forward(0.2)
    assert ledger.jobs.pass_time(waited) == (JobState.CANCELED, False)
    assert waiters.rejoin(SENT, is_retry=True) is None


def test_a_running_job_that_nobody_waits_for_is_canceled_after_the_window(ledger: Ledger, waiters: Waiters) -> None:
    job_id = ledger.begun()
    waiters.begin(job_id, SENT)
    waiters.end(job_id, SENT, answered=False)
    assert ledger.jobs.progress(job_id, 1) is ProgressReply.CONTINUE
    ledger.clock.forward(WINDOW_S + 0.1)
    assert ledger.jobs.progress(job_id, 1) is ProgressReply.CANCEL


def test_who_joins_keeps_the_job(ledger: Ledger, waiters: Waiters, waited: str) -> None:
    waiters.end(waited, SENT, answered=False)
    assert waiters.rejoin(SENT, is_retry=False) == waited
    assert ledger.due(waited) == LIFETIME_S
    ledger.clock.forward(WINDOW_S + 0.1)
    assert ledger.jobs.pass_time(waited) == (JobState.QUEUED, False)
    assert ledger.get(waited).cancel_at is None


def test_a_running_job_that_is_kept_has_no_deadline(ledger: Ledger, waiters: Waiters) -> None:
    job_id = ledger.begun()
    waiters.begin(job_id, SENT)
    waiters.end(job_id, SENT, answered=False)
    assert ledger.due(job_id) == WINDOW_S
    assert waiters.rejoin(SENT, is_retry=False) == job_id
    assert ledger.due(job_id) is None


def test_of_several_connections_the_last_one_decides(ledger: Ledger, waiters: Waiters, waited: str) -> None:
    assert waiters.rejoin(SENT, is_retry=True) == waited
    waiters.end(waited, SENT, answered=False)
    assert ledger.due(waited) == LIFETIME_S
    waiters.end(waited, SENT, answered=False)
    assert ledger.due(waited) == WINDOW_S


def test_an_answered_job_is_joined_for_a_while_by_those_alone_who_say_that_they_retry(
    ledger: Ledger, waiters: Waiters, waited: str
) -> None:
    ledger.jobs.begin(waited, "w1", "cpu")
    ledger.jobs.finish(waited, 1, JobState.SUCCEEDED)
    waiters.end(waited, SENT, answered=True)
    assert waiters.rejoin(SENT, is_retry=False) is None
    assert waiters.rejoin(SENT, is_retry=True) == waited
    waiters.end(waited, SENT, answered=True)
    assert ledger.due(waited) == LIFETIME_S
    ledger.clock.forward(WINDOW_S + 0.1)
    assert waiters.rejoin(SENT, is_retry=True) is None


def test_of_several_equal_requests_a_lost_one_is_joined_first(ledger: Ledger, waiters: Waiters, waited: str) -> None:
    other = ledger.create()
    waiters.begin(other, SENT)
    for lost in (waited, other):
        waiters.end(lost, SENT, answered=False)
        assert waiters.rejoin(SENT, is_retry=True) == lost


def test_a_job_that_is_gone_is_neither_joined_nor_left(ledger: Ledger, waiters: Waiters, waited: str) -> None:
    ledger.jobs.erase(waited, None)
    assert waiters.rejoin(SENT, is_retry=True) is None
    waiters.end(waited, SENT, answered=False)
    assert ledger.mentions(waited) == []


def test_requests_are_forgotten(ledger: Ledger, waiters: Waiters, waited: str) -> None:
    key = f"msd:twins:{ledger.name}:{SENT}"
    assert 0 < ledger.client.ttl(key) <= LIFETIME_S
    waiters.end(waited, SENT, answered=False)
    ledger.clock.forward(WINDOW_S + 0.1)
    second = ledger.create()
    waiters.begin(second, SENT)
    waiters.end(second, SENT, answered=False)
    assert ledger.client.zrange(key, 0, -1) == [second.encode()]
