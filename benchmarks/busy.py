"""How long a picture of ``mini`` takes beside other programs, as ratios within one run.

    python benchmarks/busy.py            medians of five, beside 0, 1 and 4 programs that only count
    python benchmarks/busy.py --rounds 9 --out benchmarks/results/busy.json

Processes that hold the model draw in turn: ``shipped`` as the service runs it; with one thread; with two, whose idle ones
sleep; and with two that ``spin``, as OpenMP has it by default: they keep a core busy until the next piece of work.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WAYS: dict[str, dict[str, str]] = {
    "shipped": {},
    "one thread": {"THREADS": "1"},
    "two threads": {"THREADS": "2"},
    "two that spin": {"THREADS": "2", "OMP_WAIT_POLICY": "active"},
}
PROGRAMS = (0, 1, 4)
COUNTING = "while True: pass"
DRAWING = """
import os, sys, time
from ms_core.pipeline import MSDiffusionPipeline
from ms_core.spec import Box, GenerationSpec, Subject
from PIL import Image
pipeline = MSDiffusionPipeline.from_pretrained("models/mini")
if "THREADS" in os.environ:
    pipeline.threads = int(os.environ["THREADS"])
reference = Image.open("assets/demo/tomato.png")
boxes = (Box(0.05, 0.3, 0.45, 0.9), Box(0.55, 0.3, 0.95, 0.9))
subjects = [Subject("tomato", reference, box) for box in boxes]
spec = GenerationSpec("a tomato and a tomato on the grass", subjects, seed=1)
for _ in sys.stdin:
    begun = time.perf_counter()
    pipeline.run(spec)
    print(time.perf_counter() - begun, flush=True)
"""


@dataclass(frozen=True, slots=True)
class Drawer:
    """A process that holds the model and draws when it is told to."""

    process: subprocess.Popen[str]

    def seconds(self) -> float:
        """How long the next picture takes."""
        if self.process.stdin is None or self.process.stdout is None:
            raise RuntimeError("the process has no pipes")
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


@contextmanager
def _drawer(environment: dict[str, str]) -> Generator[Drawer]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    process = subprocess.Popen(
        [sys.executable, "-c", DRAWING],
        cwd=ROOT,
        env={**inherited, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield Drawer(process)
    finally:
        process.kill()
        process.wait()


@contextmanager
def _programs(count: int) -> Generator[None]:
    """So many processes that only count."""
    processes = [subprocess.Popen([sys.executable, "-c", COUNTING]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def measure(rounds: int) -> Generator[tuple[int, dict[str, list[float]]]]:
    """Seconds of each picture by way, for each number of programs beside."""
    with ExitStack() as stack:
        drawers = {way: stack.enter_context(_drawer(environment)) for way, environment in WAYS.items()}
        for drawer in drawers.values():
            # Loads the model; the first picture is slower than the rest.
            drawer.seconds()
        for count in PROGRAMS:
            with _programs(count):
                taken: dict[str, list[float]] = {way: [] for way in drawers}
                for _ in range(rounds):
                    for way, drawer in drawers.items():
                        taken[way].append(drawer.seconds())
                yield count, taken


def main() -> None:
    """Print the table; ``--out`` writes all numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    measured: dict[int, dict[str, list[float]]] = {}
    for count, taken in measure(arguments.rounds):
        measured[count] = taken
        medians = {way: statistics.median(seconds) for way, seconds in taken.items()}
        row = ", ".join(
            f"{way} {median:.2f} s (up to {max(taken[way]):.2f}; {median / medians['one thread']:.2f} x one thread)"
            for way, median in medians.items()
        )
        print(f"beside {count}: {row}", flush=True)
    if arguments.out is not None:
        machine = {"cores": os.cpu_count(), "machine": platform.processor() or platform.machine()}
        arguments.out.write_text(json.dumps({"machine": machine, "seconds": measured}, indent=1) + "\n")


if __name__ == "__main__":
    main()
