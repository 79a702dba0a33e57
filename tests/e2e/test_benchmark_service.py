"""The benchmark of the service runs, with far too few requests."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import ROOT


def measure_service(figure: str, folder: Path) -> Path:
    """What the benchmark of the service writes when it measures far too little."""
    out = folder / "service.json"
    command = [sys.executable, ROOT / "benchmarks" / "service.py", figure, "--quick", "--out", out]
    subprocess.run(command, check=True, cwd=ROOT, timeout=300)
    return out


def figures_of(results: Path) -> dict[str, Any]:
    return json.loads(results.read_text())["figures"]


@pytest.mark.faults
def test_a_figure_of_the_service_is_measured_and_says_how(tmp_path: Path) -> None:
    figures = figures_of(measure_service("start", tmp_path))
    assert list(figures) == ["start"]
    assert figures["start"]["command"] == "python benchmarks/service.py start --quick"
    assert figures["start"]["enqueue_to_start_ms"]["p50"] > 0


@pytest.fixture(scope="module")
def service_results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("wrk") is None:
        pytest.skip("needs wrk")
    return measure_service("all", tmp_path_factory.mktemp("service"))


@pytest.mark.faults
def test_the_benchmark_of_the_service_measures_every_figure(service_results: Path) -> None:
    names = [
        "submits",
        "flat-submits",
        "asset-submits",
        "polls",
        "polls-and-submits",
        "start",
        "overhead",
        "growth",
        "backlog",
    ]
    figures = figures_of(service_results)
    assert list(figures) == names
    assert all(isinstance(row["met"], bool) and row["goal"] for row in figures.values())


@pytest.mark.faults
def test_no_request_of_the_benchmark_is_refused(service_results: Path) -> None:
    figures = figures_of(service_results)
    refused = [figures[name]["refused"] for name in ("submits", "flat-submits", "asset-submits")]
    errors = [figures[name]["errors"] for name in ("polls", "polls-and-submits")]
    assert refused + errors == [0, 0, 0, 0, 0]


@pytest.mark.faults
def test_the_figures_of_the_service_are_drawn(service_results: Path) -> None:
    plots = {path.name for path in service_results.parent.glob("*.svg")}
    assert plots == {"service-rates.svg", "service-latencies.svg", "service-growth.svg"}
