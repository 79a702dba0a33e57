"""``msd eval mini`` from the model directory to the files it writes, with the tiny golden model."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from cli.eval import evaluate
from ms_core.config import ModelCard


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.add_typer(evaluate, name="eval")
    return app


@pytest.fixture
def small_model(golden_model_directory: Path, tmp_path: Path) -> Path:
    """The golden model with one step at 64 x 64 by default."""
    directory = tmp_path / "small"
    shutil.copytree(golden_model_directory, directory)
    card = ModelCard.load(directory)
    defaults = replace(card.defaults, height=64, width=64, num_inference_steps=1)
    replace(card, name="small", defaults=defaults).save(directory)
    return directory


@pytest.mark.slow
def test_it_writes_numbers_and_pictures(app: typer.Typer, small_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["eval", "mini", "--model", str(small_model), "--out", str(out), "--scenes", "2", "--batch-size", "2"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert results["model"]["name"] == "small"
    assert results["scenes"] == 2
    assert results["columns"]["scale 0"]["swap"]["value"] == 0.0
    assert any(not gate["passed"] for gate in results["gate"])
    assert "MISS" in result.stdout
    with Image.open(out / "sheet.png") as sheet:
        assert sheet.width > 5 * 128


def test_a_missing_model_is_told(app: typer.Typer, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["eval", "mini", "--model", str(tmp_path / "nothing")])
    assert result.exit_code == 1
    assert "There is no model" in str(result.exception)
