"""``msd demo``: the picture it draws, what it refuses, and that it makes its picture anew and leaves nothing behind."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest
from job_helpers import wait_until
from PIL import Image, ImageChops
from service_processes import ROOT, environment, msd, processes_of, run_msd

from cli.demo_picture import COLOURS, GAP, HEADER, MARGIN, PANEL, DrawnSubject, draw_demo
from ms_core.config import ModelCard
from ms_core.mini.sprites import SpritePack

REFERENCES = ROOT / "assets" / "demo"
BOX = "@0.05,0.35,0.47,0.8"


def panel(page: Image.Image, number: int) -> Image.Image:
    """The references, the boxes or the result, by number."""
    left = MARGIN + number * (PANEL + GAP)
    return page.crop((left, HEADER, left + PANEL, HEADER + PANEL))


def colours_of(picture: Image.Image) -> set[tuple[int, ...]]:
    counted = picture.getcolors(maxcolors=PANEL * PANEL)
    assert counted is not None
    return {colour for _, colour in counted}


def demo_run(model: Path, out: Path, *options: object) -> Image.Image:
    """Run the demo to its end and return the result that it shows."""
    temporary = out.with_suffix(".tmp")
    temporary.mkdir()
    finished = run_msd("demo", "--model", model, "--out", out, *options, TMPDIR=str(temporary), MSD_DEVICE="cpu")
    assert (finished.returncode, finished.stderr) == (0, "")
    assert finished.stdout.count(" s  ") == 4
    assert list(temporary.iterdir()) == []
    with Image.open(out) as page:
        return panel(page, 2)


@pytest.mark.parametrize("name", ["tomato", "leafy-green"])
def test_the_bundled_references_are_artwork_that_is_never_trained_on(name: str) -> None:
    pack = SpritePack.load(ROOT / "assets" / "heldout-sprites.zip")
    (number,) = (i for i, sprite in enumerate(pack.sprites) if (sprite.artist, sprite.name) == ("openmoji", name))
    with Image.open(REFERENCES / f"{name}.png") as reference:
        assert reference.crop((16, 16, 112, 112)).tobytes() == pack.pictures[number].tobytes()


def test_the_result_is_shown_as_it_is() -> None:
    result = Image.effect_mandelbrot((PANEL, PANEL), (-2.0, -1.5, 1.0, 1.5), 40).convert("RGB")
    page = draw_demo("a cat", [DrawnSubject("cat", Image.new("RGB", (8, 8)), (0, 0, 1, 1))], result)
    assert ImageChops.difference(panel(page, 2), result).getbbox() is None


@pytest.mark.parametrize("count", range(1, len(COLOURS) + 1))
def test_every_reference_is_shown(count: int) -> None:
    fills = [(10 * number, 200, 90) for number in range(count)]
    subjects = [DrawnSubject("cat", Image.new("RGB", (8, 12), fill), (0.1, 0.1, 0.5, 0.5)) for fill in fills]
    page = draw_demo("cats", subjects, Image.new("RGB", (16, 16)))
    assert set(fills) <= colours_of(panel(page, 0))


def test_boxes_stand_where_they_are_in_the_result() -> None:
    subject = DrawnSubject("", Image.new("RGB", (8, 8)), (0.25, 0.5, 0.75, 1.0))
    boxes = panel(draw_demo("a cat", [subject], Image.new("RGB", (64, 32))), 1)
    coloured = boxes.convert("HSV").getchannel("S").point(lambda level: 255 if level > 100 else 0)
    # The result is twice as wide as high: its picture fills the panel's width and the middle half of its height.
    left, top, right, bottom = coloured.getbbox() or (0, 0, 0, 0)
    expected = (PANEL * 0.25, PANEL * 0.5, PANEL * 0.75, PANEL * 0.75)
    assert (left, top, right, bottom) == pytest.approx(expected, abs=1)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--subject", f"tomato={REFERENCES / 'tomato.png'}"), "give each subject one, such as"),
        (("--subject", f"fox=nothing.png{BOX}"), "Cannot read the picture nothing.png: No such file or directory."),
        (("--subject", "fox"), "Cannot read the subject 'fox'"),
        (("--out", "no/such/folder/demo.png"), "There is no folder no/such/folder"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_starts(options: tuple[str, ...], sentence: str) -> None:
    finished = run_msd("demo", *options)
    assert (finished.returncode, finished.stdout) == (1, "")
    assert finished.stderr.startswith("msd: ")
    assert sentence in finished.stderr


@pytest.mark.e2e
@pytest.mark.slow
def test_a_changed_reference_changes_the_picture(golden_model_directory: Path, tmp_path: Path) -> None:
    first = demo_run(golden_model_directory, tmp_path / "first.png")
    again = demo_run(golden_model_directory, tmp_path / "again.png")
    assert ImageChops.difference(first, again).getbbox() is None
    changed = demo_run(
        golden_model_directory,
        tmp_path / "changed.png",
        *("--subject", f"tomato={REFERENCES / 'leafy-green.png'}@0.06,0.3,0.42,0.75"),
        *("--subject", f"leafy green={REFERENCES / 'leafy-green.png'}@0.58,0.3,0.94,0.75"),
    )
    assert ImageChops.difference(first, changed).getbbox() is not None


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing(
    golden_model_directory: Path, tmp_path: Path, number: signal.Signals
) -> None:
    command = msd("demo", "--model", golden_model_directory, "--out", tmp_path / "demo.png")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    env = environment(TMPDIR=str(temporary), MSD_DEVICE="cpu")
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: "worker.main" in "".join(processes_of(temporary).values()), "a worker")
        process.send_signal(number)
        _, told = process.communicate(timeout=60)
    assert (process.returncode, told) == (130, "Stopped.\n")
    assert processes_of(temporary) == {}
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["temporary"]


@pytest.mark.e2e
@pytest.mark.slow
def test_nothing_outlives_a_killed_demo(golden_model_directory: Path, tmp_path: Path) -> None:
    command = msd("demo", "--model", golden_model_directory, "--out", tmp_path / "demo.png")
    with subprocess.Popen(command, env=environment(TMPDIR=str(tmp_path), MSD_DEVICE="cpu")) as process:
        wait_until(lambda: "worker.main" in "".join(processes_of(tmp_path).values()), "a worker")
        process.kill()
    wait_until(lambda: processes_of(tmp_path) == {}, "the end of every process", patience_s=20)


def test_a_missing_model_is_named() -> None:
    finished = run_msd("demo", "--model", "nothing")
    assert finished.returncode == 1
    assert finished.stderr.startswith("msd: The service ended while starting. There is no model 'nothing'.")


@pytest.mark.e2e
@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_is_explained(tmp_path: Path) -> None:
    model = tmp_path / "empty"
    model.mkdir()
    ModelCard().save(model)
    finished = run_msd("demo", "--model", model, "--out", tmp_path / "demo.png", TMPDIR=str(tmp_path))
    assert finished.returncode == 1
    assert finished.stderr.startswith("msd: The service cannot work. Workers: 1 ")
    assert finished.stderr.count("\n") == 1
    assert processes_of(tmp_path) == {}
