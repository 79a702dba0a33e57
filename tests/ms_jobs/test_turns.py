"""Owners take turns: who sends much waits for its own jobs, not the others."""

from __future__ import annotations

from statistics import median

import pytest
from redis import Redis

from ms_jobs import keys
from ms_jobs.job_store import JobStore
from ms_jobs.keys import JobKey
from ms_jobs.outcomes import Requeue
from ms_jobs.queue import JobQueue, cutout_entry
from ms_jobs.records import JobRecord, JobState, as_text, new_job_id
from tests.support.job_helpers import Desk
from tests.support.job_keys import DIED


class Line:
    """One worker's queue, whose jobs take a second each."""

    def __init__(self, desk: Desk) -> None:
        self.client: Redis = desk.client
        self.model = desk.model
        self.queue = JobQueue(self.client, self.model)
        self.names: dict[JobKey, str] = {}
        self.running: JobKey | None = None

    def send(self, owner: str, job_id: str | None = None) -> JobKey:
        record = JobRecord(id=job_id or new_job_id(), owner=owner, model=self.model, folder="f", seed=7)
        JobStore(self.client, owner).create(record, entry=self.queue.entry(record))
        key = JobKey(owner, record.id)
        self.names[key] = owner[0] + str(sum(other.owner == owner for other in self.names))
        return key

    def waiting(self) -> str:
        entries = map(as_text, self.client.lrange(keys.queue(self.model), 0, -1))
        return " ".join(self.names[JobKey.of_entry(entry)] for entry in entries)

    def take(self) -> JobKey:
        """End the running job, and begin the next."""
        self.end()
        entry = self.client.lpop(keys.queue(self.model))
        assert isinstance(entry, bytes)
        self.running = JobKey.of_entry(entry.decode())
        assert JobStore(self.client, self.running.owner).begin(self.running.id, "w1", "cpu") is not None
        return self.running

    def end(self) -> None:
        if self.running is not None:
            JobStore(self.client, self.running.owner).finish(self.running.id, 1, JobState.FAILED)
        self.running = None


@pytest.fixture
def line(desk: Desk) -> Line:
    return Line(desk)


def send(line: Line, names: str) -> None:
    for name in names.split():
        line.send({"a": "ann", "b": "bob", "c": "cy"}[name])


@pytest.mark.parametrize(
    ("sent", "waiting"),
    [
        ("a a a", "a0 a1 a2"),
        ("a a a b", "a0 b0 a1 a2"),
        ("a a a b b b b c", "a0 b0 c0 a1 b1 a2 b2 b3"),
        ("a b c a b c", "a0 b0 c0 a1 b1 c1"),
    ],
)
def test_owners_take_turns(line: Line, sent: str, waiting: str) -> None:
    send(line, sent)
    assert line.waiting() == waiting


def test_a_running_job_was_its_owner_s_turn(line: Line) -> None:
    send(line, "a a a a")
    line.take()
    send(line, "b b c")
    assert line.waiting() == "b0 c0 a1 b1 a2 a3"


def test_a_job_that_goes_back_to_the_head_stays_there(line: Line) -> None:
    send(line, "a a")
    owner, job_id = line.take()
    jobs = JobStore(line.client, owner)
    jobs.requeue(job_id, 1, Requeue.WORKER_STOPPING, DIED)
    record = jobs.get(job_id)
    assert record is not None
    line.queue.put_first(record)
    send(line, "b b")
    assert line.waiting() == "a0 b0 a1 b1"


def test_jobs_found_again_do_not_turn_an_owner_s_order(line: Line) -> None:
    send(line, "b a b a")
    for number in range(3):
        found = JobRecord(id=f"{number:022}", owner="bob", model=line.model, folder="f", seed=7)
        JobStore(line.client, "bob").create(found)
        line.names[JobKey("bob", found.id)] = f"found{number}"
        line.queue.put_first(found)
    send(line, "a")
    assert line.waiting() == "found2 found1 found0 b0 a0 b1 a1 a2"


def test_cut_outs_are_nobody_s_turn_and_a_job_cannot_be_named_like_one(line: Line) -> None:
    line.queue.put_cutout("ann", "asset")
    (cutout,) = line.client.lrange(keys.queue(line.model), 0, -1)
    assert as_text(cutout) == cutout_entry("ann", line.model, "asset")
    line.client.lpop(keys.queue(line.model))
    for number in range(3):
        line.send("ann", f"cutout-{number:057x}")
    line.client.lpush(keys.queue(line.model), cutout)
    line.send("bob")
    line.client.lpop(keys.queue(line.model))
    assert line.waiting() == "a0 b0 a1 a2"


def waits_of_light_owners(line: Line, heavy_jobs: int) -> float:
    """The median wait, in jobs, of three owners who each send their next job when the last one ends."""
    for _ in range(heavy_jobs):
        line.send("heavy")
    sent_at = {line.send(owner): 0 for owner in ("ann", "bob", "cy")}
    waits = []
    for now in range(100):
        taken = line.take()
        if taken.owner != "heavy":
            waits.append(now - sent_at.pop(taken))
            line.end()
            sent_at[line.send(taken.owner)] = now + 1
    return median(waits)


def test_a_hundred_jobs_of_one_owner_delay_the_others_by_their_share(line: Line) -> None:
    beside_heavy = waits_of_light_owners(line, 100)
    line.end()
    line.client.delete(keys.queue(line.model))
    alone = waits_of_light_owners(line, 0)
    assert alone == 2
    assert beside_heavy <= 2 * alone + 1
