"""How fast the service is around the model: submits, polls, the way to a worker and back, more workers, a long queue.

The real thing runs: Redis, ``msd api`` and ``msd worker`` as separate processes; only the pipeline sleeps instead of
computing (``benchmarks/sleeping_runtime.py``). Everything is on this machine and on the loopback address, so the load
takes its share of the same cores. Each figure is a command::

    python benchmarks/service.py submits           accepted POST /generate a second, two 512-pixel photo-like PNGs each
    python benchmarks/service.py flat-submits      the same with flat PNGs
    python benchmarks/service.py asset-submits     the same with assets, in turn with flat PNGs
    python benchmarks/service.py polls             GET /jobs/{id} a second, by wrk with 32 connections
    python benchmarks/service.py polls-and-submits how long polls take while submits run flat out
    python benchmarks/service.py start             from enqueued to started, on an idle worker
    python benchmarks/service.py overhead          from accepted to ended, less the sleep, of a job of 1 s
    python benchmarks/service.py growth            jobs a second with 1, 2 and 4 workers
    python benchmarks/service.py backlog           how long a submit takes with 0 and with 10,000 jobs in the queue
    python benchmarks/service.py all               all of them, one after the other

``--out`` says where the results go (JSON; figures that are not measured stay as they are there); the plots lie beside it.
``--quick`` measures far too little, to see that everything works. wrk comes with ``apt-get install wrk``.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from service_plots import draw
from service_requests import AssetRequestMaker, Maker, RequestMaker, flat, photo_like, upload_body
from service_stack import ROOT, Connection, ServiceStack, wait_until

from ms_jobs.records import JobRecord

RESULTS = Path(__file__).parent / "results" / "service.json"
PACKAGES = ("fastapi", "starlette", "uvicorn", "pydantic", "redis", "rq", "pillow")
SUBMITTERS = 8
POLLERS = 32
JOB_STEPS, STEP_S = 20, 0.05
TEN_THOUSAND = 10_000


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    redis_url: str | None = None
    quick: bool = False

    def seconds(self, full: float) -> float:
        """For how long to load the service."""
        return 1.0 if self.quick else full

    def count(self, full: int) -> int:
        """How many things to do."""
        return max(2, full // 50) if self.quick else full

    def stack(self) -> ServiceStack:
        """A new service for each measurement."""
        return ServiceStack(self.redis_url)


@dataclass
class Answers:
    """What a load of submits got: seconds for each accepted one, and the statuses of all others."""

    seconds: list[float] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)


def measure_submits(plan: Plan) -> dict[str, Any]:
    """Photo-like pictures: decoding, checking and storing them is most of the work."""
    return _submit_rate(plan, RequestMaker(photo_like(), num_inference_steps=JOB_STEPS), goal=15)


def measure_flat_submits(plan: Plan) -> dict[str, Any]:
    """Flat pictures: what remains is the service's own work."""
    return _submit_rate(plan, RequestMaker(flat(), num_inference_steps=JOB_STEPS), goal=60)


def measure_asset_submits(plan: Plan) -> dict[str, Any]:
    """Assets beside flat pictures, in turn and in one service: what decoding and storing the pictures costs."""
    seconds, flat_maker = plan.seconds(5), RequestMaker(flat(), num_inference_steps=JOB_STEPS)
    rates: dict[str, list[float]] = {"flat": [], "asset": []}
    refused = 0
    with plan.stack() as stack:
        stack.start_workers(1, STEP_S)
        makers: dict[str, Maker] = {
            "flat": flat_maker,
            "asset": AssetRequestMaker(_uploaded(stack), num_inference_steps=JOB_STEPS),
        }
        for maker in makers.values():
            _submit_for(stack, maker, plan.seconds(2), SUBMITTERS)
        for _ in range(3):
            for kind, maker in makers.items():
                began = time.monotonic()
                answers = _submit_for(stack, maker, seconds, SUBMITTERS)
                rates[kind].append(len(answers.seconds) / (time.monotonic() - began))
                refused += len(answers.refused)
    by_kind = {kind: sum(found) / len(found) for kind, found in rates.items()}
    ratio = by_kind["asset"] / by_kind["flat"]
    return {
        "accepted_per_s": round(by_kind["asset"], 1),
        "flat_accepted_per_s": round(by_kind["flat"], 1),
        "ratio": round(ratio, 2),
        "rounds": {kind: [round(rate, 1) for rate in found] for kind, found in rates.items()},
        "goal": {"ratio": ">= 2"},
        "met": not refused and ratio >= 2,
        "connections": SUBMITTERS,
        "refused": refused,
    }


