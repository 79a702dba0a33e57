"""``msd parity``: what it prints and how it ends."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cli.parity import parity
from tests.support.paths import GOLDEN


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command()(parity)
    return app


def test_every_case_is_printed_and_passes(app: typer.Typer) -> None:
    result = CliRunner().invoke(app, [str(GOLDEN)])
    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) == len(list((GOLDEN / "cases").glob("*.json")))
    assert all(line.startswith("ok") for line in result.stdout.splitlines())


@pytest.mark.faults
def test_a_difference_above_the_tolerance_ends_with_one(app: typer.Typer) -> None:
    result = CliRunner().invoke(app, [str(GOLDEN), "--tolerance", "1e-9"])
    assert result.exit_code == 1
    assert "FAILED" in result.stdout


def test_wrong_heads_end_with_a_sentence(app: typer.Typer) -> None:
    result = CliRunner().invoke(app, [str(GOLDEN), "--resampler-heads", "5"])
    assert result.exit_code == 1
    assert "5 heads" in result.stderr


def test_a_folder_without_cases_ends_with_a_sentence(app: typer.Typer, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [str(tmp_path)])
    assert result.exit_code == 1
    assert "holds no cases" in result.stderr
