"""``msd reference``: the file it writes, what it says of each picture, and bad input."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import typer
from PIL import Image, ImageDraw
from typer.testing import CliRunner

from cli.reference import reference
from ms_core.conditions.references import ReferencePreprocessor, preview
from ms_core.config import ModelCard
from tests.support.paths import ROOT

MINI = ROOT / "models" / "mini"
TOMATO = ROOT / "assets" / "demo" / "tomato.png"


@pytest.fixture
def run(tmp_path: Path, without_rembg: None):
    """Runs the command in one process and gives its output."""
    app = typer.Typer()
    app.command()(reference)

    def invoke(*arguments: object, fails: bool = False):
        result = CliRunner().invoke(app, [*map(str, arguments), "-o", str(tmp_path / "seen.png")])
        assert (result.exit_code != 0) == fails, result.output
        return result

    return invoke


@pytest.fixture
def disc(tmp_path: Path) -> Path:
    picture = Image.new("RGB", (120, 90), "green")
    ImageDraw.Draw(picture).ellipse((30, 20, 90, 70), fill="red")
    picture.save(tmp_path / "disc.png")
    return tmp_path / "disc.png"


@pytest.fixture
def uniform(tmp_path: Path) -> Path:
    Image.new("RGB", (50, 50), "teal").save(tmp_path / "uniform.png")
    return tmp_path / "uniform.png"


def expected(*paths: Path, cutout: bool) -> Image.Image:
    """What the bundled model's preprocessor gives."""
    preprocessor = ReferencePreprocessor.load(MINI / "image_encoder", ModelCard.load(MINI).reference)
    return preview([preprocessor.see(Image.open(path), cutout) for path in paths])


@pytest.mark.parametrize("options", [(), ("--cutout",)])
def test_the_file_holds_the_encoders_pixels(run, tmp_path, disc, options) -> None:
    run(disc, TOMATO, *options)
    with Image.open(tmp_path / "seen.png") as seen:
        assert (seen.size, seen.mode) == ((128, 64), "RGB")
        assert seen.tobytes() == expected(disc, TOMATO, cutout=bool(options)).tobytes()


def test_it_says_how_each_picture_was_cut_out(run, disc, uniform) -> None:
    lines = run(disc, TOMATO, uniform, "--cutout").stdout.splitlines()
    assert [line.split(": ", 1)[1].split(",")[0] for line in lines] == [
        "cut out by GrabCut",
        "cut out by its own transparency",
        "no subject stands out",
        "what mini sees",
    ]


def test_without_the_option_nothing_is_cut_out(run, disc) -> None:
    assert f"{disc}: used as it is" in run(disc).stdout


def test_another_model_sees_it_in_its_own_size(run, tmp_path, disc, golden_model_directory) -> None:
    run(disc, "--model", golden_model_directory)
    with Image.open(tmp_path / "seen.png") as seen:
        assert seen.size == (224, 224)


def test_no_weights_are_needed(run, disc, tmp_path) -> None:
    model = tmp_path / "bare"
    (model / "image_encoder").mkdir(parents=True)
    for name in ("ms_adapter.json", "image_encoder/preprocessor_config.json"):
        (model / name).write_bytes((MINI / name).read_bytes())
    run(disc, "--model", model)


@pytest.mark.parametrize(
    ("content", "words"), [(b"no picture", "no PNG, JPEG or WebP"), (b"", "empty"), (None, "No such file")]
)
def test_a_picture_that_cannot_be_read_is_named(run, tmp_path, disc, content: bytes | None, words: str) -> None:
    path = tmp_path / "bad.png"
    if content is not None:
        path.write_bytes(content)
    error = run(disc, path, fails=True).exception
    assert words in str(error)
    assert "bad.png" in str(error)


def test_a_place_that_cannot_be_written_is_named(run, disc, tmp_path) -> None:
    (tmp_path / "seen.png").mkdir()
    assert "is a folder" in str(run(disc, fails=True).exception)


def test_a_file_is_replaced_only_if_that_is_asked_for(run, disc, tmp_path) -> None:
    (tmp_path / "seen.png").write_bytes(b"mine")
    assert "is there already" in str(run(disc, fails=True).exception)
    assert (tmp_path / "seen.png").read_bytes() == b"mine"
    run(disc, "--force")
    assert (tmp_path / "seen.png").read_bytes() != b"mine"


@pytest.mark.faults
def test_the_command_is_part_of_msd(disc, tmp_path) -> None:
    command = [sys.executable, "-m", "cli.main", "reference", str(disc), "-o", str(tmp_path / "seen.png")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert "64 x 64" in result.stdout