def _uploaded(stack: ServiceStack) -> list[str]:
    """Ids of two flat pictures."""
    with stack.connect() as connection:
        answers = [connection.post("/assets", upload_body(flat(colour=colour))) for colour in ("teal", "orange")]
    return [json.loads(answer)["assets"][0]["id"] for _, answer in answers]


def _submit_rate(plan: Plan, maker: RequestMaker, goal: float) -> dict[str, Any]:
    with plan.stack() as stack:
        stack.start_workers(1, STEP_S)
        _submit_for(stack, maker, plan.seconds(2), SUBMITTERS)
        seconds = plan.seconds(15)
        began = time.monotonic()
        answers = _submit_for(stack, maker, seconds, SUBMITTERS)
        took = time.monotonic() - began
    return {
        "accepted_per_s": round(len(answers.seconds) / took, 1),
        "goal": {"accepted_per_s": f">= {goal}"},
        "met": not answers.refused and len(answers.seconds) / took >= goal,
        "connections": SUBMITTERS,
        "seconds": round(took, 2),
        "latency_ms": _in_ms(answers.seconds),
        "refused": len(answers.refused),
        "picture_bytes": maker.picture_bytes,
    }


def measure_polls(plan: Plan) -> dict[str, Any]:
    """A queue as usual: one job at work, some that wait, some that have ended; all are asked for in turn."""
    with plan.stack() as stack:
        paths = _usual_jobs(stack, plan)
        _wrk(stack, paths, plan.seconds(2))
        found = _wrk(stack, paths, plan.seconds(10))
        by_state = {state: _wrk(stack, [path], plan.seconds(3)) for state, path in _one_of_each(stack, paths).items()}
    return {
        **found,
        "goal": {"polls_per_s": ">= 1500", "p99_ms": "<= 80"},
        "met": not found["errors"] and found["polls_per_s"] >= 1500 and found["latency_ms"]["p99"] <= 80,
        "jobs_asked_for": len(paths),
        "by_state": by_state,
    }


def measure_polls_and_submits(plan: Plan) -> dict[str, Any]:
    """Both flat out: wrk with 32 connections, and photo-like submits on 8."""
    maker = RequestMaker(photo_like(), num_inference_steps=JOB_STEPS)
    with plan.stack() as stack:
        paths = _usual_jobs(stack, plan)
        seconds = plan.seconds(15)
        with ThreadPoolExecutor(1) as pool:
            load = pool.submit(_submit_for, stack, maker, seconds + 2, SUBMITTERS)
            time.sleep(1)
            found = _wrk(stack, paths, seconds)
            answers = load.result()
    return {
        **found,
        "goal": {"p99_ms": "<= 100"},
        "met": not found["errors"] and not answers.refused and found["latency_ms"]["p99"] <= 100,
        "submits": {
            "connections": SUBMITTERS,
            "accepted_per_s": round(len(answers.seconds) / (seconds + 2), 1),
            "latency_ms": _in_ms(answers.seconds),
            "refused": len(answers.refused),
        },
    }


