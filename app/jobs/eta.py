"""Estimates when a job will end, from past durations and the queue ahead of it."""

from __future__ import annotations

import heapq
import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import redis

from ms_jobs import keys
from ms_jobs.connection import is_transient
from ms_jobs.keys import JobKey
from ms_jobs.pace import Estimates, read_estimates
from ms_jobs.records import LATEST_S, JobRecord, JobState, WorkerRecord, as_text, read_beats
from ms_jobs.remaining import remaining_s

T = TypeVar("T")

log = logging.getLogger(__name__)

# Entries of the queue that are looked up singly; those behind count as their mean.
HEAD = 50
# Polls share a view of the queue for this long.
VIEW_AGE_S = 0.5
_WANTED = ("state", "shape", "started_at", "step", "steps", "worker")


class Outlook(NamedTuple):
    """A job's position and estimated end.

    Attributes:
        position: jobs ahead of it in the queue; ``None`` if it is not in the queue.
        eta_s: seconds until its end; ``None`` if it has ended, no worker serves, or no job was done yet.
    """

    position: int | None = None
    eta_s: float | None = None


@dataclass(frozen=True, slots=True)
class View:
    """The queue and the workers at one moment.

    Attributes:
        taken_at: on the monotonic clock.
        clock_offset_s: how far the clock of Redis is ahead of this host's.
        estimates: durations of jobs.
        serving: names of the workers that take jobs.
        begins_s: start times of the entries looked up and of the next one, in seconds from ``taken_at``.
        positions: queue positions of the entries looked up.
        mean_s: mean duration of the other entries, divided by the number of workers.
    """

    taken_at: float
    clock_offset_s: float
    estimates: Estimates
    serving: frozenset[str]
    begins_s: tuple[float, ...]
    positions: dict[str, int]
    mean_s: float

    @property
    def age_s(self) -> float:
        """Seconds since it was taken."""
        return time.monotonic() - self.taken_at

    def knows(self, entry: str) -> bool:
        """Whether an entry was looked up, or may be behind those that were."""
        return entry in self.positions or len(self.positions) == HEAD

    def begins_in_s(self, entry: str, position: int) -> float:
        """Estimate when a worker starts an entry's job, in seconds from now."""
        position = self.positions.get(entry, position)
        last = len(self.begins_s) - 1
        begin_s = self.begins_s[min(position, last)] + max(0, position - last) * self.mean_s
        return max(0.0, begin_s - self.age_s)


class Forecast:
    """Estimates when the jobs of one model will end.

    A queued job costs one request to Redis, two more if the view of the queue is too old; a running one only these two, an
    ended one none.

    Raises (every method):
        redis.exceptions.RedisError: Redis cannot be reached.
    """

    def __init__(self, client: redis.Redis, model: str) -> None:
        self._client = client
        self._queue_key = keys.queue(model)
        self._running_key = keys.running(model)
        self._workers_key = keys.workers(model)
        self._pace_key = keys.pace(model)
        self._lock = threading.Lock()
        self._view: View | None = None

    def outlook(self, record: JobRecord) -> Outlook:
        """Estimate for one job."""
        return self.outlooks([record])[0]

    def outlooks(self, records: Sequence[JobRecord]) -> list[Outlook]:
        """Estimate for several jobs, with as many requests as for one; unknown where what it needs cannot be read."""
        return _or_unknown(lambda: self._outlooks(records), [Outlook()] * len(records))

    def duration_s(self, shape: str) -> float | None:
        """Estimate how long a worker takes for a job of this shape, '' if unknown; ``None`` before the first job."""
        return _or_unknown(lambda: _seconds(self._look([])[0].estimates, shape), None)

    def wait_s(self, depth: int) -> float | None:
        """Estimate how long a job behind so many others waits; ``None`` before the first job, and if no worker serves."""
        return _or_unknown(lambda: self._wait_s(depth), None)

    def _wait_s(self, depth: int) -> float | None:
        view, _ = self._look([])
        if not view.serving or view.estimates.usual_s is None:
            return None
        return view.begins_in_s("", depth)

    def _outlooks(self, records: Sequence[JobRecord]) -> list[Outlook]:
        if all(record.state.ended for record in records):
            return [Outlook()] * len(records)
        view, positions = self._look([record.entry for record in records if record.state is JobState.QUEUED])
        return [_outlook(record, view, positions.get(record.entry)) for record in records]

    def _look(self, entries: list[str]) -> tuple[View, dict[str, int | None]]:
        """Get a recent view, and the positions of entries."""
        view = self._view
        # One thread at a time takes a view; the others use the last one.
        is_enough = view is not None and (view.age_s < VIEW_AGE_S or self._lock.locked())
        if view is not None and is_enough and all(map(view.knows, entries)):
            return view, self._positions(entries, view)
        with self._lock:
            self._view, positions = self._take_view(entries)
            return self._view, positions

    def _positions(self, entries: list[str], view: View) -> dict[str, int | None]:
        if not entries:
            return {}
        with self._client.pipeline(transaction=False) as pipeline:
            for entry in entries:
                # LPOS scans: start at the end that is nearer, the head for known entries, the tail for new ones.
                pipeline.lpos(self._queue_key, entry, rank=1 if entry in view.positions else -1)
            return dict(zip(entries, pipeline.execute(), strict=True))

    def _take_view(self, entries: list[str]) -> tuple[View, dict[str, int | None]]:
        with self._client.pipeline(transaction=False) as pipeline:
            pipeline.time()
            pipeline.lrange(self._pace_key, 0, -1)
            pipeline.lrange(self._queue_key, 0, HEAD - 1)
            pipeline.smembers(self._running_key)
            pipeline.smembers(self._workers_key)
            for entry in entries:
                pipeline.lpos(self._queue_key, entry)
            (seconds, micros), pace, first, running, workers, *positions = pipeline.execute()
        now = time.time()
        head = [as_text(text) for text in first]
        jobs = [JobKey.of_entry(text) for text in head] + [JobKey.parse(as_text(text)) for text in running]
        with self._client.pipeline(transaction=False) as pipeline:
            pipeline.mget([keys.worker(as_text(name)) for name in workers] or [""])
            for key in jobs:
                pipeline.hmget(keys.job(key), _WANTED)
            beats, *hashes = pipeline.execute(raise_on_error=False)
        records = list(read_beats(beats))
        clock_offset_s = seconds + micros / 1e6 - now
        states = [_fields(values) for values in hashes]
        view = _make_view(
            read_estimates(pace), records, head, states[: len(head)], states[len(head) :], now + clock_offset_s
        )
        return view, dict(zip(entries, positions, strict=True))


