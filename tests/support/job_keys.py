"""One owner's jobs under a clock that stands still, and what Redis holds of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from redis import Redis

from ms_jobs.job_store import JobStore
from ms_jobs.outcomes import CreateOutcome
from ms_jobs.records import JobError, JobRecord, new_job_id

LIFETIME_S = 1000.0
DIED = JobError(code="worker_died", detail="The worker died.")


class Clock:
    """Unix seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += seconds


class Entry(NamedTuple):
    """One entry of an event log or a progress stream."""

    id: str
    fields: dict[str, str]


@dataclass(frozen=True)
class Ledger:
    """The jobs of one owner and model; both bear one name."""

    client: Redis
    jobs: JobStore
    clock: Clock
    name: str

    @classmethod
    def open(cls, client: Redis, name: str) -> Ledger:
        clock = Clock()
        return cls(client, JobStore(client, name, LIFETIME_S, clock), clock, name)

    def new(self, **values: Any) -> JobRecord:
        """A record that is not stored yet."""
        job_id = values.pop("id", None) or new_job_id()
        return JobRecord(id=job_id, model=self.name, folder=f"{job_id}.00000000", seed=7, **values)

    def create(self, **limits: Any) -> str:
        """A queued job; returns its id."""
        record = self.new()
        assert self.jobs.create(record, **limits) == (CreateOutcome.CREATED, record.id)
        return record.id

    def begun(self, worker: str = "w1", **limits: Any) -> str:
        """A running job; returns its id."""
        job_id = self.create(**limits)
        assert self.jobs.begin(job_id, worker, "cpu") is not None
        return job_id

    def get(self, job_id: str) -> JobRecord:
        record = self.jobs.get(job_id)
        assert record is not None
        return record

    def events(self, job_id: str) -> list[Entry]:
        return self._entries(f"msd:events:{self.name}:{job_id}")

    def event_names(self, job_id: str) -> list[str]:
        return [entry.fields["event"] for entry in self.events(job_id)]

    def progress(self, job_id: str) -> list[Entry]:
        return self._entries(f"msd:progress:{self.name}:{job_id}")

    def due(self, job_id: str) -> float | None:
        """When time alone changes something about a job, in seconds from now."""
        score = self.client.zscore(f"msd:due:{self.name}", f"{self.name}:{job_id}")
        return None if score is None else round(score - self.clock.now, 3)

    def counts(self) -> dict[str, int]:
        found = self.client.hgetall(f"msd:counts:{self.name}")
        return {name.decode(): int(count) for name, count in found.items()}

    def mentions(self, job_id: str) -> list[str]:
        """All keys whose name or content speaks of a job."""
        needle = job_id.encode()
        return sorted(
            key.decode() for key in self.client.scan_iter(count=1000) if needle in key or self._holds(key, needle)
        )

    def _holds(self, key: bytes, needle: bytes) -> bool:
        if self.name.encode() not in key:
            return False
        content = {
            b"string": self.client.get,
            b"hash": self.client.hgetall,
            b"set": self.client.smembers,
            b"zset": lambda name: self.client.zrange(name, 0, -1),
            b"stream": self.client.xrange,
            b"list": lambda name: self.client.lrange(name, 0, -1),
        }[self.client.type(key)](key)
        return needle in repr(content).encode()

    def _entries(self, key: str) -> list[Entry]:
        found = self.client.xrange(key)
        return [Entry(name.decode(), {k.decode(): v.decode() for k, v in fields.items()}) for name, fields in found]
