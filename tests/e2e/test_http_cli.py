"""``msd generate`` against the live service."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from cli.client import service_client
from msd_client import Job
from tests.e2e.http_service import QUICK, HttpService
from tests.support.job_helpers import wait_until
from tests.support.paths import PYTHON_PATH
from tests.support.sample_requests import drawing, good_request

SMALL = ["--width", "64", "--height", "64", "--steps", "2"]
CAT, TEAPOT = "cat=cat.png@0.05,0.3,0.45,0.8", "teapot=teapot.png@0.55,0.3,0.95,0.8*0.5"
PROMPT = "a cat and a teapot on the beach"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two pictures, in which the command runs."""
    drawing("orange").save(tmp_path / "cat.png")
    drawing("teal").save(tmp_path / "teapot.png")
    return tmp_path


def command(url: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "cli.main", "generate", "--url", url, *arguments]


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": PYTHON_PATH}


def run(folder: Path, url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(url, *arguments), cwd=folder, env=environment(), capture_output=True, text=True, timeout=120
    )


def assert_one_sentence(result: subprocess.CompletedProcess[str], says: str) -> None:
    assert result.returncode == 1
    assert says in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert "Traceback" not in result.stderr


def test_a_picture_is_made_and_saved(service: HttpService, folder: Path) -> None:
    result = run(folder, service.url, "-s", CAT, "-s", TEAPOT, PROMPT, "-o", "beach.png", "--seed", "5", *SMALL)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "beach.png (seed 5)\n"
    with Image.open(folder / "beach.png") as picture:
        assert (picture.format, picture.size) == ("PNG", (64, 64))


@pytest.mark.parametrize(
    ("name", "option", "format_of_file"),
    [("o.webp", [], "WEBP"), ("o.JPG", ["--quality", "60"], "JPEG"), ("o.jpg", ["--output-format", "png"], "PNG")],
)
def test_the_format_goes_by_the_name_of_the_file(
    service: HttpService, folder: Path, name: str, option: list[str], format_of_file: str
) -> None:
    result = run(folder, service.url, "-s", f"{CAT};start=0.5", PROMPT, "-o", name, *option, *SMALL)
    assert result.returncode == 0, result.stderr
    with Image.open(folder / name) as picture:
        assert picture.format == format_of_file


def test_a_picture_is_made_again_from_its_file(service: HttpService, folder: Path) -> None:
    # Without a worker the model's values would not be in the request, and so not in the recipe.
    service.wait_until_ready()
    # No other job has them.
    drawing("navy").save(folder / "cat.png")
    drawing("olive").save(folder / "teapot.png")
    asked = ["-s", CAT, "-s", TEAPOT, PROMPT, "-o", "o.webp", "--quality", "80", *SMALL]
    assert run(folder, service.url, *asked).returncode == 0
    first = (folder / "o.webp").read_bytes()
    job_id = service.client.get("/jobs?limit=1").json()["jobs"][0]["id"]
    result = run(folder, service.url, "--like", "o.webp", "-o", "again.webp")
    assert result.returncode == 0, result.stderr
    assert (folder / "again.webp").read_bytes() == first
    for job in [job_id, service.client.get("/jobs?limit=1").json()["jobs"][0]["id"]]:
        service.client.delete(f"/jobs/{job}")
    gone = run(folder, service.url, "--like", "o.webp", "-o", "third.webp")
    assert_one_sentence(gone, "no longer has the picture of subject 0, the picture of subject 1 of o.webp; hand in")
    handed_in = ["--picture", "0=cat.png", "--picture", "teapot.png"]
    result = run(folder, service.url, "--like", "o.webp", "-o", "third.webp", *handed_in)
    assert result.returncode == 0, result.stderr
    assert (folder / "third.webp").read_bytes() == first
    result = run(
        folder, service.url, "--like", "o.webp", "--seed", "5", "--steps", "1", "a cat in the snow", *handed_in
    )
    assert result.stdout == "out.webp (seed 5)\n", result.stderr
    assert (folder / "out.webp").read_bytes() != first


def test_what_cannot_be_made_again_is_told(service: HttpService, folder: Path) -> None:
    assert_one_sentence(run(folder, service.url, "--like", "cat.png"), "cat.png: This picture holds no recipe")
    assert_one_sentence(run(folder, service.url, "--like", "no.png"), "Cannot read the picture no.png")
    for options in (["--picture", "cat.png", "-s", CAT, PROMPT], [PROMPT], ["-s", CAT]):
        result = run(folder, service.url, *options)
        assert (result.returncode, result.stdout) == (2, "")


def test_several_pictures_get_numbers(service: HttpService, folder: Path) -> None:
    result = run(folder, service.url, "-s", CAT, PROMPT, "-o", "o.png", "--num-images", "2", "--seed", "5", *SMALL)
    assert result.stdout == "o-0.png (seed 5)\no-1.png (seed 6)\n"
    assert (folder / "o-0.png").read_bytes() != (folder / "o-1.png").read_bytes()


