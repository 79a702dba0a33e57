"""Metrics for Prometheus.

Metrics of jobs, workers and devices are read from Redis at each scrape, so all API processes report the same: aggregate
them with ``max``, not ``sum``. HTTP metrics and ``process_*`` belong to the process that answers: aggregate them with ``sum``. The
processes of one ``msd api --workers`` add up theirs in the folder of ``PROMETHEUS_MULTIPROC_DIR``, and have no ``process_*``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Annotated, NamedTuple

import prometheus_client
import redis
from fastapi import APIRouter, Header, Response
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.utils import floatToGoString

from app.dependencies import given
from ms_jobs import keys
from ms_jobs.measures import BUCKETS, UNBOUNDED, Histogram, Measures
from ms_jobs.queue import JobQueue
from ms_jobs.records import JobState, WorkerRecord, WorkerState, as_text, read_beats

Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily

EVENTS = ("queued", "running", "cancel_requested", "succeeded", "failed", "canceled", "expired")
LOST_ATTEMPTS = ("abandoned", "given_back", "handed_back")
ERASED = ("expired", "deleted")
PHASES = ("load", "encode", "denoise", "decode", "store")
ENDED = ("succeeded", "failed", "canceled")
HTTP_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
# The name is prometheus_client's.
SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
NO_ROUTE = "none"
router = APIRouter()

METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"))


class HttpMeter:
    """Counts and times this process's requests, by route template."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ("method", "route", "status")
        self._requests = prometheus_client.Counter(
            "msd_http_requests", "HTTP requests answered by this process.", labels, registry=registry
        )
        self._seconds = prometheus_client.Histogram(
            "msd_http_request_seconds",
            "Duration of HTTP requests, event streams and long polls included.",
            labels[:2],
            buckets=HTTP_BUCKETS,
            registry=registry,
        )
        # Looking up a series by its labels costs more than counting.
        self._series = cache(self._find)

    def note(self, method: str, route: str | None, status: int, seconds: float) -> None:
        """Count a request; ``route`` is ``None`` if no route matched."""
        method = method if method in METHODS else "OTHER"
        requests, durations = self._series(method, NO_ROUTE if route is None else route, status)
        requests.inc()
        durations.observe(seconds)

    def _find(
        self, method: str, route: str, status: int
    ) -> tuple[prometheus_client.Counter, prometheus_client.Histogram]:
        return self._requests.labels(method, route, str(status)), self._seconds.labels(method, route)


class Metrics:
    """All metrics of one API process."""

    def __init__(self, client: redis.Redis, model: str, version: str) -> None:
        """``client`` should have a short timeout."""
        # Creation times of counters would double the series.
        prometheus_client.disable_created_metrics()
        self.registry = CollectorRegistry(auto_describe=False)
        if os.environ.get(SHARED_FOLDER):
            self.http = HttpMeter(CollectorRegistry())
            MultiProcessCollector(self.registry)
        else:
            self.http = HttpMeter(self.registry)
            prometheus_client.ProcessCollector(registry=self.registry)
        self.registry.register(ServiceCollector(client, model, version))


MetricsDependency = Annotated[Metrics, given("metrics")]


class _Snapshot(NamedTuple):
    """What Redis holds at one moment."""

    now: float
    depth: int
    oldest_s: float
    active: int
    running: int
    counts: Mapping[str, int]
    histograms: Mapping[tuple[str, str], Histogram]
    workers: Sequence[WorkerRecord]


