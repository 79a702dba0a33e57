"""Random schedules of faults against the real code: what was promised to clients holds in each of them.

A schedule that breaks a promise is printed with its seed; ``pytest tests/faults --fault-seed SEED`` or
``python -m tests.faults.replay SEED`` runs it again.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from ms_jobs import job_store
from ms_jobs.attempt_folders import AttemptFolders
from tests.faults import simulation
from tests.faults.simulation import Violation, simulate
from tests.support.paths import ROOT

FIXED_SEEDS = 60
RANDOM_SEEDS = 10_000
PROCESSES = 2


def test_no_schedule_breaks_a_promise(redis_url: str, request: pytest.FixtureRequest) -> None:
    seed = request.config.getoption("--fault-seed")
    seeds = range(FIXED_SEEDS) if seed is None else [seed]
    started = time.monotonic()
    steps = sum(simulate(seed, redis_url) for seed in seeds)
    print(f"{len(seeds)} schedules, {steps} steps, {(time.monotonic() - started) / len(seeds) * 1000:.0f} ms each")


@pytest.mark.faults
def test_none_of_ten_thousand_random_schedules_breaks_a_promise() -> None:
    first = secrets.randbelow(2**40)
    print(f"seeds {first} to {first + RANDOM_SEEDS - 1}")
    share = RANDOM_SEEDS // PROCESSES
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.faults.replay", str(first + part * share), "--count", str(share)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for part in range(PROCESSES)
    ]
    stories = [process.communicate()[0] for process in processes]
    print("\n".join(story.splitlines()[-1] for story in stories))
    assert [process.returncode for process in processes] == [0] * PROCESSES, "\n".join(stories)


def test_a_seed_says_all_there_is_to_say_of_a_schedule(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stories: list[list[str]] = []
    original = simulation.Inspection.inspect

    def inspect(self: simulation.Inspection) -> None:
        original(self)
        # But for what follows from the true time, and names of files that are soon renamed.
        stories.append([f"{at:.6f} {who} {what[0]}" for at, who, what in self._world.schedule.trace])

    monkeypatch.setattr(simulation.Inspection, "inspect", inspect)
    for _ in range(2):
        simulate(3, redis_url)
    assert len(stories[0]) > 100
    assert stories[0] == stories[1]


def no_attempt_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any worker may write to a job that runs, whatever its attempt."""
    change_scripts(
        monkeypatch, "get('state') == 'running' and get('attempt') == tonumber(attempt)", "get('state') == 'running'"
    )


def forgotten_cancel(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job whose cancel was promised may end otherwise."""
    change_scripts(
        monkeypatch, "if get('cancel_requested') or ARGV[6] == 'canceled' then", "if ARGV[6] == 'canceled' then"
    )


def no_limit_of_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job may kill any number of workers."""
    change_scripts(monkeypatch, "get('attempt') - handed_back >= tonumber(ARGV[7])", "false")


def no_place_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Earlier attempts keep their place on the disk."""
    monkeypatch.setattr(AttemptFolders, "end", lambda self, latest: None)


def no_recovery(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks for jobs that were left."""
    monkeypatch.setattr("worker.recovery.Recovery._recover", lambda *arguments: None)


def change_scripts(monkeypatch: pytest.MonkeyPatch, part: str, other: str) -> None:
    assert any(part in text for text in job_store._SCRIPTS.values())
    changed = {name: text.replace(part, other) for name, text in job_store._SCRIPTS.items()}
    monkeypatch.setattr(job_store, "_SCRIPTS", changed)


@pytest.mark.parametrize(
    "breakage",
    [
        pytest.param(no_attempt_fence, marks=pytest.mark.faults),
        pytest.param(forgotten_cancel, marks=pytest.mark.faults),
        no_limit_of_attempts,
        no_recovery,
        pytest.param(no_place_taken_away, marks=pytest.mark.faults),
    ],
)
def test_broken_code_is_found(
    breakage: Callable[[pytest.MonkeyPatch], None], redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    breakage(monkeypatch)
    found = None
    for seed in range(1000):
        try:
            simulate(seed, redis_url)
        except Violation as violation:
            found = str(violation)
            print(f"found by seed {seed}: {found.splitlines()[-1]}")
            break
    assert found is not None
    assert found.startswith("seed ")