def test_a_file_that_is_there_stays_unless_forced(service: HttpService, folder: Path) -> None:
    asked = ["-s", CAT, PROMPT, "-o", "mine.png", "--num-images", "2", *SMALL]
    (folder / "mine-1.png").write_bytes(b"mine")
    jobs = len(service.client.get("/jobs").json()["jobs"])
    assert_one_sentence(run(folder, service.url, *asked), "mine-1.png is there already; choose another name")
    assert len(service.client.get("/jobs").json()["jobs"]) == jobs
    assert (folder / "mine-1.png").read_bytes() == b"mine"
    result = run(folder, service.url, *asked, "--force")
    assert result.returncode == 0, result.stderr
    assert (folder / "mine-1.png").read_bytes() != b"mine"


def test_scores_are_shown_below_each_picture(service: HttpService, folder: Path) -> None:
    asked = ["-s", CAT, "-s", TEAPOT, PROMPT, "-o", "o.png", "--score", "--retries", "1", *SMALL]
    result = run(folder, service.url, *asked)
    assert result.returncode == 0, result.stderr
    name, title, *table = result.stdout.splitlines()
    assert name.startswith("o.png (seed ")
    assert title.strip() == "draws: 2"
    # The tests' scorer passes nothing, so all of it is drawn again.
    assert re.fullmatch(r"draw 2: all again, (not )?kept", table[-1])
    rows = {row.split()[1]: row.split()[3::2] for row in table if "cat" in row or "teapot" in row}
    assert list(rows) == ["cat", "teapot"]
    assert all(0 <= float(value) <= 1 for row in rows.values() for value in row)


def test_retries_without_scores_are_refused(service: HttpService, folder: Path) -> None:
    result = run(folder, service.url, "-s", CAT, PROMPT, "-o", "o.png", "--retries", "1")
    assert_one_sentence(result, "--retries: retries needs score; turn score on")


def test_a_box_in_pixels_is_the_same_box(service: HttpService, folder: Path) -> None:
    for name, box in (("a.png", "16,32,48,64px"), ("b.png", "0.25,0.5,0.75,1")):
        result = run(folder, service.url, "-s", f"cat=cat.png@{box}", PROMPT, "-o", name, "--seed", "5", *SMALL)
        assert result.returncode == 0, result.stderr
    with Image.open(folder / "a.png") as first, Image.open(folder / "b.png") as second:
        assert first.tobytes() == second.tobytes()


def test_auto_layout_needs_no_box(service: HttpService, folder: Path) -> None:
    result = run(folder, service.url, "-s", "cat=cat.png", "--auto-layout", PROMPT, "-o", "o.png", *SMALL)
    assert result.returncode == 0, result.stderr
    assert (folder / "o.png").is_file()


def test_warnings_are_shown(service: HttpService, folder: Path) -> None:
    result = run(folder, service.url, "-s", CAT.replace("cat=", "dragon="), PROMPT, "-o", "o.png", *SMALL)
    assert result.returncode == 0, result.stderr
    assert "dragon" in result.stderr


def test_all_that_can_be_asked_for(service: HttpService, folder: Path) -> None:
    service.wait_until_ready()
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 32, 64))
    mask.save(folder / "mask.png")
    Image.effect_noise((64, 64), 90).save(folder / "edges.png")
    # An orange square on white, which GrabCut finds.
    cat = Image.new("RGB", (64, 64), "white")
    cat.paste((255, 140, 0), (16, 16, 48, 48))
    cat.save(folder / "cat.png")
    arguments = [
        *("-s", "cat=cat.png+teapot.png@mask.png;z=1;feather=0.1", "-s", "teapot=cat.png@0.4,0.3,0.9,0.8*0.5;cutout"),
        *("-s", "beach=teapot.png;scene", PROMPT, "-o", "o.png", "--width", "64", "--height", "64", "--seed", "5"),
        *("--preset", "quick", "--lora", "paper:0.5", "--control", "canny=edges.png*0.5;end=0.5"),
        *("--start", "edges.png", "--strength", "0.9", "--redraw", "0", "--redraw", "1"),
        *("--scheduler", "ddim", "--timestep-spacing", "leading"),
    ]
    result = run(folder, service.url, *arguments)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "o.png (seed 5)\n"
    assert f"What the model sees of subject 1: {service.url}/jobs/" in result.stderr
    with Image.open(folder / "o.png") as picture:
        recipe = json.loads(picture.info["msd"])
    assert (recipe["values"]["scheduler"], recipe["values"]["num_inference_steps"]) == ("ddim", 2)
    assert recipe["request"]["start"]["redraw"] == [0, 1]
    assert recipe["request"]["controls"][0]["scale"] == 0.5


