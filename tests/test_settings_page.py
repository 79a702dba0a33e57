"""The page of settings names every setting, and no other."""

from __future__ import annotations

import re

from app.config import Settings
from tests.support.paths import ROOT
from worker.config import WorkerSettings
from worker.logs import LogSettings

PAGE = ROOT / "docs" / "guides" / "running.md"


def test_every_setting_is_on_the_page() -> None:
    documented = set(re.findall(r"^\| `(MSD_\w+)`", PAGE.read_text(), re.MULTILINE))
    names = {name for settings in (Settings, WorkerSettings, LogSettings) for name in settings.model_fields}
    known = {f"MSD_{name.upper()}" for name in names}
    assert documented == known