def measure_start(plan: Plan) -> dict[str, Any]:
    """One job at a time, each to a worker that has had nothing to do for a moment."""
    maker = RequestMaker(flat(64), num_inference_steps=1)
    by_record: list[float] = []
    by_client: list[float] = []
    with plan.stack() as stack, stack.connect() as connection:
        stack.start_workers(1, 0.0)
        for number in range(plan.count(300) + 5):
            job_id, sent_at, _ = _submit(connection, maker)
            record = stack.wait_for_end(job_id)
            assert record.started_at is not None
            # The first few find code and connections cold.
            if number >= 5:
                by_record.append(record.started_at - record.created_at)
                by_client.append(record.started_at - sent_at)
            time.sleep(0.05)
    found = _in_ms(by_record)
    return {
        "enqueue_to_start_ms": found,
        "request_sent_to_start_ms": _in_ms(by_client),
        "goal": {"p50_ms": "<= 5", "p99_ms": "<= 20"},
        "met": found["p50"] <= 5 and found["p99"] <= 20,
        "jobs": len(by_record),
    }


def measure_overhead(plan: Plan) -> dict[str, Any]:
    """A job of 20 steps of 50 ms, one at a time; the service's share is what is above the sleep."""
    maker = RequestMaker(flat(64), num_inference_steps=JOB_STEPS)
    slept_s = JOB_STEPS * STEP_S
    by_record: list[float] = []
    by_client: list[float] = []
    with plan.stack() as stack, stack.connect() as connection:
        stack.start_workers(1, STEP_S)
        for number in range(plan.count(30) + 1):
            job_id, _, answered_at = _submit(connection, maker)
            record = stack.wait_for_end(job_id)
            assert record.ended_at is not None
            if number:
                by_record.append(record.ended_at - record.created_at - slept_s)
                by_client.append(record.ended_at - answered_at - slept_s)
    found = _in_ms(by_record)
    share = found["p50"] / (10 * slept_s)
    return {
        "accept_to_end_less_sleep_ms": found,
        "answer_to_end_less_sleep_ms": _in_ms(by_client),
        "overhead_percent": round(share, 2),
        "goal": {"overhead_percent": "<= 1.5"},
        "met": share <= 1.5,
        "jobs": len(by_record),
        "steps": JOB_STEPS,
        "step_s": STEP_S,
    }


def measure_growth(plan: Plan) -> dict[str, Any]:
    """Jobs of 0.2 s, all in the queue before the workers start upon them."""
    maker = RequestMaker(flat(64), num_inference_steps=4)
    per_s: dict[int, float] = {}
    for workers in (1, 2, 4):
        with plan.stack() as stack, stack.connect() as connection:
            stack.start_workers(workers, STEP_S)
            ids = [_submit(connection, maker)[0] for _ in range(plan.count(60) * workers)]
            records = [stack.wait_for_end(job_id) for job_id in ids]
            per_s[workers] = _steady_rate(records, workers)
    growth = {workers: round(rate / per_s[1], 2) for workers, rate in per_s.items()}
    return {
        "jobs_per_s": {str(workers): round(rate, 2) for workers, rate in per_s.items()},
        "growth": {str(workers): value for workers, value in growth.items()},
        "goal": {"growth": ">= 3.6 from 1 to 4 workers"},
        "met": growth[4] >= 3.6,
        "job_s": 4 * STEP_S,
    }


def _steady_rate(records: list[JobRecord], workers: int) -> float:
    """Jobs a second while every worker had work: from the first start to the last one, by when all but those had ended."""
    starts = sorted(record.started_at or 0.0 for record in records)
    # The first jobs of all workers start together, and each start after them means that a job has ended.
    return (len(starts) - workers) / (starts[-1] - starts[workers - 1])


