"""What a log says of a run that goes on."""

from __future__ import annotations

import pytest

from ms_lab.data.engine import progress
from ms_lab.data.engine.progress import LINE_S, StageTable
from ms_lab.data.engine.tally import READ, WRITE, StageCount


def test_a_log_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    table = StageTable()
    counts = {READ: StageCount(clips=7), WRITE: StageCount(clips=3)}
    assert table.line(counts) is None
    now += LINE_S
    assert table.line(counts) == "30 s: 7 clips read, 3 written."
    assert table.line(counts) is None
    now += LINE_S
    assert table.line({}) == "60 s: 0 clips read, 0 written."