def test_names_that_the_model_lacks(service: HttpService, folder: Path) -> None:
    service.wait_until_ready()
    result = run(folder, service.url, "-s", CAT, PROMPT, "--preset", "slow")
    assert_one_sentence(result, "This model has no preset 'slow'; it has incomplete, paper, quick.")


def test_strength_without_a_start(service: HttpService, folder: Path) -> None:
    result = run(folder, service.url, "-s", CAT, PROMPT, "--strength", "0.5")
    assert_one_sentence(result, "give it with --start")


def test_no_server(folder: Path) -> None:
    result = run(folder, "http://127.0.0.1:9", "-s", CAT, PROMPT)
    sentence = (
        "No service answers at http://127.0.0.1:9; start one with: msd up, or say where it is with --url or MSD_URL."
    )
    assert_one_sentence(result, sentence)


def test_missing_picture(service: HttpService, folder: Path) -> None:
    result = run(folder, service.url, "-s", "dog=dog.png@0,0,1,1", PROMPT)
    assert_one_sentence(result, "Cannot read the picture dog.png: No such file or directory.")


def test_subject_of_a_wrong_form(service: HttpService, folder: Path) -> None:
    assert_one_sentence(run(folder, service.url, "-s", "cat.png", PROMPT), "Cannot read the subject 'cat.png'")


def test_folder_of_the_result_is_missing(service: HttpService, folder: Path) -> None:
    result = run(folder, service.url, "-s", CAT, PROMPT, "-o", "nowhere/o.png")
    assert_one_sentence(result, "there is no folder nowhere")


def test_value_that_the_service_refuses(service: HttpService, folder: Path) -> None:
    result = run(folder, service.url, "-s", CAT, PROMPT, "--width", "129")
    assert_one_sentence(result, "Must be a multiple of 8 pixels; the nearest is 128.")


def test_every_value_that_the_service_refuses(service: HttpService, folder: Path) -> None:
    result = run(folder, service.url, "-s", CAT, PROMPT, "--width", "129", "--steps", "0")
    assert result.returncode == 1
    assert result.stderr.splitlines()[0] == "msd: 2 errors:"
    assert {line.partition(":")[0] for line in result.stderr.splitlines()[1:]} == {"--width", "--steps"}


def test_subjects_without_a_box_are_named_in_one_sentence(service: HttpService, folder: Path) -> None:
    result = run(folder, service.url, "-s", "cat=cat.png", "-s", "teapot=teapot.png", PROMPT, "-o", "o.png")
    assert_one_sentence(result, "--subject 1 (box), --subject 2 (box): This subject has no box")


def test_job_that_fails(service: HttpService, folder: Path) -> None:
    """With auto layout a phrase beyond the model's last token ends the job."""
    service.wait_until_ready()
    prompt = "very " * 200 + "cat"
    result = run(
        folder, service.url, "-s", "cat=cat.png", "--auto-layout", prompt, "-o", "o.png", *SMALL, "--steps", "6"
    )
    assert_one_sentence(result, "cat")
    assert not (folder / "o.png").exists()


def test_ctrl_c_cancels_the_job(service: HttpService, folder: Path) -> None:
    service.wait_until_ready()
    long = ["--width", "512", "--height", "512", "--steps", "150"]
    process = subprocess.Popen(
        command(service.url, "-s", CAT, PROMPT, "-o", "o.png", *long),
        cwd=folder,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        record = wait_until(lambda: service.running_job(), "the job to run")
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert stderr.strip().endswith("Canceled.")
    assert "Traceback" not in stderr
    assert wait_until(lambda: service.job_state(record.id).ended, "the end of the job")
    assert service.job_state(record.id) == "canceled"
    service.make(good_request(**QUICK))


def test_progress_is_followed_live(service: HttpService) -> None:
    """Looking again and again would miss steps that are quicker than the looks."""
    service.wait_until_ready()
    seen: list[Job] = []
    with service_client(service.url) as client:
        job = client.submit(**good_request(width=64, height=64, num_inference_steps=100))
        end = client.wait(job.id, seen.append)
    assert end.status == "succeeded"
    steps = list(dict.fromkeys(job.step for job in seen if job.phase == "denoise"))
    assert steps == list(range(steps[0] or 0, 101))
    versions = [job.version for job in seen]
    assert versions == sorted(versions)


def test_a_restart_of_redis_is_waited_for(service: HttpService, folder: Path) -> None:
    service.wait_until_ready()
    arguments = ["-s", CAT, PROMPT, "-o", "o.png", "--width", "256", "--height", "256", "--steps", "100"]
    process = subprocess.Popen(
        command(service.url, *arguments), cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True
    )
    try:
        wait_until(lambda: service.running_job(), "the job to run")
        service.kill_redis()
        time.sleep(2)
        service.start_redis()
        _, stderr = process.communicate(timeout=100)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, stderr
    assert (folder / "o.png").is_file()
