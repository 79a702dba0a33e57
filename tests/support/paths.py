"""Where the files are that tests read."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ASSETS = ROOT / "assets"
GOLDEN = ROOT / "tests" / "golden"
MINI = ROOT / "models" / "mini"