def measure_backlog(plan: Plan) -> dict[str, Any]:
    """One submit after the other: with an empty queue, with 10,000 jobs in it, and again without."""
    maker = RequestMaker(flat(64), num_inference_steps=JOB_STEPS)
    jobs, repeats = (200, 5) if plan.quick else (TEN_THOUSAND, 400)
    rounds: list[tuple[int, list[float]]] = []
    with plan.stack() as stack:
        _submit_repeatedly(stack, maker, repeats // 4)
        for waiting in (0, jobs, 0):
            stack.client.flushdb()
            _fill_queue(stack, maker, waiting)
            rounds.append((waiting, _submit_repeatedly(stack, maker, repeats)))
    empty = [seconds for waiting, row in rounds if not waiting for seconds in row]
    full = [seconds for waiting, row in rounds if waiting for seconds in row]
    change = 100 * (_percentile(full, 50) / _percentile(empty, 50) - 1)
    return {
        "submit_ms": {"0": _in_ms(empty), str(jobs): _in_ms(full)},
        "change_of_median_percent": round(change, 1),
        "medians_in_turn_ms": [round(1000 * _percentile(row, 50), 2) for _, row in rounds],
        "goal": {"change_of_median_percent": "<= 10"},
        "met": change <= 10,
    }


def _fill_queue(stack: ServiceStack, maker: RequestMaker, count: int) -> None:
    todo = iter(range(count))
    lock = threading.Lock()

    def submit_all() -> None:
        with stack.connect() as connection:
            while True:
                with lock:
                    if next(todo, None) is None:
                        return
                _submit(connection, maker)

    _at_once([submit_all] * SUBMITTERS)


def _submit(connection: Connection, maker: RequestMaker) -> tuple[str, float, float]:
    """Id of a new job, and when its request was sent and answered, in Unix seconds."""
    body = maker.body()
    sent_at = time.time()
    status, answer = connection.post("/generate", body)
    answered_at = time.time()
    assert status == 202, answer.decode()
    return json.loads(answer)["id"], sent_at, answered_at


def _submit_repeatedly(stack: ServiceStack, maker: RequestMaker, count: int) -> list[float]:
    """Seconds that each of ``count`` submits took, one after the other."""
    with stack.connect() as connection:
        moments = [_submit(connection, maker)[1:] for _ in range(count)]
    return [answered_at - sent_at for sent_at, answered_at in moments]


def _submit_for(stack: ServiceStack, maker: Maker, seconds: float, connections: int) -> Answers:
    """Submit flat out on several connections; each request is sent as soon as the one before it is answered."""
    answers = Answers()
    until = time.monotonic() + seconds

    def submit_all() -> None:
        with stack.connect() as connection:
            while time.monotonic() < until:
                body = maker.body()
                began = time.perf_counter()
                status, answer = connection.post("/generate", body)
                if status == 202:
                    answers.seconds.append(time.perf_counter() - began)
                else:
                    answers.refused.append(status)

    _at_once([submit_all] * connections)
    return answers


def _at_once(tasks: list[Callable[[], None]]) -> None:
    with ThreadPoolExecutor(len(tasks)) as pool:
        for done in [pool.submit(task) for task in tasks]:
            done.result()


def _usual_jobs(stack: ServiceStack, plan: Plan) -> list[str]:
    """Paths of jobs in every state: some that have ended, one that runs for as long as it is looked at, some behind it."""
    quick = RequestMaker(flat(64), num_inference_steps=1, width=64, height=64)
    slow = RequestMaker(flat(64), num_inference_steps=100, num_images=4)
    count = plan.count(16)
    with stack.connect() as connection:
        stack.start_workers(1, 0.25)
        ended = [_submit(connection, quick)[0] for _ in range(count)]
        for job_id in ended:
            stack.wait_for_end(job_id)
        running, *waiting = [_submit(connection, slow)[0] for _ in range(count + 1)]
        wait_until(lambda: stack.record(running).step, "the first step of a job")
    return [f"/jobs/{job_id}" for job_id in (*ended, running, *waiting)]


def _one_of_each(stack: ServiceStack, paths: list[str]) -> dict[str, str]:
    return {stack.record(path.removeprefix("/jobs/")).state.value: path for path in paths}


_WRK_SCRIPT = """
local paths, at = {%s}, 0
request = function()
  at = at %% #paths + 1
  return wrk.format('GET', paths[at])
end
done = function(summary, latency)
  local errors = summary.errors
  io.write(string.format('RESULT %%d %%d %%d %%f %%f %%f %%f\\n', summary.requests, summary.duration,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50), latency:percentile(90), latency:percentile(99), latency.max))
end
"""


def _wrk(stack: ServiceStack, paths: list[str], seconds: float) -> dict[str, Any]:
    """Ask for the paths in turn on 32 connections."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_WRK_SCRIPT % ", ".join(f"'{path}'" for path in paths))
        script.flush()
        argv = [
            "wrk",
            "-t1",
            f"-c{POLLERS}",
            f"-d{math.ceil(seconds)}s",
            "-s",
            script.name,
            f"http://127.0.0.1:{stack.port}",
        ]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds + 60, check=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT"))
    requests, took_us, errors, *latencies_us = map(float, line.split()[1:])
    names = ("p50", "p90", "p99", "max")
    return {
        "polls_per_s": round(requests / (took_us / 1e6), 1),
        "latency_ms": {name: round(value / 1000, 1) for name, value in zip(names, latencies_us, strict=True)},
        "errors": int(errors),
        "connections": POLLERS,
    }


def _percentile(values: list[float], percent: float) -> float:
    """The smallest value that is not below ``percent`` of them."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def _in_ms(seconds: list[float]) -> dict[str, float]:
    """Milliseconds at the percentiles that count."""
    found = {"p50": _percentile(seconds, 50), "p99": _percentile(seconds, 99), "max": max(seconds)}
    return {name: round(1000 * value, 2) for name, value in found.items()}


FIGURES: dict[str, Callable[[Plan], dict[str, Any]]] = {
    "submits": measure_submits,
    "flat-submits": measure_flat_submits,
    "asset-submits": measure_asset_submits,
    "polls": measure_polls,
    "polls-and-submits": measure_polls_and_submits,
    "start": measure_start,
    "overhead": measure_overhead,
    "growth": measure_growth,
    "backlog": measure_backlog,
}
NEED_WRK = ("polls", "polls-and-submits")


def _circumstances() -> dict[str, Any]:
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    changed = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=no"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout
    return {
        "hardware": {"cpu": _cpu_name(), "cores": len(os.sched_getaffinity(0)), "load_before": os.getloadavg()[0]},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "commit": commit.strip(),
        "uncommitted_changes": bool(changed.strip()),
        "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _save(out: Path, name: str, row: dict[str, Any]) -> None:
    """Put one figure into the results; the others stay."""
    results = json.loads(out.read_text()) if out.exists() else {"figures": {}}
    results["figures"][name] = row
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(results, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figure", choices=[*FIGURES, "all"])
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--redis-url", help="an empty Redis to use in place of an embedded one; it is emptied")
    parser.add_argument("--quick", action="store_true", help="measure far too little, to see that everything works")
    options = parser.parse_args()
    names = list(FIGURES) if options.figure == "all" else [options.figure]
    if shutil.which("wrk") is None and set(names) & set(NEED_WRK):
        sys.exit("service.py: wrk is missing. Install it (apt-get install wrk), or measure another figure.")
    plan = Plan(options.redis_url, options.quick)
    for name in names:
        circumstances = _circumstances()
        began = time.monotonic()
        row = FIGURES[name](plan)
        took = round(time.monotonic() - began, 1)
        command = f"python benchmarks/service.py {name}" + (" --quick" if plan.quick else "")
        _save(options.out, name, {"command": command, **row, "took_s": took, **circumstances})
        print(f"{name} ({took:g} s): {json.dumps(row)}", flush=True)
    for path in draw(options.out):
        print(f"drawn: {path}")


if __name__ == "__main__":
    main()
