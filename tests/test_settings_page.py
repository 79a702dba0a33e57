"""The page of settings names every setting, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from app.config import Settings
from worker.config import WorkerSettings

PAGE = Path(__file__).parent.parent / "docs" / "guides" / "running.md"


def test_every_setting_is_on_the_page() -> None:
    documented = set(re.findall(r"^\| `(MSD_\w+)`", PAGE.read_text(), re.MULTILINE))
    known = {f"MSD_{name.upper()}" for name in (*Settings.model_fields, *WorkerSettings.model_fields)}
    assert documented == known
