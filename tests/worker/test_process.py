from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.job_helpers import wait_until
from tests.support.paths import ROOT
from worker.process import Command, ManagedProcess

FOREVER = "import time; time.sleep(600)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); {FOREVER}"


def python(code: str, log_file: Path | None = None) -> Command:
    return Command("child", [sys.executable, "-c", code], {"CHILD_VALUE": "from the command"}, log_file)


@contextmanager
def managed(command: Command) -> Iterator[ManagedProcess]:
    process = ManagedProcess(lambda: command)
    try:
        yield process
    finally:
        process.stop(grace_s=0)


def is_running(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_a_child_gets_its_environment_and_its_log(tmp_path: Path) -> None:
    log_file = tmp_path / "logs" / "child.log"
    with managed(python("import os; print(os.environ['CHILD_VALUE'])", log_file)) as process:
        process.tick()
        assert wait_until(lambda: process.tick() == 0 or None, "the child's end")
    assert log_file.read_text() == "from the command\n"


def test_a_child_that_cannot_be_started_again_for_now_is_started_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr("worker.process.time.monotonic", lambda: clock[0])
    folder = tmp_path / "logs"
    with managed(python(FOREVER, folder / "child.log")) as process:
        process.tick()
        assert process.pid is not None
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        process.tick()
        folder.rename(tmp_path / "elsewhere")
        folder.write_text("no folder, so no log can be opened")
        clock[0] += 1
        process.tick()
        assert process.pid is None
        folder.unlink()
        clock[0] += 100
        process.tick()
        assert process.pid is not None


def test_a_child_that_cannot_be_started_at_all_is_told_of(tmp_path: Path) -> None:
    with managed(Command("child", [str(tmp_path / "missing")])) as process, pytest.raises(FileNotFoundError):
        process.tick()


def test_a_child_that_ends_is_started_again_after_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr("worker.process.time.monotonic", lambda: clock[0])
    with managed(python("raise SystemExit(5)")) as process:
        pauses: list[float] = []
        for _ in range(3):
            process.tick()
            assert process.pid is not None
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            assert process.tick() == 5
            ended_at = clock[0]
            while process.pid is None:
                clock[0] += 0.125
                process.tick()
            pauses.append(clock[0] - ended_at)
            process.kill()
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            process.tick()
            clock[0] += 100
        assert pauses == sorted(pauses)
        assert pauses[0] >= 0.5
        assert pauses[-1] > pauses[0]


def pause_after(process: ManagedProcess, clock: list[float], code: int) -> float:
    """Seconds from the child's end, with this exit code, to the next start."""
    assert process.pid is not None
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert process.tick() == code
    ended_at = clock[0]
    while process.pid is None:
        clock[0] += 0.125
        process.tick()
    return clock[0] - ended_at


def test_a_child_that_worked_and_was_killed_is_started_again_without_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr("worker.process.time.monotonic", lambda: clock[0])
    with managed(python(FOREVER)) as process:
        process.tick()
        for _ in range(4):
            process.note_work()
            process.kill()
            assert pause_after(process, clock, -signal.SIGKILL) == 0.5


def test_a_child_that_never_worked_is_started_ever_more_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr("worker.process.time.monotonic", lambda: clock[0])
    with managed(python(FOREVER)) as process:
        process.tick()
        pauses: list[float] = []
        for _ in range(4):
            process.kill()
            pauses.append(pause_after(process, clock, -signal.SIGKILL))
    assert pauses == [0.5, 1, 2, 4]


def test_a_child_that_worked_and_ends_by_itself_is_started_ever_more_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr("worker.process.time.monotonic", lambda: clock[0])
    with managed(python("raise SystemExit(4)")) as process:
        process.tick()
        pauses: list[float] = []
        for _ in range(3):
            process.note_work()
            pauses.append(pause_after(process, clock, 4))
    assert pauses == [0.5, 1, 2]


def test_a_child_inherits_the_descriptors_that_it_is_given(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    code = f"import os; os.write({writing}, b'from the child')"
    with managed(Command("child", [sys.executable, "-c", code], descriptors=[writing])) as process:
        process.tick()
        os.close(writing)
        assert os.read(reading, 100) == b"from the child"
    os.close(reading)


def test_stopping_asks_first(tmp_path: Path) -> None:
    log_file = tmp_path / "child.log"
    code = f"import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(print('bye'))); print('ready', flush=True); {FOREVER}"
    with managed(python(code, log_file)) as process:
        process.tick()
        wait_until(lambda: log_file.exists() and "ready" in log_file.read_text(), "the child")
        process.stop(grace_s=30)
        assert "bye" in log_file.read_text()
        assert process.pid is None


def test_stopping_kills_who_does_not_listen(tmp_path: Path) -> None:
    log_file = tmp_path / "child.log"
    with managed(python(STUBBORN, log_file)) as process:
        process.tick()
        pid = process.pid
        assert pid is not None
        wait_until(lambda: log_file.exists() and "ready" in log_file.read_text(), "the child")
        process.stop(grace_s=0.1)
        assert not is_running(pid)


def test_stopping_does_not_wait_without_end_for_who_cannot_be_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.process.KILL_PATIENCE_S", 0.1)
    log_file = tmp_path / "child.log"
    children: list[subprocess.Popen[bytes]] = []
    with managed(python(STUBBORN, log_file)) as process:
        process.tick()
        wait_until(lambda: log_file.exists() and "ready" in log_file.read_text(), "the child")
        # As one that hangs in the kernel: no signal does anything.
        with monkeypatch.context() as patch:
            patch.setattr(subprocess.Popen, "kill", lambda child: children.append(child))
            assert process.stop(grace_s=0) == -signal.SIGKILL
    children[0].kill()
    children[0].wait()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_no_child_outlives_a_killed_parent() -> None:
    code = (
        "import sys, time; from worker.process import Command, start_process;"
        f"print(start_process(Command('child', [sys.executable, '-c', {FOREVER!r}])).pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert is_running(pid)
        parent.send_signal(signal.SIGKILL)
        wait_until(lambda: not is_running(pid), "the child's end")
