"""Counts and durations of a model's jobs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from redis import Redis

from ms_jobs import keys
from ms_jobs.job_store import JobStore
from ms_jobs.measures import BUCKETS, UNBOUNDED, Histogram, Measures
from ms_jobs.outcomes import Gone, Requeue
from ms_jobs.records import JobError, JobState
from tests.support.job_helpers import Desk

ERROR = JobError(code="worker_died", detail="It died.")


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def timed(desk: Desk, clock: Clock) -> Desk:
    """A desk whose jobs live by ``clock``."""
    jobs = JobStore(desk.client, clock=clock)
    return Desk(desk.client, jobs, desk.registry, desk.queue, desk.artifacts, desk.model)


@pytest.fixture
def measures(desk: Desk) -> Measures:
    return Measures(desk.client, desk.model)


def first_bucket(histogram: Histogram) -> str:
    """The bound within which the only duration lies."""
    return (*BUCKETS, UNBOUNDED)[histogram.counts.index(1)]


def running(desk: Desk) -> set[bytes]:
    client: Redis = desk.client
    return client.smembers(f"msd:running:{desk.model}")


def test_a_wait_is_timed_from_the_queue_to_the_begin(timed: Desk, clock: Clock, measures: Measures) -> None:
    job_id = timed.submit()
    clock.now += 7
    timed.begin(job_id)
    waited = measures.histograms()["wait", ""]
    assert (first_bucket(waited), waited.sum_s) == ("10", 7)


def test_a_second_wait_is_timed_from_the_second_queueing(timed: Desk, clock: Clock, measures: Measures) -> None:
    job_id = timed.submit()
    timed.begin(job_id)
    clock.now += 100
    timed.jobs.requeue(job_id, 1, Requeue.ABANDONED, ERROR)
    clock.now += 3
    timed.begin(job_id)
    assert measures.histograms()["wait", ""].sum_s == 3


def test_a_run_is_timed_from_its_begin_to_its_end(timed: Desk, clock: Clock, measures: Measures) -> None:
    job_id = timed.submit()
    clock.now += 5
    timed.begin(job_id)
    clock.now += 0.75
    timed.jobs.finish(job_id, 1, JobState.SUCCEEDED)
    ran = measures.histograms()["run", "succeeded"]
    assert (first_bucket(ran), ran.sum_s) == ("1", 0.75)


def test_the_whole_is_timed_from_the_acceptance(timed: Desk, clock: Clock, measures: Measures) -> None:
    job_id = timed.submit()
    clock.now += 5
    timed.begin(job_id)
    clock.now += 2
    timed.jobs.finish(job_id, 1, JobState.FAILED, error=ERROR)
    assert measures.histograms()["total", "failed"].sum_s == 7


def test_a_cancel_is_timed_from_the_request(timed: Desk, clock: Clock, measures: Measures) -> None:
    job_id = timed.submit()
    timed.begin(job_id)
    clock.now += 50
    timed.jobs.request_cancel(job_id)
    clock.now += 0.2
    timed.jobs.finish(job_id, 1, JobState.CANCELED)
    canceled = measures.histograms()["cancel", ""]
    assert (first_bucket(canceled), canceled.sum_s) == ("0.25", pytest.approx(0.2))


def test_a_cancel_in_the_queue_is_no_latency(timed: Desk, measures: Measures) -> None:
    timed.jobs.request_cancel(timed.submit())
    assert ("cancel", "") not in measures.histograms()


def test_a_job_that_never_ran_has_no_run(timed: Desk, measures: Measures) -> None:
    timed.jobs.request_cancel(timed.submit())
    assert ("run", "canceled") not in measures.histograms()


@pytest.mark.parametrize("bound", BUCKETS)
def test_a_bound_belongs_to_its_bucket_for_scripts(timed: Desk, clock: Clock, measures: Measures, bound: str) -> None:
    clock.now = 0.0
    job_id = timed.submit()
    clock.now = float(bound)
    timed.begin(job_id)
    assert first_bucket(measures.histograms()["wait", ""]) == bound


@pytest.mark.parametrize("bound", BUCKETS)
def test_a_bound_belongs_to_its_bucket_for_workers(measures: Measures, bound: str) -> None:
    measures.observe("phase", {"encode": float(bound)})
    assert first_bucket(measures.histograms()["phase", "encode"]) == bound


def test_what_is_beyond_the_last_bound_counts_too(measures: Measures) -> None:
    measures.observe("phase", {"denoise": 1e6})
    assert first_bucket(measures.histograms()["phase", "denoise"]) == UNBOUNDED


def test_each_bucket_counts_those_before_it(measures: Measures) -> None:
    for seconds in (0.2, 3.0, 3.0, 50.0):
        measures.observe("phase", {"denoise": seconds})
    counts = dict(zip((*BUCKETS, UNBOUNDED), measures.histograms()["phase", "denoise"].counts, strict=True))
    assert [counts[bound] for bound in ("0.1", "0.25", "5", "40", "60", UNBOUNDED)] == [0, 1, 3, 3, 4, 4]


def test_the_running_jobs_are_known(desk: Desk) -> None:
    job_id = desk.submit()
    desk.begin(job_id)
    assert running(desk) == {f"local:{job_id}".encode()}


def test_a_job_that_ended_runs_no_more(desk: Desk) -> None:
    job_id = desk.submit()
    desk.begin(job_id)
    desk.jobs.finish(job_id, 1, JobState.SUCCEEDED)
    assert running(desk) == set()


def test_a_job_that_was_put_back_runs_no_more(desk: Desk) -> None:
    job_id = desk.submit()
    desk.begin(job_id)
    desk.jobs.requeue(job_id, 1, Requeue.WORKER_STOPPING, ERROR)
    assert running(desk) == set()


def test_a_job_that_was_erased_runs_no_more(desk: Desk) -> None:
    job_id = desk.submit()
    desk.begin(job_id)
    desk.jobs.erase(job_id, Gone.DELETED)
    assert running(desk) == set()


def test_erased_jobs_are_counted_by_the_reason(desk: Desk, measures: Measures) -> None:
    desk.jobs.erase(desk.record(), Gone.DELETED)
    assert measures.counts()["erased_deleted"] == 1


def test_a_job_that_was_never_accepted_is_not_counted_as_erased(desk: Desk, measures: Measures) -> None:
    desk.jobs.erase(desk.record(), None)
    assert [name for name in measures.counts() if name.startswith("erased")] == []


def test_numbers_that_are_none_cost_no_job_its_change(desk: Desk, measures: Measures) -> None:
    histograms = keys.histograms(desk.model)
    desk.client.hset(keys.counts(desk.model), mapping={"queued": "many", "running": "9223372036854775807"})
    desk.client.hset(histograms, mapping={"wait||sum": "long", **{f"wait||{bound}": "x" for bound in BUCKETS}})
    desk.begin(desk.submit())
    assert (measures.counts()["queued"], measures.counts()["running"]) == (1, 1)
    assert measures.histograms()["wait", ""].counts[-1] == 1


@pytest.mark.parametrize("key", [keys.counts, keys.histograms])
def test_metrics_of_another_type_cost_no_job_its_change(desk: Desk, key: Callable[[str], str]) -> None:
    desk.client.set(key(desk.model), "rubbish")
    job_id = desk.submit()
    assert desk.begin(job_id).state is JobState.RUNNING
