"""``msd eval`` from the model directory to the files it writes, with the tiny golden model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from cli.eval import ASSETS, evaluate
from ms_core.config import ModelCard
from ms_core.errors import InvalidInputError, StartupError
from ms_lab.evaluation import photos
from ms_lab.evaluation.photos import PHOTO_PACK, draw_photo_scenes
from ms_lab.evaluation.questions import scenes
from ms_lab.evaluation.questions.columns import MOSAICS
from ms_lab.evaluation.questions.groups import GROUPS
from ms_lab.mini.sprites import SpritePack


@pytest.fixture
def small_model(golden_model_directory: Path, tmp_path: Path) -> Path:
    """The golden model with one step at 64 x 64 by default."""
    directory = tmp_path / "small"
    shutil.copytree(golden_model_directory, directory)
    card = ModelCard.load(directory)
    defaults = replace(card.defaults, height=64, width=64, num_inference_steps=1)
    replace(card, name="small", defaults=defaults).save(directory)
    return directory


@pytest.fixture
def one_scene_each() -> Iterator[None]:
    """A bench with one scene in each group, so that drawing it takes no time."""
    with patch.object(scenes, "GROUPS", {name: replace(group, core=1) for name, group in GROUPS.items()}):
        yield


def msd(*arguments: object) -> Any:
    app = typer.Typer()
    app.add_typer(evaluate, name="eval")
    return CliRunner().invoke(app, ["eval", *map(str, arguments)])


@pytest.mark.slow
@pytest.mark.usefixtures("one_scene_each")
def test_it_measures_reports_and_goes_on(small_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["mini", "--model", small_model, "--out", out, "--group", "headline", "--group", "oblong"]
    result = msd(*arguments)
    assert result.exit_code == 0, result.output
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert results["run"]["model"] == "small"
    assert set(results["groups"]) == {"headline", "oblong"}
    assert " missed " in result.stdout
    assert "not measured" in result.stdout
    with Image.open(out / "pictures" / "model" / "oblong-0.webp") as picture:
        assert picture.size == (80, 48)

    made = (out / "pictures" / "model" / "headline-0.webp").stat().st_mtime_ns
    assert msd(*arguments, "--group", "one").exit_code == 0
    assert (out / "pictures" / "model" / "headline-0.webp").stat().st_mtime_ns == made
    assert (out / "pictures" / "model" / "one-0.webp").is_file()

    refused = msd(*arguments, "--steps", "2")
    assert refused.exit_code == 1
    assert isinstance(refused.exception, InvalidInputError)
    assert "num inference steps" in refused.exception.detail

    assert msd("report", out, "--sheet", tmp_path / "sheet.png").exit_code == 0
    assert msd("report", out).exit_code == 0
    # Neither file is replaced unless that is asked for.
    for options in (("--sheet", tmp_path / "sheet.png"), ()):
        assert "is there already" in str(msd("report", out, *options).exception)
        assert msd("report", out, *options, "--force").exit_code == 0
    assert "oblong" in (out / "report.html").read_text(encoding="utf-8")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 4 * 128


@pytest.mark.usefixtures("one_scene_each")
def test_an_unknown_group_is_told(small_model: Path, tmp_path: Path) -> None:
    result = msd("mini", "--model", small_model, "--out", tmp_path / "out", "--group", "dogs")
    assert isinstance(result.exception, InvalidInputError)
    assert "headline" in result.exception.detail


def test_a_missing_model_is_told(tmp_path: Path) -> None:
    result = msd("mini", "--model", tmp_path / "nothing")
    assert result.exit_code == 1
    assert "There is no model" in str(result.exception)


@pytest.mark.parametrize("command", ["layout", "photos"])
def test_a_folder_that_cannot_be_made_is_told_before_any_work(tmp_path: Path, command: str) -> None:
    (tmp_path / "file").write_text("")
    result = msd(command, "--out", tmp_path / "file" / "out")
    assert isinstance(result.exception, StartupError)
    assert "choose another with --out" in result.exception.detail


def test_a_folder_that_is_no_run_is_told(tmp_path: Path) -> None:
    result = msd("report", tmp_path)
    assert isinstance(result.exception, InvalidInputError)


@pytest.mark.slow
def test_it_measures_photographs(small_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    pack = SpritePack.load(ASSETS / PHOTO_PACK)
    few = draw_photo_scenes(pack.subset(range(12)))[:2]
    with patch.object(photos, "draw_photo_scenes", lambda _: few):
        result = msd("photos", "--model", small_model, "--out", out)
    assert result.exit_code == 0, result.output
    assert "50 photographs as references" in result.stdout
    results = json.loads((out / "photos.json").read_text(encoding="utf-8"))
    assert results["model"] == "small"
    assert set(results["columns"]) == {"model", "scale 0", "through VAE", "blur 5", *MOSAICS}
    with Image.open(out / "photos.png") as sheet:
        assert sheet.width > 1000


@pytest.mark.slow
def test_it_measures_the_layout(small_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["layout", "--model", small_model, "--out", out, "--scenes", "2"]
    result = msd(*arguments)
    assert result.exit_code == 0, result.output
    assert "layout on 2 scenes" in result.stdout
    results = json.loads((out / "layout.json").read_text(encoding="utf-8"))
    assert results["model"] == "small"
    assert set(results["columns"]["exchanged boxes"]) == {"mIoU", "AP", "found"}
    assert "is there already" in str(msd(*arguments).exception)


def test_an_ablation_is_trained_measured_and_written(tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["ablation", "--smoke", "--out", out, "--seed", 1, "--variant", "full", "--variant", "ip-adapter"]
    result = msd(*arguments)
    assert result.exit_code == 0, result.output
    document = json.loads((out / "ablation.json").read_text(encoding="utf-8"))
    assert {"full-1", "scale-0-1", "ip-adapter-1", "composites", "through-vae", "mosaic-3"} <= set(document["columns"])
    assert set(document["differences"]) == {"scale-0", "ip-adapter"}
    assert document["training"]["full-1"]["pictures"] == 8
    # Eight pictures teach nothing.
    assert not document["enough"]
    assert "The budget is too small" in result.stdout
    assert "<svg" in (out / "ablation.svg").read_text(encoding="utf-8")
    with Image.open(out / "sheet-1.png") as sheet:
        assert sheet.width > sheet.height / 3

    again = msd(*arguments)
    assert again.exit_code == 0
    assert "Training" not in again.stdout
    assert isinstance(msd("ablation", "--smoke", "--out", out, "--variant", "none").exception, InvalidInputError)
