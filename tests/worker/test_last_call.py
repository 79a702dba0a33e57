from __future__ import annotations

import subprocess
import sys

from tests.support.paths import ROOT
from worker.config import STOPPED_LATE_EXIT_CODE


def run(is_idle: bool, grace_s: float, then: str) -> subprocess.CompletedProcess[str]:
    """A process that has a last call, and does not end by itself."""
    code = (
        "import time\n"
        "from worker.last_call import LastCall\n"
        f"call = LastCall({grace_s}, lambda: {is_idle})\n"
        f"{then}\n"
        "print('it was over before', flush=True)\n"
    )
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_a_busy_process_ends_when_its_time_is_over() -> None:
    ended = run(False, 0.3, "call.begin(); time.sleep(600)")
    assert (ended.returncode, ended.stdout) == (STOPPED_LATE_EXIT_CODE, "")
    assert "told to stop" in ended.stderr


def test_an_idle_process_ends_sooner() -> None:
    assert run(True, 600, "call.begin(); time.sleep(600)").returncode == STOPPED_LATE_EXIT_CODE


def test_a_process_that_was_not_asked_goes_on() -> None:
    assert run(True, 0.1, "time.sleep(1)").stdout == "it was over before\n"


def test_a_process_that_ends_in_time_is_not_disturbed() -> None:
    ended = run(False, 600, "call.begin()")
    assert (ended.returncode, ended.stdout) == (0, "it was over before\n")
