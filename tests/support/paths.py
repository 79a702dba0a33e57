"""Where the files are that tests read."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CLIENT = ROOT / "clients" / "python"
# For processes that tests start: what is installed may be another copy.
PYTHON_PATH = os.pathsep.join(map(str, (ROOT, CLIENT)))
ASSETS = ROOT / "assets"
GOLDEN = ROOT / "tests" / "golden"
MINI = ROOT / "models" / "mini"
