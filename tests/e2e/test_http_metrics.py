"""What Prometheus is told by the live service: well formed, stable, and true while jobs run."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.http_service import QUICK, HttpService
from tests.support.job_helpers import wait_until
from tests.support.sample_requests import good_request

# Long enough to look at while it runs, and never waited for.
LONG = {"width": 512, "height": 512, "num_inference_steps": 150}

OF_JOBS = {
    "msd_queue_depth": "gauge",
    "msd_queue_oldest_age_seconds": "gauge",
    "msd_jobs_active": "gauge",
    "msd_job_events": "counter",
    "msd_job_attempts": "counter",
    "msd_job_attempts_lost": "counter",
    "msd_jobs_erased": "counter",
    "msd_job_wait_seconds": "histogram",
    "msd_job_run_seconds": "histogram",
    "msd_job_duration_seconds": "histogram",
    "msd_job_phase_seconds": "histogram",
    "msd_job_cancel_seconds": "histogram",
    "msd_worker_state": "gauge",
    "msd_worker_uptime_seconds": "gauge",
    "msd_worker_jobs": "counter",
    "msd_worker_resident_memory_bytes": "gauge",
    "msd_device_memory_used_bytes": "gauge",
    "msd_device_memory_total_bytes": "gauge",
    "msd_device_utilization_ratio": "gauge",
}
OF_THE_PROCESS = {
    "msd_info": "gauge",
    "msd_redis_up": "gauge",
    "msd_http_requests": "counter",
    "msd_http_request_seconds": "histogram",
    "process_virtual_memory_bytes": "gauge",
    "process_resident_memory_bytes": "gauge",
    "process_start_time_seconds": "gauge",
    "process_cpu_seconds": "counter",
    "process_open_fds": "gauge",
    "process_max_fds": "gauge",
}


class Scrape:
    """What one scrape told."""

    def __init__(self, service: HttpService) -> None:
        self.response = service.client.get("/metrics")
        assert self.response.status_code == 200
        self.families: list[Metric] = list(text_string_to_metric_families(self.response.text))

    def value(self, name: str, **labels: str) -> float:
        """The sum of all series of a name that have these labels."""
        samples = [sample for family in self.families for sample in family.samples if sample.name == name]
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())

    def label_values(self, name: str, label: str) -> set[str]:
        samples = [sample for family in self.families for sample in family.samples if sample.name == name]
        return {sample.labels[label] for sample in samples}


@pytest.fixture
def live(service: HttpService) -> HttpService:
    service.wait_until_ready()
    # A worker that has just ended a job tells so with its next beat.
    wait_until(lambda: Scrape(service).value("msd_worker_state", state="idle") == 1, "an idle worker")
    return service


def series(families: list[Metric]) -> Counter[tuple[str, tuple[tuple[str, str], ...]]]:
    return Counter((s.name, tuple(sorted(s.labels.items()))) for family in families for s in family.samples)


def grown(before: Scrape, after: Scrape, name: str, **labels: str) -> float:
    return after.value(name, **labels) - before.value(name, **labels)


def run_to_first_step(live: HttpService, request: Mapping[str, Any]) -> dict[str, Any]:
    job = live.submit(good_request(**request))
    wait_until(lambda: (live.client.get(job["urls"]["self"]).json()["progress"] or {}).get("step"), "the first step")
    return job


def cancel(live: HttpService, *jobs: dict[str, Any]) -> None:
    for job in reversed(jobs):
        live.client.post(job["urls"]["cancel"])
    for job in jobs:
        live.wait_for_end(job)


def test_it_is_plain_text_in_the_format_of_prometheus(live: HttpService) -> None:
    assert Scrape(live).response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


def test_who_asks_for_openmetrics_gets_it(live: HttpService) -> None:
    response = live.client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    names = {family.name for family in parse_openmetrics(response.text)}
    assert names >= OF_JOBS.keys()


def test_names_and_types_are_those_that_dashboards_rely_on(live: HttpService) -> None:
    assert {family.name: family.type for family in Scrape(live).families} == OF_JOBS | OF_THE_PROCESS


def test_every_metric_says_what_it_is(live: HttpService) -> None:
    assert [family.name for family in Scrape(live).families if not family.documentation.endswith(".")] == []


def test_no_series_comes_twice(live: HttpService) -> None:
    live.client.get("/nowhere")
    assert [key for key, count in series(Scrape(live).families).items() if count > 1] == []


def test_names_and_labels_follow_the_rules(live: HttpService) -> None:
    scrape = Scrape(live)
    labels = {label for family in scrape.families for sample in family.samples for label in sample.labels}
    names = {sample.name for family in scrape.families for sample in family.samples}
    assert [name for name in names if not re.fullmatch(r"(msd|process)_[a-z_]+", name)] == []
    assert [label for label in labels if not re.fullmatch(r"[a-z]+", label)] == []


def test_counters_end_in_total_and_nothing_else_does(live: HttpService) -> None:
    for family in Scrape(live).families:
        for sample in family.samples:
            assert sample.name.endswith("_total") == (family.type == "counter"), sample.name


def test_buckets_grow_up_to_the_count(live: HttpService) -> None:
    scrape = Scrape(live)
    for family in (family for family in scrape.families if family.type == "histogram"):
        for key in {tuple(sorted((set(s.labels.items())) - {("le", s.labels.get("le"))})) for s in family.samples}:
            own = [s for s in family.samples if set(key) <= set(s.labels.items())]
            buckets = [s for s in own if s.name.endswith("_bucket")]
            counts = [s.value for s in buckets]
            assert all(low <= high for low, high in pairwise(counts)), family.name
            assert buckets[-1].labels["le"] == "+Inf", family.name
            assert counts[-1] == next(s.value for s in own if s.name.endswith("_count")), family.name


def test_it_is_no_part_of_the_api(live: HttpService) -> None:
    assert "/metrics" not in live.client.get("/openapi.json").json()["paths"]


def test_a_job_that_succeeds_is_seen_everywhere(live: HttpService) -> None:
    before = Scrape(live)
    live.make(good_request(**QUICK))
    wait_until(lambda: grown(before, Scrape(live), "msd_worker_jobs_total") == 1, "the worker's next beat")
    after = Scrape(live)
    assert [
        grown(before, after, "msd_job_events_total", event=name) for name in ("queued", "running", "succeeded")
    ] == [
        1,
        1,
        1,
    ]
    assert grown(before, after, "msd_job_attempts_total") == 1
    assert grown(before, after, "msd_job_wait_seconds_count") == 1
    assert grown(before, after, "msd_job_run_seconds_count", state="succeeded") == 1
    assert grown(before, after, "msd_job_duration_seconds_count", state="succeeded") == 1
    phases = ("encode", "denoise", "decode", "store")
    assert [grown(before, after, "msd_job_phase_seconds_count", phase=phase) for phase in phases] == [1, 1, 1, 1]


def test_phases_make_up_the_run(live: HttpService) -> None:
    before = Scrape(live)
    live.make(good_request(**QUICK | {"num_inference_steps": 20}))
    after = Scrape(live)
    run_s = grown(before, after, "msd_job_run_seconds_sum")
    phases_s = grown(before, after, "msd_job_phase_seconds_sum")
    assert 0.5 * run_s < phases_s <= run_s


def test_loading_the_model_is_a_phase(live: HttpService) -> None:
    assert Scrape(live).value("msd_job_phase_seconds_count", phase="load") >= 1


def test_what_waits_and_what_runs_is_told(live: HttpService) -> None:
    running = run_to_first_step(live, LONG)
    waiting = [live.submit(good_request(**QUICK)) for _ in range(3)]
    scrape = Scrape(live)
    told = (
        scrape.value("msd_queue_depth"),
        scrape.value("msd_jobs_active", state="queued"),
        scrape.value("msd_jobs_active", state="running"),
    )
    later = wait_until(
        lambda: grown(scrape, Scrape(live), "msd_queue_oldest_age_seconds") > 0, "the oldest job to wait longer"
    )
    cancel(live, running, *waiting)
    assert (told, later) == ((3, 3, 1), True)


def test_a_cancel_is_timed(live: HttpService) -> None:
    before = Scrape(live)
    cancel(live, run_to_first_step(live, LONG))
    after = Scrape(live)
    assert grown(before, after, "msd_job_cancel_seconds_count") == 1
    assert grown(before, after, "msd_job_events_total", event="cancel_requested") == 1
    assert grown(before, after, "msd_job_run_seconds_count", state="canceled") == 1


def test_a_deleted_job_is_counted(live: HttpService) -> None:
    job = live.make(good_request(**QUICK))
    before = Scrape(live)
    live.client.delete(job["urls"]["self"])
    assert grown(before, Scrape(live), "msd_jobs_erased_total", reason="deleted") == 1


def test_a_worker_is_in_one_state(live: HttpService) -> None:
    scrape = Scrape(live)
    states = scrape.label_values("msd_worker_state", "state")
    assert states == {"starting", "idle", "busy", "failed", "defunct", "unknown"}
    assert scrape.value("msd_worker_state") == len(scrape.label_values("msd_worker_state", "worker")) == 1


def test_a_busy_worker_says_so(live: HttpService) -> None:
    job = run_to_first_step(live, LONG)
    busy = wait_until(lambda: Scrape(live).value("msd_worker_state", state="busy"), "a busy worker")
    cancel(live, job)
    assert busy == 1


def test_a_worker_tells_its_memory_and_age(live: HttpService) -> None:
    scrape = Scrape(live)
    assert scrape.value("msd_worker_resident_memory_bytes") > 50_000_000
    assert scrape.value("msd_worker_uptime_seconds") > 0


def test_requests_are_counted_by_their_route(live: HttpService) -> None:
    job = live.make(good_request(**QUICK))
    before = Scrape(live)
    for _ in range(3):
        live.client.get(job["urls"]["self"])
    live.client.get("/jobs/no-such-job-is-known-here")
    after = Scrape(live)
    polls = {"method": "GET", "route": "/jobs/{job_id}"}
    assert grown(before, after, "msd_http_requests_total", **polls, status="200") == 3
    assert grown(before, after, "msd_http_requests_total", **polls, status="404") == 1
    assert grown(before, after, "msd_http_request_seconds_count", **polls) == 4


def test_paths_that_are_no_route_do_not_make_series(live: HttpService) -> None:
    for number in range(5):
        live.client.get(f"/nowhere/{number}")
    routes = Scrape(live).label_values("msd_http_requests_total", "route")
    assert [route for route in routes if "nowhere" in route] == []


def test_without_redis_the_process_still_answers(live: HttpService) -> None:
    live.kill_redis()
    try:
        scrape = Scrape(live)
    finally:
        live.start_redis()
    live.wait_until_ready()
    assert scrape.value("msd_redis_up") == 0
    assert {family.name: family.type for family in scrape.families} == OF_THE_PROCESS


def test_counts_survive_a_restart_of_redis(live: HttpService) -> None:
    before = Scrape(live)
    live.kill_redis()
    live.start_redis()
    live.wait_until_ready()
    after = Scrape(live)
    assert after.value("msd_job_attempts_total") == before.value("msd_job_attempts_total") > 0
