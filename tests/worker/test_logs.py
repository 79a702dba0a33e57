"""The form of log lines, and the size of log files."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from structlog.contextvars import bound_contextvars

from ms_core.errors import DeviceOutOfMemoryError, PhraseNotFoundError, StartupError
from tests.support.job_helpers import wait_until
from worker.log_files import roll
from worker.logs import LogSettings, error_fields, formatter, logging_config
from worker.process import Command, ManagedProcess


def line(message: str, *arguments: object, **values: Any) -> dict[str, Any]:
    """One record as the JSON formatter writes it."""
    record = logging.getLogger("worker.test").makeRecord(
        "worker.test", logging.INFO, "file.py", 1, message, arguments, values.pop("exc_info", None), extra=values
    )
    return json.loads(formatter(as_json=True, in_colour=False).format(record))


def exception_of(fail: Callable[[], object]) -> Any:
    try:
        fail()
    except Exception:
        return sys.exc_info()
    raise AssertionError("nothing failed")


def test_a_line_tells_what_happened_where_and_when() -> None:
    told = line("job %s ended", "a", state="failed")
    told.pop("timestamp")
    assert told == {"event": "job a ended", "state": "failed", "level": "info", "logger": "worker.test"}


def test_a_line_carries_what_is_bound() -> None:
    with bound_contextvars(request_id="r1"):
        assert line("x")["request_id"] == "r1"


def test_a_traceback_is_one_line_of_json() -> None:
    text = line("x", exc_info=exception_of(lambda: 1 / 0))["exception"]
    assert text.startswith("Traceback")
    assert text.endswith("ZeroDivisionError: division by zero")


class Asked(BaseModel):
    prompt: int


def test_input_that_was_refused_is_not_logged() -> None:
    words = " ".join(["my", "secret", "cat"])
    told = line("x", exc_info=exception_of(lambda: Asked.model_validate({"prompt": words})))["exception"]
    assert words not in told


def test_the_fields_that_were_refused_are_logged() -> None:
    told = line("x", exc_info=exception_of(lambda: Asked.model_validate({"prompt": "a"})))["exception"]
    assert told.endswith("1 invalid values: prompt")


def test_an_error_about_a_request_is_told_by_its_code() -> None:
    assert error_fields(PhraseNotFoundError("The phrase 'my cat' is not there.", "/x")) == {"code": "phrase_not_found"}


def test_an_error_of_the_service_is_told_in_full() -> None:
    error = DeviceOutOfMemoryError("Ask for less.")
    assert error_fields(error) == {"code": error.code, "detail": "Ask for less."}


def test_a_format_that_does_not_exist_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSD_LOG_FORMAT", "xml")
    with pytest.raises(StartupError, match="MSD_LOG_FORMAT cannot be 'xml'"):
        LogSettings.load()


def lines_of(code: str, **environment: str) -> list[str]:
    """What a process writes to its standard error."""
    program = f"from worker.logs import set_up_logs; set_up_logs(); import logging; {code}"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": ".", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stderr.splitlines()


def test_away_from_a_terminal_lines_are_json() -> None:
    (told,) = lines_of("logging.getLogger('rq').warning('hello')")
    assert json.loads(told)["event"] == "hello"


def test_lines_for_people_can_be_asked_for() -> None:
    (told,) = lines_of("logging.info('hello')", MSD_LOG_FORMAT="console")
    assert "[info" in told
    assert not told.startswith("{")


def test_debug_lines_are_written_when_asked_for() -> None:
    assert lines_of("logging.debug('x')") == []
    assert len(lines_of("logging.debug('x')", MSD_LOG_LEVEL="debug")) == 1


def test_a_log_file_takes_all_and_the_terminal_warnings(tmp_path: Path) -> None:
    config = logging_config(LogSettings(), tmp_path / "up.log")
    assert (config["root"]["handlers"], config["handlers"]["stderr"]["level"]) == (["stderr", "file"], "WARNING")


def test_a_small_log_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "api.log"
    path.write_text("short")
    assert not roll(path, limit=10)
    assert path.read_text() == "short"


def test_a_large_log_is_moved_aside(tmp_path: Path) -> None:
    path = tmp_path / "api.log"
    path.write_text("a long line")
    assert roll(path, limit=10)
    assert (path.read_text(), (tmp_path / "api.log.1").read_text()) == ("", "a long line")


def test_only_one_older_log_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "api.log"
    for text in ("the first line", "the second line"):
        path.write_text(text)
        roll(path, limit=10)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {
        "api.log": "",
        "api.log.1": "the second line",
    }


def test_a_log_that_cannot_be_copied_is_emptied_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "api.log"
    path.write_text("a long line")
    (tmp_path / "api.log.1").mkdir()
    roll(path, limit=10)
    assert path.read_text() == ""


def test_a_missing_log_is_no_trouble(tmp_path: Path) -> None:
    assert not roll(tmp_path / "api.log")


def test_a_child_goes_on_writing_after_its_log_was_moved_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.process.roll", lambda path: roll(path, limit=100))
    path = tmp_path / "child.log"
    program = "import itertools, time\nfor n in itertools.count():\n print(n, flush=True)\n time.sleep(0.005)"
    child = ManagedProcess(lambda: Command("child", [sys.executable, "-c", program], log_file=path))
    try:
        wait_until(lambda: child.tick() is None and path.with_name("child.log.1").exists(), "the first roll")
        wait_until(lambda: path.stat().st_size > 0, "lines after it")
        assert path.stat().st_size < 1000
    finally:
        child.stop(0)
