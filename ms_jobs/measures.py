"""Counts and durations of a model's jobs, in Redis, so that every process can report them.

Scripts count events and their durations in the step of the event; workers add those of the phases. The hashes have a fixed
set of fields, and restart at zero only with an empty Redis.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple

from redis import Redis

from ms_jobs import keys
from ms_jobs.records import as_text

# Upper bounds in seconds; ``UNBOUNDED`` follows them.
BUCKETS = (
    "0.01",
    "0.025",
    "0.05",
    "0.1",
    "0.25",
    "0.5",
    "1",
    "2.5",
    "5",
    "10",
    "20",
    "40",
    "60",
    "120",
    "300",
    "600",
    "3600",
)
UNBOUNDED = "+Inf"
PARTED_BY = "|"


class Histogram(NamedTuple):
    """Durations of one kind.

    Attributes:
        counts: for each of ``BUCKETS`` and ``UNBOUNDED``, how many were within it: cumulative.
        sum_s: sum of all durations, in seconds.
    """

    counts: tuple[int, ...]
    sum_s: float

    @classmethod
    def empty(cls) -> Histogram:
        """Make a histogram without durations."""
        return cls((0,) * (len(BUCKETS) + 1), 0.0)


class Measures:
    """Counts and durations of the jobs of one model.

    Errors of the client, such as ``redis.exceptions.ConnectionError``, pass through unchanged.
    """

    def __init__(self, client: Redis, model: str) -> None:
        self._client = client
        self._counts_key = keys.counts(model)
        self._histograms_key = keys.histograms(model)

    def observe(self, kind: str, durations_s: Mapping[str, float]) -> None:
        """Add durations, such as ``{"denoise": 3.2}`` of kind ``phase``, in one round trip."""
        with self._client.pipeline(transaction=False) as pipeline:
            for label, seconds in durations_s.items():
                name = f"{kind}{PARTED_BY}{label}{PARTED_BY}"
                bucket = next((bound for bound in BUCKETS if seconds <= float(bound)), UNBOUNDED)
                pipeline.hincrby(self._histograms_key, name + bucket, 1)
                pipeline.hincrbyfloat(self._histograms_key, f"{name}sum", seconds)
            pipeline.execute()

    def counts(self) -> dict[str, int]:
        """Read the counts of the events that have happened."""
        return {name: int(number) for name, number in self._numbers(self._counts_key)}

    def histograms(self) -> dict[tuple[str, str], Histogram]:
        """Read the histograms by kind and label, such as ``("phase", "denoise")``."""
        single: dict[tuple[str, str], dict[str, float]] = {}
        for name, number in self._numbers(self._histograms_key):
            # Names of more parts are those of a newer version.
            if name.count(PARTED_BY) == 2:
                kind, label, field = name.split(PARTED_BY)
                single.setdefault((kind, label), {})[field] = number
        return {key: _histogram(fields) for key, fields in single.items()}

    def _numbers(self, key: str) -> Iterator[tuple[str, float]]:
        """The fields of a hash that are finite numbers."""
        for name, value in self._client.hgetall(key).items():
            with suppress(ValueError):
                if math.isfinite(number := float(value)):
                    yield as_text(name), number


def _histogram(fields: Mapping[str, float]) -> Histogram:
    counts: list[int] = []
    for bound in (*BUCKETS, UNBOUNDED):
        counts.append((counts[-1] if counts else 0) + int(fields.get(bound, 0)))
    return Histogram(tuple(counts), fields.get("sum", 0.0))
