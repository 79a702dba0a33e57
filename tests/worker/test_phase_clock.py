from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.support.paths import ROOT
from worker.phase_clock import PhaseClock


@pytest.fixture
def clock() -> Iterator[PhaseClock]:
    clock = PhaseClock.create()
    yield clock
    clock.close()


def in_a_child(clock: PhaseClock, code: str) -> None:
    """Run code in a process that inherits the clock and knows it by ``clock``."""
    code = f"from worker.phase_clock import PhaseClock; clock = PhaseClock({clock.descriptor}); {code}"
    subprocess.run([sys.executable, "-c", code], pass_fds=[clock.descriptor], cwd=ROOT, check=True, timeout=60)


def test_it_begins_without_an_end(clock: PhaseClock) -> None:
    assert (clock.phase, clock.ends_at, clock.has_worked) == ("start", None, False)


def test_a_child_says_when_its_phase_ends(clock: PhaseClock) -> None:
    before = time.monotonic()
    in_a_child(clock, "clock.enter('denoise', 20)")
    assert clock.phase == "denoise"
    assert clock.ends_at is not None
    assert before + 20 <= clock.ends_at <= time.monotonic() + 20


def test_a_phase_without_a_limit_takes_the_limit_away(clock: PhaseClock) -> None:
    clock.enter("denoise", 20)
    clock.enter("idle", None)
    assert (clock.phase, clock.ends_at) == ("idle", None)


def test_what_a_child_said_stays_when_it_is_dead(clock: PhaseClock) -> None:
    in_a_child(clock, "clock.enter('decode', 5); import os; os._exit(0)")
    assert clock.phase == "decode"


@pytest.mark.parametrize(("phase", "has_worked"), [("start", False), ("load", False), ("idle", True), ("encode", True)])
def test_a_worker_has_worked_once_its_model_was_loaded(clock: PhaseClock, phase: str, has_worked: bool) -> None:
    clock.enter(phase, None)
    assert clock.has_worked is has_worked


def test_a_phase_that_it_does_not_know_has_a_limit_too(clock: PhaseClock) -> None:
    clock.enter("polish", 1)
    assert clock.phase == "other"
    assert clock.ends_at is not None