def _or_unknown(estimate: Callable[[], T], unknown: T) -> T:
    """An estimate's boundary: it must not fail the answer that it decorates."""
    try:
        return estimate()
    except Exception as error:
        if isinstance(error, redis.RedisError) and is_transient(error):
            raise
        log.debug("no estimate: %s", error, exc_info=True)
        return unknown


def _outlook(record: JobRecord, view: View, position: int | None) -> Outlook:
    if record.state.ended:
        return Outlook()
    if record.state is JobState.RUNNING:
        return Outlook(None, _until_end(record, view))
    own_s = _seconds(view.estimates, record.shape)
    if own_s is None or not view.serving:
        return Outlook(position)
    # Without an entry, a worker is taking it.
    begin_s = 0.0 if position is None else view.begins_in_s(record.entry, position)
    return Outlook(position, begin_s + own_s)


def rounded(seconds: float | None) -> float | None:
    """Round an estimate: to tenths of a second below ten seconds, else to seconds."""
    if seconds is None:
        return None
    return round(seconds, 1) if seconds < 10 else float(round(seconds))


def _until_end(record: JobRecord, view: View) -> float | None:
    estimate_s = _seconds(view.estimates, record.shape)
    if estimate_s is None or record.started_at is None or record.worker not in view.serving:
        return None
    elapsed_s = time.time() + view.clock_offset_s - record.started_at
    return remaining_s(estimate_s, elapsed_s, record.step, record.steps)


def _make_view(
    estimates: Estimates,
    workers: Iterable[WorkerRecord],
    head: Sequence[str],
    waiting: Sequence[dict[str, Any]],
    running: Iterable[dict[str, Any]],
    now: float,
) -> View:
    """Simulate the workers: each job goes to the first that is free."""
    serving = frozenset(worker.name for worker in workers if worker.state.serves)
    free_s = dict.fromkeys(serving, 0.0)
    abandoned: list[float] = []
    for job in running:
        estimate_s = _estimate(estimates, job)
        if job["worker"] not in serving or job["started_at"] is None:
            abandoned.append(estimate_s)  # it will be requeued, ahead of the others
            continue
        left_s = remaining_s(estimate_s, now - job["started_at"], job["step"], job["steps"])
        free_s[job["worker"]] = max(free_s[job["worker"]], left_s)
    heap = list(free_s.values()) or [0.0]
    heapq.heapify(heap)
    for seconds in abandoned:
        heapq.heappush(heap, heapq.heappop(heap) + seconds)
    # A canceled job may still have its entry.
    takes_s = [_estimate(estimates, job) if job["state"] == "queued" else 0.0 for job in waiting]
    begins_s: list[float] = []
    for seconds in takes_s:
        begins_s.append(heap[0])
        heapq.heapreplace(heap, heap[0] + seconds)
    begins_s.append(heap[0])
    mean_s = sum(takes_s) / len(takes_s) if takes_s else estimates.usual_s or 0.0
    return View(
        taken_at=time.monotonic(),
        clock_offset_s=now - time.time(),
        estimates=estimates,
        serving=serving,
        begins_s=tuple(begins_s),
        positions={entry: position for position, entry in enumerate(head)},
        mean_s=mean_s / len(heap),
    )


def _estimate(estimates: Estimates, job: dict[str, Any]) -> float:
    return _seconds(estimates, job["shape"] or "") or 0.0


def _seconds(estimates: Estimates, shape: str) -> float | None:
    """What a shape takes; a damaged one, or one of a newer version, takes what is usual."""
    try:
        return estimates.seconds(shape)
    except ValueError:
        return estimates.usual_s


def _fields(values: Iterable[bytes | None]) -> dict[str, Any]:
    """Decode the ``_WANTED`` fields of a job's hash; ``None`` for missing ones, and for all if one cannot be used."""
    unknown: dict[str, Any] = dict.fromkeys(_WANTED)
    try:
        fields = {name: None if text is None else json.loads(text) for name, text in zip(_WANTED, values, strict=True)}
        numbers = [fields[name] for name in ("started_at", "step", "steps")]
        texts = [fields[name] for name in ("shape", "worker")]
        is_sound = all(number is None or 0 <= number <= LATEST_S for number in numbers)
        return fields if is_sound and all(isinstance(text, str | None) for text in texts) else unknown
    except (TypeError, ValueError):
        return unknown
