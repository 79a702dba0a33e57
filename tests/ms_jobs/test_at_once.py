"""An owner runs so many jobs at once and no more; what may not start goes back, and nothing is lost."""

from __future__ import annotations

import random
import secrets

import pytest

from ms_jobs import keys
from ms_jobs.at_once import AtOnce, Start
from ms_jobs.job_store import JobStore
from ms_jobs.keys import JobKey
from ms_jobs.queue import JobQueue, cutout_entry
from ms_jobs.records import JobRecord, JobState, as_text
from tests.support.job_helpers import Desk

CUTOUT = cutout_entry("ann", "m", "a")


class Workers:
    """Several workers of one queue, as RQ moves its entries."""

    def __init__(self, desk: Desk, most: int) -> None:
        self.client, self.model = desk.client, desk.model
        self.at_once = AtOnce(desk.client, desk.model, most)
        self.queue = JobQueue(desk.client, desk.model)

    def send(self, owner: str, job_id: str) -> None:
        record = JobRecord(id=f"{job_id}-x-{secrets.token_hex(8)}", owner=owner, model=self.model, folder="f", seed=7)
        JobStore(self.client, owner).create(record, entry=self.queue.entry(record))

    def put(self, entry: str) -> None:
        self.client.lpush(keys.queue(self.model), entry)

    def take(self) -> str | None:
        entry = self.client.lmove(keys.queue(self.model), keys.rq_taken(self.model))
        return None if entry is None else as_text(entry)

    def take_next(self) -> str | None:
        """Take entries until one may start."""
        while (entry := self.take()) is not None:
            start = self.at_once.may_start(entry)
            if start is Start.YES:
                self.client.lrem(keys.rq_taken(self.model), 1, entry)
                return entry
            if start is Start.NONE_NOW:
                return None
        return None

    def begin(self, entry: str) -> None:
        key = JobKey.of_entry(entry)
        assert JobStore(self.client, key.owner).begin(key.id, "w", "cpu") is not None
        self.at_once.has_started(entry)

    def end(self, entry: str) -> None:
        key = JobKey.of_entry(entry)
        JobStore(self.client, key.owner).finish(key.id, 1, JobState.FAILED)

    def entries(self) -> list[str]:
        return [as_text(entry) for entry in self.client.lrange(keys.queue(self.model), 0, -1)]

    def waiting(self) -> list[str]:
        return [id_of(entry) for entry in self.entries()]


@pytest.fixture
def workers(desk: Desk) -> Workers:
    return Workers(desk, 1)


def id_of(entry: str | None) -> str:
    return "" if entry is None else JobKey.of_entry(entry).id.partition("-x-")[0]


def test_another_owner_goes_first_and_the_order_stays_otherwise(workers: Workers) -> None:
    for job in reversed(("ann-1", "ann-2", "ann-3", "bob-1", "ann-4")):
        workers.put(JobKey(job[:3], job).entry(0))
    assert id_of(workers.take_next()) == "ann-1"
    assert id_of(workers.take_next()) == "bob-1"
    assert workers.take_next() is None
    assert workers.waiting() == ["ann-2", "ann-3", "ann-4"]
    assert workers.client.llen(keys.rq_taken(workers.model)) == 0


@pytest.mark.parametrize("begins", [True, False])
def test_a_job_counts_from_its_taking_to_its_end(workers: Workers, begins: bool) -> None:
    workers.send("ann", "one")
    workers.send("ann", "two")
    first = workers.take_next()
    assert first is not None
    if begins:
        workers.begin(first)
    assert workers.take_next() is None
    if not begins:
        workers.begin(first)
    workers.end(first)
    assert id_of(workers.take_next()) == "two"


def test_a_job_whose_worker_died_before_it_began_counts_for_a_while_only(workers: Workers) -> None:
    workers.send("ann", "one")
    workers.send("ann", "two")
    first = workers.take_next()
    assert first is not None
    workers.client.zadd(keys.taken(workers.model), {str(JobKey.of_entry(first)): 1})
    assert id_of(workers.take_next()) == "two"


def test_a_job_that_is_taken_again_does_not_wait_for_itself(workers: Workers) -> None:
    workers.send("ann", "one")
    entry = workers.take_next()
    assert entry is not None
    workers.put(entry)
    assert workers.take_next() == entry


def test_cut_outs_always_may(workers: Workers) -> None:
    workers.send("ann", "one")
    workers.send("ann", "two")
    assert workers.take_next() is not None
    assert workers.at_once.may_start(CUTOUT) is Start.YES
    workers.client.rpush(keys.queue(workers.model), CUTOUT)
    assert workers.take_next() == CUTOUT


def test_what_a_housekeeper_put_back_is_not_put_back_twice(workers: Workers) -> None:
    workers.send("ann", "one")
    workers.send("ann", "two")
    workers.take_next()
    entry = workers.take()
    assert entry is not None
    workers.client.lmove(keys.rq_taken(workers.model), keys.queue(workers.model))
    assert workers.at_once.may_start(entry) is Start.NONE_NOW
    assert workers.waiting() == ["two"]


def test_without_a_limit_all_may(desk: Desk) -> None:
    workers = Workers(desk, 0)
    for job in ("one", "two", "three"):
        workers.send("ann", job)
    assert [id_of(workers.take_next()) for _ in range(3)] == ["one", "two", "three"]
    assert not desk.client.exists(keys.taken(desk.model))


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_lost_no_owner_has_too_many_and_none_waits_in_vain(desk: Desk, seed: int) -> None:
    rng, most = random.Random(seed), 1 + seed % 3
    workers = Workers(desk, most)
    sent, taken, running, ended = set[str](), list[str](), list[str](), set[str]()
    for step in range(120):
        action = rng.choice(("send", "take", "take", "begin", "end"))
        if action == "send":
            workers.send(rng.choice(("ann", "bob", "cid")), f"j{step}")
            sent.add(f"j{step}")
        elif action == "take":
            entry = workers.take_next()
            taken += [] if entry is None else [entry]
            if entry is None:
                busy = owners_of(taken + running)
                assert all(busy.count(owner) >= most for owner in owners_of(workers.entries()))
        elif action == "begin" and taken:
            running.append(taken.pop(rng.randrange(len(taken))))
            workers.begin(running[-1])
        elif action == "end" and running:
            entry = running.pop(rng.randrange(len(running)))
            workers.end(entry)
            ended.add(id_of(entry))
        busy = owners_of(taken + running)
        assert all(busy.count(owner) <= most for owner in busy)
        assert sorted([*workers.waiting(), *map(id_of, taken + running), *ended]) == sorted(sent)


def owners_of(entries: list[str]) -> list[str]:
    return [JobKey.of_entry(entry).owner for entry in entries]
