"""One process at a time in a folder; a folder in which nobody can be alone is not taken for one that is in use."""

from __future__ import annotations

import errno
import fcntl
from pathlib import Path

import pytest

from ms_core.errors import StartupError
from ms_lab.folder_lock import TakenError, sole_writer


def test_a_second_writer_is_refused_and_the_next_one_is_not(tmp_path: Path) -> None:
    with (
        sole_writer(tmp_path / "out"),
        pytest.raises(TakenError, match="Another run works"),
        sole_writer(tmp_path / "out"),
    ):
        pass
    with sole_writer(tmp_path / "out"):
        pass


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StartupError, match=r"file/out cannot be written: Not a directory"),
        sole_writer(tmp_path / "file" / "out"),
    ):
        pass


def test_a_disk_without_locks_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(StartupError, match="cannot be locked: No locks available") as told, sole_writer(tmp_path):
        pass
    assert not isinstance(told.value, TakenError)
