"""Whether anything grows: many jobs in a row through the real service, and what its processes and Redis hold meanwhile.

    python benchmarks/soak.py                                     20,000 jobs with a lifetime of 60 s; takes 14 minutes
    python benchmarks/soak.py --jobs 3000 --lifetime 5 --baseline 500          a first look, in 2 minutes

The real thing runs: Redis, ``msd api`` and ``msd worker`` as separate processes; only the pipeline does nothing
(``benchmarks/sleeping_runtime.py``). Jobs are handed in at a steady rate, so that at the baseline and at the end about
as many are kept. A job that has expired leaves a mark of at most 200 bytes in Redis; everything else must be the same to 5 %.

``--out`` says where the result goes (JSON). The exit code is 1 if something grew.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

from service_requests import RequestMaker, flat
from service_stack import MODEL, ROOT, Connection, ServiceStack, wait_until

from ms_jobs.registry import Registry

RESULTS = Path(__file__).parent / "results" / "soak.json"
PACKAGES = ("fastapi", "starlette", "uvicorn", "pydantic", "redis", "rq", "pillow")
MARK_BYTES = 200
TOLERANCE = 0.05
SIDE = 64
# More than these would only wait, and the rate would be that of the worker.
MOST_WAITING = 100


class Soak:
    """One run."""

    def __init__(self, stack: ServiceStack, rate: float) -> None:
        self._stack = stack
        self._rate = rate
        self._pids = _find_pids(stack)
        self._begun = time.monotonic()
        self.samples: list[dict[str, Any]] = []

    def run(self, jobs: int, every: int) -> None:
        """Hand in so many jobs, and look at everything after ``every`` of them."""
        maker = RequestMaker(flat(SIDE), num_inference_steps=1, width=SIDE, height=SIDE)
        with self._stack.connect() as connection:
            due = time.monotonic()
            for number in range(1, jobs + 1):
                self._submit(connection, maker.body())
                if number % every == 0:
                    self._sample(number)
                due = max(due + 1 / self._rate, time.monotonic())
                time.sleep(max(0.0, due - time.monotonic()))
        wait_until(lambda: not self._stack.jobs.active(MODEL), "the end of all jobs")

    def rest(self, lifetime_s: float) -> dict[str, Any]:
        """What is left when everything has expired."""
        wait_until(lambda: not self._stack.jobs.ids(limit=1), "the end of all lifetimes", lifetime_s + 60)
        # The last files are removed after their record.
        time.sleep(2)
        return {
            "keys": _keys(self._stack),
            "files": sum(1 for path in self._stack.data_dir.glob("*/[jp]*/**/*") if path.is_file()),
        }

    def _submit(self, connection: Connection, body: bytes) -> None:
        status, answer = connection.post("/generate", body)
        # 200 where the job has ended by the time of the answer.
        assert status in (200, 202), answer
        wait_until(lambda: len(self._stack.jobs.active(MODEL)) < MOST_WAITING, "the worker to keep up")

    def _sample(self, number: int) -> None:
        client = self._stack.client
        # A log that is being rewritten holds what is written meanwhile.
        wait_until(lambda: not client.info("persistence")["aof_rewrite_in_progress"], "the end of a rewrite")
        memory = client.info("memory")
        keys = _keys(self._stack)
        sample = {
            "jobs": number,
            "seconds": round(time.monotonic() - self._begun, 1),
            "kept": keys["msd:job"],
            "marks": keys["msd:gone"],
            "redis_bytes": memory["used_memory"],
            "redis_dataset_bytes": memory["used_memory_dataset"],
            **{f"{name}_rss_bytes": _rss(pid) for name, pid in self._pids.items()},
            "keys": dict(keys),
        }
        self.samples.append(sample)
        print(json.dumps({name: value for name, value in sample.items() if name != "keys"}), flush=True)


def compare(samples: list[dict[str, Any]], baseline: int) -> dict[str, Any]:
    """What grew between the sample at ``baseline`` jobs and the last one."""
    first = next(sample for sample in samples if sample["jobs"] == baseline)
    last = samples[-1]
    allowed = MARK_BYTES * (last["marks"] - first["marks"])
    result: dict[str, Any] = {
        "from_jobs": first["jobs"],
        "to_jobs": last["jobs"],
        "kept": [first["kept"], last["kept"]],
    }
    for name in (name for name in first if name.endswith("_bytes")):
        off = allowed if name.startswith("redis") else 0
        growth = (last[name] - off) / first[name] - 1
        result[name] = {
            "from": first[name],
            "to": last[name],
            "marks_allowed": off,
            "growth": round(growth, 4),
            "ok": growth <= TOLERANCE,
        }
    return result


def _find_pids(stack: ServiceStack) -> dict[str, int]:
    """The processes of the service, by what they are."""
    (worker,) = Registry(stack.client).workers(MODEL)
    supervisor = int(Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()[1])
    return {"api": stack.api_pid, "worker": worker.pid, "supervisor": supervisor}


def _rss(pid: int) -> int:
    """Resident memory of a process, in bytes; only what is its own, for libraries are shared with others."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    return int(fields["Rss"].split()[0]) * 1024


def _keys(stack: ServiceStack) -> Counter[str]:
    """How many keys there are of each kind."""
    names = (name.decode() for name in stack.client.scan_iter(count=1000))
    return Counter(":".join(name.split(":")[:2]) for name in names)


def _surroundings() -> dict[str, Any]:
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    return {
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "commit": commit.strip(),
    }


def main() -> int:
    """Run it, write the result and return whether something grew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--lifetime", type=float, default=60.0, help="lifetime of a job, in seconds")
    parser.add_argument("--baseline", type=int, default=2_000, help="jobs after which the end is compared with")
    parser.add_argument("--every", type=int, help="jobs between two looks; by default half of the baseline")
    parser.add_argument("--rate", type=float, default=25.0, help="jobs a second, at most")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.rate * options.lifetime > options.baseline:
        parser.error("at the baseline as many jobs must be kept as at the end: lower --rate, or raise --baseline")
    os.environ["MSD_LIFETIME_S"] = str(options.lifetime)
    surroundings = _surroundings()
    with ServiceStack() as stack:
        stack.start_workers(1, step_s=0)
        soak = Soak(stack, options.rate)
        soak.run(options.jobs, options.every or options.baseline // 2)
        rest = soak.rest(options.lifetime)
    comparison = compare(soak.samples, options.baseline)
    result = {
        "command": f"python benchmarks/soak.py {' '.join(sys.argv[1:])}".strip(),
        **surroundings,
        "lifetime_s": options.lifetime,
        "comparison": comparison,
        "left_in_the_end": rest,
        "samples": soak.samples,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({"comparison": comparison, "left_in_the_end": rest}, indent=1))
    return 0 if all(item["ok"] for item in comparison.values() if isinstance(item, dict)) else 1


if __name__ == "__main__":
    sys.exit(main())