class ServiceCollector(Collector):
    """Reads the metrics of one model from Redis at each scrape; without Redis it reports only that."""

    def __init__(self, client: redis.Redis, model: str, version: str) -> None:
        self._client = client
        self._measures = Measures(client, model)
        self._queue = JobQueue(client, model)
        self._model = model
        self._version = version

    def collect(self) -> Iterator[Family]:
        """Yield the metric families, always in the same order."""
        info = GaugeMetricFamily("msd_info", "The version of the service, as a label.", labels=["version"])
        info.add_metric([self._version], 1)
        yield info
        try:
            snapshot = self._look()
        except redis.RedisError:
            snapshot = None
        yield GaugeMetricFamily("msd_redis_up", "Whether Redis answered this scrape.", value=snapshot is not None)
        if snapshot is not None:
            yield from self._jobs(snapshot)
            yield from self._durations(snapshot)
            yield from self._workers(snapshot)
            yield from _devices(snapshot.workers)

    def _look(self) -> _Snapshot:
        line = self._queue.line()
        with self._client.pipeline(transaction=False) as pipeline:
            pipeline.time()
            pipeline.scard(keys.active(self._model))
            pipeline.scard(keys.running(self._model))
            pipeline.smembers(keys.workers(self._model))
            (seconds, micros), active, running, names = pipeline.execute()
        beats = self._client.mget([keys.worker(as_text(name)) for name in sorted(names)]) if names else []
        return _Snapshot(
            now=seconds + micros / 1e6,
            depth=line.depth,
            oldest_s=line.oldest_s or 0.0,
            active=active,
            running=running,
            counts=self._measures.counts(),
            histograms=self._measures.histograms(),
            workers=list(read_beats(beats)),
        )

    def _jobs(self, snapshot: _Snapshot) -> Iterator[Family]:
        yield self._gauge("msd_queue_depth", "Entries in the queue: jobs that no worker has taken.", snapshot.depth)
        yield self._gauge(
            "msd_queue_oldest_age_seconds",
            "Seconds that the oldest queued job has waited.",
            snapshot.oldest_s,
        )
        active = GaugeMetricFamily("msd_jobs_active", "Jobs that have not ended.", labels=["model", "state"])
        active.add_metric([self._model, JobState.QUEUED], max(0, snapshot.active - snapshot.running))
        active.add_metric([self._model, JobState.RUNNING], snapshot.running)
        yield active
        counts = snapshot.counts
        yield self._counter("msd_job_events", "State changes of jobs, by event.", "event", EVENTS, counts)
        attempts = CounterMetricFamily("msd_job_attempts", "Attempts started.", labels=["model"])
        attempts.add_metric([self._model], counts.get("running", 0))
        yield attempts
        yield self._counter(
            "msd_job_attempts_lost",
            "Attempts that ended before their job: the worker died, lost its device, or was told to stop.",
            "reason",
            LOST_ATTEMPTS,
            counts,
        )
        erased = {reason: counts.get(f"erased_{reason}", 0) for reason in ERASED}
        yield self._counter("msd_jobs_erased", "Jobs deleted with all their files.", "reason", ERASED, erased)

    def _durations(self, snapshot: _Snapshot) -> Iterator[Family]:
        known = snapshot.histograms
        yield self._histogram(
            "msd_job_wait_seconds", "From a job's last entry into the queue to the start of its attempt.", known, "wait"
        )
        yield self._histogram(
            "msd_job_run_seconds", "From the start of a job's last attempt to its end.", known, "run", "state", ENDED
        )
        yield self._histogram(
            "msd_job_duration_seconds",
            "From a job's acceptance to its end.",
            known,
            "total",
            "state",
            (*ENDED, "expired"),
        )
        yield self._histogram(
            "msd_job_phase_seconds",
            "Phases of succeeded jobs, and model loading.",
            known,
            "phase",
            "phase",
            PHASES,
        )
        yield self._histogram(
            "msd_job_cancel_seconds", "From the request to cancel a running job to its end.", known, "cancel"
        )

    def _workers(self, snapshot: _Snapshot) -> Iterator[Family]:
        labels = ["model", "worker", "host", "device"]
        state = GaugeMetricFamily("msd_worker_state", "1 for the current state of a worker.", labels=[*labels, "state"])
        up = GaugeMetricFamily("msd_worker_uptime_seconds", "Seconds since a worker started.", labels=labels)
        done = CounterMetricFamily("msd_worker_jobs", "Jobs that a worker ended.", labels=labels)
        resident = GaugeMetricFamily("msd_worker_resident_memory_bytes", "Resident memory of a worker.", labels=labels)
        for worker in snapshot.workers:
            values = [self._model, worker.name, worker.host, worker.device]
            for possible in WorkerState:
                state.add_metric([*values, possible], worker.state is possible)
            up.add_metric(values, max(0.0, snapshot.now - worker.started_at))
            done.add_metric(values, worker.jobs_done)
            if worker.usage.rss_bytes is not None:
                resident.add_metric(values, worker.usage.rss_bytes)
        yield from (state, up, done, resident)

    def _gauge(self, name: str, documentation: str, value: float) -> GaugeMetricFamily:
        gauge = GaugeMetricFamily(name, documentation, labels=["model"])
        gauge.add_metric([self._model], value)
        return gauge

    def _counter(  # noqa: PLR0913 - a family of metrics has this many parts
        self, name: str, documentation: str, label: str, values: Iterable[str], counts: Mapping[str, int]
    ) -> CounterMetricFamily:
        counter = CounterMetricFamily(name, documentation, labels=["model", label])
        for value in values:
            counter.add_metric([self._model, value], counts.get(value, 0))
        return counter

    def _histogram(  # noqa: PLR0913 - a family of metrics has this many parts
        self,
        name: str,
        documentation: str,
        known: Mapping[tuple[str, str], Histogram],
        kind: str,
        label: str | None = None,
        values: Iterable[str] = ("",),
    ) -> HistogramMetricFamily:
        family = HistogramMetricFamily(name, documentation, labels=["model"] if label is None else ["model", label])
        for value in values:
            histogram = known.get((kind, value), Histogram.empty())
            pairs = zip((*BUCKETS, UNBOUNDED), histogram.counts, strict=True)
            buckets = [(floatToGoString(float(bound)), float(count)) for bound, count in pairs]
            family.add_metric([self._model] if label is None else [self._model, value], buckets, histogram.sum_s)
        return family


def _devices(workers: Iterable[WorkerRecord]) -> Iterator[Family]:
    labels = ["uuid", "host"]
    used = GaugeMetricFamily(
        "msd_device_memory_used_bytes", "Memory of a CUDA device in use, by all processes.", labels=labels
    )
    total = GaugeMetricFamily("msd_device_memory_total_bytes", "Memory of a CUDA device.", labels=labels)
    busy = GaugeMetricFamily("msd_device_utilization_ratio", "Utilization of a CUDA device, 0 to 1.", labels=labels)
    # A worker just replaced may still be listed: keep one per device.
    by_uuid = {worker.usage.device_uuid: worker for worker in sorted(workers, key=lambda worker: worker.started_at)}
    for uuid, worker in sorted((uuid, worker) for uuid, worker in by_uuid.items() if uuid is not None):
        usage, values = worker.usage, [uuid, worker.host]
        for family, value in (
            (used, usage.memory_used_bytes),
            (total, usage.memory_total_bytes),
            (busy, usage.utilisation),
        ):
            if value is not None:
                family.add_metric(values, value)
    yield from (used, total, busy)


@router.get("/metrics", include_in_schema=False)
def scrape(metrics: MetricsDependency, accept: Annotated[str, Header()] = "") -> Response:
    """Plain text, or OpenMetrics if the client accepts it; 200 even without Redis, with ``msd_redis_up 0``."""
    encode, content_type = choose_encoder(accept)
    return Response(encode(metrics.registry), headers={"Cache-Control": "no-store"}, media_type=content_type)
