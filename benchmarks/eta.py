"""How far the API's ``eta_seconds`` is off, at the moment a job is accepted.

    .venv/bin/python benchmarks/eta.py

A real Redis, ``msd api`` and two ``msd worker`` with the pipeline that sleeps (``benchmarks/sleeping_runtime.py``): a job
takes steps x pictures x pixels, times a random factor of 0.8 to 1.2. Jobs of six shapes come at random moments, as many
as keep the workers busy for 85 % of the time. The service knows nothing at first: the first jobs, of which it learns, are
reported apart. Then as many jobs again come all at once.

The error of a job is |eta - actual| / actual, where actual is the time from the answer to ``POST /generate`` to the end of
the job. Goal: a median of at most 25 % under the steady load.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from PIL import Image
from service_requests import RequestMaker
from service_stack import ROOT, ServiceStack, wait_until

RESULTS = Path(__file__).resolve().parent / "results" / "eta.json"
WORKERS = 2
STEP_S = 0.05
NOISE = 0.2
BUSY = 0.85
GOAL = 0.25
# The model's default size is 128 x 128.
SHAPES: tuple[dict[str, int], ...] = (
    {"num_inference_steps": 20},
    {"num_inference_steps": 40},
    {"num_inference_steps": 20, "num_images": 2},
    {"num_inference_steps": 50, "num_images": 2},
    {"num_inference_steps": 30, "num_images": 4},
    {"num_inference_steps": 10, "width": 256, "height": 256},
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A job that was accepted: what the answer said of it, and when, in Unix seconds."""

    job_id: str
    position: int | None
    eta_s: float | None
    at: float


def seconds(shape: dict[str, int], step_s: float) -> float:
    """What a job of a shape takes, without its random factor."""
    pixels = shape.get("width", 128) * shape.get("height", 128) / 128**2
    return step_s * shape["num_inference_steps"] * shape.get("num_images", 1) * pixels


class Load:
    """Sends jobs of all shapes, in an order that is the same every time."""

    def __init__(self, stack: ServiceStack, step_s: float) -> None:
        picture = Image.new("RGB", (32, 32), "orange")
        self._stack = stack
        self._rate = BUSY * WORKERS / statistics.fmean(seconds(shape, step_s) for shape in SHAPES)
        self._makers = [RequestMaker(picture, **shape) for shape in SHAPES]
        self._random = random.Random(1)

    def send(self) -> Asked:
        """One job."""
        # A new connection, because the server ends those that are idle for seconds.
        with self._stack.connect() as connection:
            status, body = connection.post("/generate", self._random.choice(self._makers).body())
        now = time.time()
        assert status == 202, body
        job = json.loads(body)
        return Asked(job["id"], job["position"], job["eta_seconds"], now)

    def send_steadily(self, count: int) -> list[Asked]:
        """Many jobs, at random moments."""
        asked: list[Asked] = []
        due = time.monotonic()
        for _ in range(count):
            due += self._random.expovariate(self._rate)
            time.sleep(max(0.0, due - time.monotonic()))
            asked.append(self.send())
        return asked


def report(stack: ServiceStack, asked: list[Asked]) -> dict[str, Any]:
    """How far off the estimates were."""
    errors: list[float] = []
    by_place: dict[str, list[float]] = {"on its way or first": [], "1 to 4 ahead": [], "5 or more ahead": []}
    actual: list[float] = []
    for job in asked:
        ended_at = stack.record(job.job_id).ended_at
        assert ended_at is not None
        actual.append(ended_at - job.at)
        if job.eta_s is None:
            continue
        errors.append(abs(job.eta_s - actual[-1]) / actual[-1])
        place = job.position or 0
        by_place["on its way or first" if place == 0 else "1 to 4 ahead" if place < 5 else "5 or more ahead"].append(
            errors[-1]
        )
    return {
        "jobs": len(asked),
        "without_an_estimate": len(asked) - len(errors),
        "median_error": _round(statistics.median(errors)) if errors else None,
        "p90_error": _round(statistics.quantiles(errors, n=10)[-1]) if len(errors) > 1 else None,
        "median_error_by_place": {
            place: {"jobs": len(found), "median": _round(statistics.median(found))}
            for place, found in by_place.items()
            if found
        },
        "actual_s": {"median": round(statistics.median(actual), 2), "longest": round(max(actual), 2)},
    }


def measure(warm_up: int, steady: int, burst: int, step_s: float = STEP_S) -> dict[str, Any]:
    """Run the loads one after the other."""
    with ServiceStack() as stack:
        stack.start_workers(WORKERS, step_s)
        load = Load(stack, step_s)
        learning, settled = load.send_steadily(warm_up), load.send_steadily(steady)
        _wait_for_all(stack, learning + settled)
        at_once = [load.send() for _ in range(burst)]
        _wait_for_all(stack, at_once)
        return {
            "while_learning": report(stack, learning),
            "steady": report(stack, settled),
            "all_at_once": report(stack, at_once),
        }


def circumstances() -> dict[str, Any]:
    """Hardware, versions and commit."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    return {
        "hardware": {"cores": len(os.sched_getaffinity(0)), "load_after": round(os.getloadavg()[0], 1)},
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("redis", "rq", "fastapi")},
        },
        "commit": commit.strip(),
        "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _wait_for_all(stack: ServiceStack, asked: list[Asked]) -> None:
    for job in asked:
        wait_until(lambda job=job: stack.record(job.job_id).state.ended, f"the end of job {job.job_id}", 600)


def _round(value: float) -> float:
    return round(value, 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--quick", action="store_true", help="few short jobs: to see that it runs")
    options = parser.parse_args()
    os.environ["MSD_BENCH_NOISE"] = str(NOISE)
    figures = measure(5, 6, 5, STEP_S / 10) if options.quick else measure(20, 100, 60)
    median = figures["steady"]["median_error"]
    results = {
        "command": "python benchmarks/eta.py" + (" --quick" if options.quick else ""),
        "goal": f"median error of at most {GOAL:g} under the steady load",
        "met": median is not None and median <= GOAL,
        "workload": {"workers": WORKERS, "busy": BUSY, "luck": [1 - NOISE, 1 + NOISE], "shapes": SHAPES},
        **figures,
        **circumstances(),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps({name: results[name] for name in ("met", "while_learning", "steady", "all_at_once")}, indent=2))


if __name__ == "__main__":
    main()
