"""torch is told that its idle threads shall sleep, before it loads, whichever way the code is entered."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support.paths import ROOT

WHEN_TORCH_LOADS = """
import importlib, os, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print(os.environ.get("OMP_WAIT_POLICY"))
            os._exit(0)

sys.meta_path.insert(0, Finder())
importlib.import_module(sys.argv[1])
print("torch was not loaded")
"""
ENTRANCES = ["ms_core.pipeline", "worker.runtime", "worker.main", "ms_lab.training.team", "ms_lab.training.mini"]


def policy(entrance: str, **environment: str) -> str:
    command = [sys.executable, "-c", WHEN_TORCH_LOADS, entrance]
    inherited = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    answer = subprocess.run(
        command, cwd=ROOT, env={**inherited, **environment}, capture_output=True, text=True, check=True
    )
    return answer.stdout.strip()


@pytest.mark.parametrize("entrance", ENTRANCES)
def test_idle_threads_sleep(entrance: str) -> None:
    assert policy(entrance) in ("passive", "torch was not loaded")


def test_torch_is_loaded_by_the_pipeline() -> None:
    assert policy("ms_core.pipeline") == "passive"


def test_the_users_own_choice_stays() -> None:
    assert policy("ms_core.pipeline", OMP_WAIT_POLICY="active") == "active"
