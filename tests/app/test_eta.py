"""Queue position and estimated end of a job, by what past jobs took: a real Redis, no worker processes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from app.config import Settings
from app.jobs import eta
from app.jobs.eta import HEAD, Forecast, Outlook, rounded
from ms_jobs.job_store import JobStore
from ms_jobs.keys import queue_name
from ms_jobs.pace import Pace, Shape
from ms_jobs.records import JobRecord, JobState, WorkerRecord, WorkerState, new_job_id
from ms_jobs.registry import Registry
from ms_jobs.remaining import remaining_s

QUICK = str(Shape(10, 1, 512, 512, True, 1, 0))
SLOW = str(Shape(40, 1, 512, 512, True, 1, 0))
QUICK_S, SLOW_S = 2.0, 8.0


class CountingClient(redis.Redis):
    """Counts its round trips."""

    round_trips = 0

    def execute_command(self, *arguments: Any, **options: Any) -> Any:
        self.round_trips += 1
        return super().execute_command(*arguments, **options)

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Any:
        self.round_trips += 1
        return super().pipeline(transaction, shard_hint)


class Shop:
    """A queue and its workers, as Redis knows them."""

    def __init__(self, client: redis.Redis, model: str) -> None:
        self._client = client
        self._model = model
        self._store = JobStore(client)
        self._registry = Registry(client)
        self.pace = Pace(client, model)

    def knows_the_pace(self) -> None:
        for shape, seconds in ((QUICK, QUICK_S), (SLOW, SLOW_S)) * 3:
            self.pace.learn(shape, seconds)

    def worker(self, name: str, state: WorkerState = WorkerState.IDLE) -> None:
        record = WorkerRecord(
            name=name, model=self._model, state=state, device="cpu", host="h", pid=1, started_at=time.time()
        )
        self._registry.publish_worker(record, 60)

    def job(self, shape: str = QUICK) -> JobRecord:
        """A job at the end of the queue."""
        record = JobRecord(id=new_job_id(), model=self._model, folder="f", seed=1, shape=shape)
        entry = [("RPUSH", f"rq:queue:{queue_name(self._model)}", record.entry)]
        self._store.create(record, entry=entry)
        return self.now(record)

    def now(self, record: JobRecord) -> JobRecord:
        found = self._store.get(record.id)
        assert found is not None
        return found

    def runs(self, worker: str, shape: str = QUICK, since_s: float = 0.0, **progress: Any) -> JobRecord:
        """A job that a worker began some seconds ago."""
        record = self.job(shape)
        self._client.lrem(f"rq:queue:{queue_name(self._model)}", 0, record.entry)
        assert self._store.begin(record.id, worker, "cpu") is not None
        self._client.hset(f"msd:job:local:{record.id}", "started_at", str(time.time() - since_s))
        if progress:
            self._store.progress(record.id, 1, **progress)
        return self.now(record)

    def end(self, record: JobRecord) -> JobRecord:
        self._store.finish(record.id, record.attempt, JobState.SUCCEEDED)
        return self.now(record)

    def cancel(self, record: JobRecord) -> None:
        self._store.request_cancel(record.id)


@pytest.fixture
def shop(redis_client: redis.Redis, settings: Settings) -> Shop:
    shop = Shop(redis_client, settings.model)
    shop.knows_the_pace()
    return shop


@pytest.fixture
def look(redis_client: redis.Redis, settings: Settings) -> Callable[[JobRecord], Outlook]:
    """The outlook of a job by a process that has looked at nothing yet."""
    return lambda record: Forecast(redis_client, settings.model).outlook(record)


def about(seconds: float) -> Any:
    # The test itself takes a moment.
    return pytest.approx(seconds, abs=0.3)


Look = Callable[[JobRecord], Outlook]


def test_the_only_job_of_an_idle_worker_takes_what_its_like_took(shop: Shop, look: Look) -> None:
    shop.worker("w1")
    assert look(shop.job(SLOW)) == (0, about(SLOW_S))


def test_those_ahead_come_first(shop: Shop, look: Look) -> None:
    shop.worker("w1")
    shop.job(SLOW)
    shop.job(QUICK)
    assert look(shop.job(QUICK)) == (2, about(SLOW_S + 2 * QUICK_S))


def test_two_workers_share_the_queue(shop: Shop, look: Look) -> None:
    shop.worker("w1")
    shop.worker("w2")
    shop.job(SLOW)
    shop.job(QUICK)
    assert look(shop.job(QUICK)) == (2, about(2 * QUICK_S))


def test_what_a_worker_is_at_comes_first(shop: Shop, look: Look) -> None:
    shop.worker("w1", WorkerState.BUSY)
    shop.runs("w1", SLOW, since_s=3)
    assert look(shop.job(QUICK)) == (0, about(SLOW_S - 3 + QUICK_S))


def test_a_worker_that_does_not_serve_takes_nothing(shop: Shop, look: Look) -> None:
    shop.worker("w1")
    shop.worker("w2", WorkerState.STARTING)
    shop.job(QUICK)
    assert look(shop.job(QUICK)) == (1, about(2 * QUICK_S))


def test_a_job_whose_worker_died_runs_again_before_the_others(shop: Shop, look: Look) -> None:
    shop.worker("w1")
    shop.runs("dead", SLOW, since_s=3)
    assert look(shop.job(QUICK)) == (0, about(SLOW_S + QUICK_S))


def test_a_canceled_job_ahead_costs_nothing(shop: Shop, look: Look) -> None:
    shop.worker("w1")
    shop.cancel(shop.job(SLOW))
    assert look(shop.job(QUICK)).eta_s == about(QUICK_S)


def test_far_behind_the_mean_counts(shop: Shop, look: Look) -> None:
    shop.worker("w1")
    for _ in range(HEAD):
        shop.job(QUICK)
    for _ in range(30):
        shop.job(SLOW)
    # The slow ones are not looked at: they count as the others before them.
    assert look(shop.job(QUICK)) == (HEAD + 30, about((HEAD + 31) * QUICK_S))


def test_far_behind_workers_share_too(shop: Shop, look: Look) -> None:
    shop.worker("w1")
    shop.worker("w2")
    for _ in range(HEAD + 30):
        shop.job(QUICK)
    assert look(shop.job(QUICK)).eta_s == about((HEAD + 30) / 2 * QUICK_S + QUICK_S)


def test_without_a_worker_nothing_is_said(shop: Shop, look: Look) -> None:
    assert look(shop.job()) == (0, None)


def test_before_the_first_job_nothing_is_said(redis_client: redis.Redis, settings: Settings, look: Look) -> None:
    shop = Shop(redis_client, settings.model)
    shop.worker("w1")
    assert look(shop.job()) == (0, None)


def test_a_job_of_unknown_shape_takes_what_is_usual(shop: Shop, look: Look) -> None:
    shop.worker("w1")
    assert look(shop.job("")).eta_s == about((QUICK_S + SLOW_S) / 2)


NEWER_SHAPE = "v2:20-1"


def test_a_shape_of_a_newer_version_takes_what_is_usual(shop: Shop, look: Look) -> None:
    shop.worker("w1")
    running = shop.runs("w1", NEWER_SHAPE, since_s=1)
    queued = shop.job(NEWER_SHAPE)
    assert look(running).eta_s == about(4.0)
    assert look(queued) == (0, about(9.0))
    assert look(shop.job(SLOW)) == (1, about(9.0 + SLOW_S))


@pytest.mark.parametrize("damage", [{"shape": "[1]"}, {"shape": "7"}, {"worker": '{"name": "w1"}'}])
def test_the_damaged_record_of_one_job_hides_no_outlook_of_others(
    shop: Shop, look: Look, redis_client: redis.Redis, damage: dict[str, str]
) -> None:
    shop.worker("w1")
    for record in (shop.runs("w1"), shop.job()):
        redis_client.hset(f"msd:job:local:{record.id}", mapping=damage)
    position, eta_s = look(shop.job(SLOW))
    assert position == 1
    assert eta_s is not None


def test_a_running_job_has_what_is_left(shop: Shop, look: Look) -> None:
    shop.worker("w1", WorkerState.BUSY)
    assert look(shop.runs("w1", SLOW, since_s=3)) == (None, about(SLOW_S - 3))


def test_the_steps_of_a_running_job_tell_too(shop: Shop, look: Look) -> None:
    shop.worker("w1", WorkerState.BUSY)
    behind = shop.runs("w1", SLOW, since_s=6, phase="denoise", step=10, steps=40)
    # By the clock 2 s are left, by what its like took 6 s, by its own pace 18 s.
    assert look(behind).eta_s == about((10 * 18 + 5 * 6) / 15)


def test_a_running_job_whose_worker_is_gone_has_no_end_in_sight(shop: Shop, look: Look) -> None:
    shop.worker("w1")
    assert look(shop.runs("dead", SLOW)).eta_s is None


def test_a_job_that_ended_has_no_outlook(shop: Shop, look: Look) -> None:
    assert look(shop.end(shop.runs("w1"))) == Outlook(None, None)


def test_a_job_on_its_way_to_a_worker_takes_its_own_time(shop: Shop, look: Look, redis_client: redis.Redis) -> None:
    shop.worker("w1")
    record = shop.job(SLOW)
    redis_client.delete(f"rq:queue:{queue_name(record.model)}")
    assert look(record) == (None, about(SLOW_S))


@pytest.fixture
def counting(redis_url: str) -> CountingClient:
    return CountingClient.from_url(redis_url)


def test_an_ended_job_costs_no_round_trip(shop: Shop, counting: CountingClient, settings: Settings) -> None:
    Forecast(counting, settings.model).outlook(shop.end(shop.runs("w1")))
    assert counting.round_trips == 0


def test_a_first_look_costs_two_round_trips(shop: Shop, counting: CountingClient, settings: Settings) -> None:
    shop.worker("w1")
    shop.runs("w1")
    for _ in range(5):
        shop.job()
    Forecast(counting, settings.model).outlook(shop.job())
    assert counting.round_trips == 2


def test_the_next_look_costs_one(
    shop: Shop, counting: CountingClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eta, "VIEW_AGE_S", 60.0)
    shop.worker("w1")
    record = shop.job()
    forecast = Forecast(counting, settings.model)
    forecast.outlook(record)
    counting.round_trips = 0
    forecast.outlook(record)
    assert counting.round_trips == 1


def test_a_page_of_jobs_costs_as_much_as_one(shop: Shop, counting: CountingClient, settings: Settings) -> None:
    shop.worker("w1")
    jobs = [shop.end(shop.runs("w1")), shop.runs("w1"), *(shop.job() for _ in range(20))]
    Forecast(counting, settings.model).outlooks(jobs)
    assert counting.round_trips == 2


def test_jobs_on_a_page_have_the_outlook_that_each_has(
    shop: Shop, redis_client: redis.Redis, settings: Settings
) -> None:
    shop.worker("w1", WorkerState.BUSY)
    jobs = [shop.end(shop.runs("w1")), shop.runs("w1", SLOW), shop.job(SLOW), shop.job(QUICK)]
    assert Forecast(redis_client, settings.model).outlooks(jobs) == [
        (None, None),
        (None, about(SLOW_S)),
        (0, about(2 * SLOW_S)),
        (1, about(2 * SLOW_S + QUICK_S)),
    ]


def test_a_job_that_came_after_the_last_look_is_behind_the_others(
    shop: Shop, redis_client: redis.Redis, settings: Settings
) -> None:
    shop.worker("w1")
    forecast = Forecast(redis_client, settings.model)
    forecast.outlook(shop.job(SLOW))
    shop.job(SLOW)
    assert forecast.outlook(shop.job(QUICK)) == (2, about(2 * SLOW_S + QUICK_S))


def test_an_old_view_is_taken_anew(
    shop: Shop, redis_client: redis.Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.worker("w1")
    forecast = Forecast(redis_client, settings.model)
    first, last = shop.job(SLOW), shop.job(QUICK)
    forecast.outlook(last)
    shop.cancel(first)
    monkeypatch.setattr(eta, "VIEW_AGE_S", 0.0)
    assert forecast.outlook(last).eta_s == about(QUICK_S)


def test_within_a_view_time_goes_on(
    shop: Shop, redis_client: redis.Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eta, "VIEW_AGE_S", 60.0)
    shop.worker("w1")
    shop.job(SLOW)
    record = shop.job(QUICK)
    forecast = Forecast(redis_client, settings.model)
    before = forecast.outlook(record).eta_s
    time.sleep(0.2)
    after = forecast.outlook(record).eta_s
    assert before is not None
    assert after is not None
    assert before - after >= 0.2


@pytest.mark.parametrize(
    ("step", "left_s"),
    [(None, 6.0), (0, 6.0), (10, (10 * 12 + 5 * 7.5) / 15), (39, (39 * 4 / 39 + 5 * 0.25) / 44), (40, 6.0)],
    ids=["unknown", "none done", "a quarter done", "all but one done", "all done"],
)
def test_what_is_left_goes_by_the_clock_and_while_denoising_by_the_steps(step: int | None, left_s: float) -> None:
    assert remaining_s(10.0, 4.0, step, 40) == pytest.approx(left_s)


def test_a_job_of_many_steps_after_short_ones_is_told_by_its_own_pace(shop: Shop, look: Look) -> None:
    """A history of jobs of 20 steps, whose shape was not known: one of 150 has 118 to go."""
    for _ in range(9):
        shop.pace.learn("", 1.2)
    shop.worker("w1", WorkerState.BUSY)
    record = shop.runs("w1", "", since_s=1.6, phase="denoise", step=32, steps=150)
    found = look(record).eta_s
    assert found is not None
    assert 0.8 * 5.9 < found < 1.2 * 5.9


def test_a_job_that_takes_longer_than_thought_may_end_at_any_moment() -> None:
    assert remaining_s(10.0, 12.0, None, None) == 0.0
    # Steps begin again where memory ran out, which a client that looked on counts below 0.
    assert remaining_s(10.0, 4.0, -5, 20) == 6.0


@pytest.mark.parametrize(("exact", "shown"), [(None, None), (0.04, 0.0), (3.14159, 3.1), (9.96, 10.0), (123.4, 123.0)])
def test_an_estimate_is_as_exact_as_it_deserves(exact: float | None, shown: float | None) -> None:
    assert rounded(exact) == shown
