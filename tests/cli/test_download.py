"""``msd download`` and ``msd convert`` against a hub on this machine, with the tiny golden model under the real
names."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from ms_core.config import ModelCard
from ms_core.errors import MSDiffusionError
from ms_core.model_dir.inspection.headers import format_size
from ms_core.model_dir.inventory import Inventory, check_inventory
from tests.support.hub_server import ADAPTER, BASE, HubServer, golden_hub, use_hub
from tests.support.hub_server import Hub as Repositories
from tests.support.paths import GOLDEN
from tests.support.service_processes import environment, msd
from tests.support.single_file_checkpoint import write_single_file

UNET = "unet/diffusion_pytorch_model.fp16.safetensors"
HEADS = ("--resampler-heads", "4")
PATIENCE_S = 60


@pytest.fixture
def repositories() -> Repositories:
    return golden_hub()


@pytest.fixture
def server(repositories: Repositories, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer(repositories) as server:
        use_hub(server.endpoint, tmp_path / "home", monkeypatch)
        monkeypatch.chdir(tmp_path)
        yield server


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


def download(*arguments: object) -> Result:
    return run("download", "sdxl", *HEADS, *arguments)


def sentence(result: Result) -> str:
    """What a command that failed told its user."""
    assert isinstance(result.exception, MSDiffusionError), (result.output, result.exception)
    return result.exception.detail


def settings(server: HubServer, home: Path) -> dict[str, str]:
    return environment(
        HF_ENDPOINT=server.endpoint, HF_HOME=str(home), NO_PROXY="127.0.0.1,localhost", HF_HUB_DISABLE_TELEMETRY="1"
    )


def transfers(repositories: Repositories) -> list[str]:
    return [request.path for request in repositories.log if request.path.startswith("/cdn/")]


def make_picture(directory: Path) -> tuple[int, int]:
    from PIL import Image

    from ms_core.sampling.pipeline import MSDiffusionPipeline
    from ms_core.spec import Box, GenerationSpec, Subject

    pipeline = MSDiffusionPipeline.from_pretrained(directory, device="cpu")
    with Image.open(GOLDEN / "references" / "0.png") as reference:
        subject = Subject(phrase="cat", image=reference.copy(), box=Box(0.0, 0.0, 0.5, 1.0))
    spec = GenerationSpec(prompt="a cat", subjects=(subject,), height=64, width=64, num_inference_steps=1, seed=0)
    return pipeline.run(spec)[0].image.size


@pytest.mark.slow
def test_killed_in_mid_file_it_goes_on_and_the_model_makes_a_picture(
    repositories: Repositories, server: HubServer, tmp_path: Path
) -> None:
    command = msd("download", "sdxl", "--out", tmp_path / "sdxl", *HEADS)
    home = tmp_path / "started-anew"
    repositories.bytes_per_second = 1_000_000
    with subprocess.Popen(command, env=settings(server, home), stdout=subprocess.DEVNULL) as process:
        [partial] = wait_for_files(home / "hub", "models--stabilityai*/blobs/*.incomplete", 500_000)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    left = partial.stat().st_size
    assert not (tmp_path / "sdxl").exists()

    repositories.bytes_per_second = None
    finished = subprocess.run(command, env=settings(server, home), capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    first, second = repositories.transfers(UNET)
    assert (first.range, first.status) == (None, 200)
    assert (second.range, second.status) == (f"bytes={left}-", 206)
    assert second.sent == len(published(repositories, BASE, UNET)) - left
    assert format_size(left) in finished.stdout
    assert check_inventory(tmp_path / "sdxl", hashes=True) == []
    assert make_picture(tmp_path / "sdxl") == (64, 64)


@pytest.mark.slow
def test_stopped_by_hand_it_says_that_it_goes_on(repositories: Repositories, server: HubServer, tmp_path: Path) -> None:
    command, home = msd("download", "sdxl", "--out", tmp_path / "sdxl", *HEADS), tmp_path / "stopped"
    repositories.bytes_per_second = 1_000_000
    with subprocess.Popen(command, env=settings(server, home), stdout=subprocess.PIPE, text=True) as process:
        assert wait_for_files(home / "hub", "models--stabilityai*/blobs/*.incomplete", 1)
        process.send_signal(signal.SIGINT)
        told, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert told.endswith("Stopped. Run the same command again to continue.\n")


def wait_for_files(folder: Path, pattern: str, size: int) -> list[Path]:
    """Files that have grown to a size; the last line names none if none have."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        found = [path for path in folder.glob(pattern) if path.stat().st_size >= size]
        if found:
            return found
        time.sleep(0.02)
    return []


def published(repositories: Repositories, repository: str, path: str) -> bytes:
    return repositories.commits[repository][repositories.names[repository]["main"]][path]


@pytest.mark.slow
def test_a_disk_that_fills_up_is_a_sentence_and_what_came_is_kept(server: HubServer, tmp_path: Path) -> None:
    def forbid_big_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, 10**6))

    home = tmp_path / "small-disk"
    finished = subprocess.run(
        msd("download", "sdxl", "--out", tmp_path / "sdxl", *HEADS),
        env=settings(server, home),
        preexec_fn=forbid_big_files,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 1
    assert f"msd: The cache {home / 'hub'} cannot be written (File too large)" in finished.stderr
    assert "Traceback" not in finished.stderr
    [kept] = (home / "hub").glob("models--stabilityai*/blobs/*.incomplete")
    assert 0 < kept.stat().st_size <= 10**6


def test_the_plan_is_told_and_nothing_fetched(repositories: Repositories, server: HubServer, tmp_path: Path) -> None:
    result = download("--dry-run", "--with", "lcm")
    assert "latent-consistency/lcm-lora-sdxl" in sentence(result)
    repositories.publish("latent-consistency/lcm-lora-sdxl", {"pytorch_lora_weights.safetensors": bytes(10**6)})
    result = download("--dry-run", "--with", "lcm")
    assert result.exit_code == 0, result.output
    for told in (f"base: {BASE} at ", UNET, "2.3 MB", "lcm: latent-consistency/lcm-lora-sdxl at ", "1.0 MB", "free"):
        assert told in result.output
    assert transfers(repositories) == []
    assert not (tmp_path / "models").exists()


def test_a_model_is_made_where_msd_looks_for_it_and_made_again_from_the_cache(
    repositories: Repositories, server: HubServer, tmp_path: Path
) -> None:
    result = download()
    assert result.exit_code == 0, (result.output, result.exception)
    directory = tmp_path / "models" / "sdxl"
    assert ModelCard.load(directory).name == "sdxl"
    assert json.loads((directory / "sources.json").read_text())["adapter"]["repository"] == ADAPTER
    assert (directory / "LICENSE.md").read_text() == "the licence of the base\n"
    assert Inventory.load(directory).made_with.endswith("--force")
    fetched = len(transfers(repositories))

    assert "exists already" in sentence(download())
    repositories.log.clear()
    result = download("--force", "--offline")
    assert result.exit_code == 0, (result.output, result.exception)
    assert (fetched, len(repositories.log)) == (6, 0)
    assert check_inventory(directory, hashes=True) == []


def test_a_revision_is_taken_and_noted(repositories: Repositories, server: HubServer, tmp_path: Path) -> None:
    older = {**repositories.commits[BASE][repositories.names[BASE]["main"]], "LICENSE.md": b"an older licence"}
    commit = repositories.publish(BASE, older, "v0.9")
    assert download("--revision", "v0.9").exit_code == 0
    directory = tmp_path / "models" / "sdxl"
    assert (directory / "LICENSE.md").read_text() == "an older licence"
    assert json.loads((directory / "sources.json").read_text())["base"]["revision"] == commit


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--revision", "v7"], "has no revision 'v7'"),
        (["--revision", "vae=v7"], "madebyollin/sdxl-vae-fp16-fix has no revision 'v7'"),
        (["--revision", "nothing=v7"], "There is no part 'nothing'"),
        (["--revision", "base="], "'base=' is not a revision"),
        (["--revision", "=v7"], "'=v7' is not a revision"),
        (["--offline"], "in the cache; run the same command with the network once"),
    ],
)
def test_what_cannot_be_had_is_told(server: HubServer, arguments: list[str], told: str) -> None:
    assert told in sentence(download(*arguments))


def test_a_repository_that_is_not_there_is_told(repositories: Repositories, server: HubServer) -> None:
    repositories.refusals[ADAPTER] = (404, "RepoNotFound")
    assert f"The hub shows no repository {ADAPTER} (status 404)" in sentence(download())


def test_without_network_it_is_one_sentence(tmp_path: Path) -> None:
    with HubServer(golden_hub()) as server:
        nobody = settings(server, tmp_path)
    finished = subprocess.run(
        msd("download", "sdxl", "--out", tmp_path / "sdxl"), env=nobody, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 1
    assert finished.stderr.startswith(f"msd: {server.endpoint} cannot be reached")
    assert finished.stderr.count("\n") == 1


def test_too_little_disk_is_told_before_the_first_byte(
    repositories: Repositories, server: HubServer, tmp_path: Path
) -> None:
    fake = (
        "import shutil, sys; from collections import namedtuple;"
        "shutil.disk_usage = lambda path: namedtuple('usage', 'total used free')(10**9, 10**9, 10**6);"
        "from cli.main import run; run()"
    )
    finished = subprocess.run(
        [sys.executable, "-c", fake, "download", "sdxl", "--out", str(tmp_path / "sdxl")],
        env=settings(server, tmp_path / "home"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 1
    assert "msd: There is too little space for this download" in finished.stderr
    assert "1.0 MB free" in finished.stderr
    assert [request.path for request in repositories.log if "/resolve/" in request.path] == []


def test_convert_makes_a_model_of_local_files(tmp_path: Path) -> None:
    arguments = ["--base", GOLDEN / "tiny-sdxl", "--image-encoder", GOLDEN / "image_encoder"]
    result = run("convert", *arguments, "--adapter", GOLDEN / "ms_adapter.bin", "--out", tmp_path / "mine", *HEADS)
    assert result.exit_code == 0, (result.output, result.exception)
    assert f"msd up --model {tmp_path / 'mine'}" in result.output
    assert ModelCard.load(tmp_path / "mine").name == "mine"
    origins = json.loads((tmp_path / "mine" / "sources.json").read_text())
    assert origins["adapter"] == {"file": "ms_adapter.bin"}


def test_convert_puts_another_base_into_a_model(golden_model_directory: Path, tmp_path: Path) -> None:
    write_single_file(GOLDEN / "tiny-sdxl", tmp_path / "tuned.safetensors")
    arguments = [
        "--from",
        golden_model_directory,
        "--base",
        tmp_path / "tuned.safetensors",
        "--out",
        tmp_path / "tuned",
    ]
    result = run("convert", *arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    card = ModelCard.load(tmp_path / "tuned")
    assert (card.name, card.defaults.height) == ("tuned", 256)
    assert json.loads((tmp_path / "tuned" / "sources.json").read_text())["base"] == {"file": "tuned.safetensors"}
    assert make_picture(tmp_path / "tuned") == (64, 64)


def test_convert_asks_the_hub_for_the_configs_of_a_single_file(
    repositories: Repositories, server: HubServer, tmp_path: Path
) -> None:
    write_single_file(GOLDEN / "tiny-sdxl", tmp_path / "tuned.safetensors")
    arguments = ["--base", tmp_path / "tuned.safetensors", "--image-encoder", GOLDEN / "image_encoder"]
    arguments += ["--adapter", GOLDEN / "ms_adapter.bin", "--out", tmp_path / "tuned"]
    assert "in the cache; run the same command with the network once" in sentence(
        run("convert", *arguments, *HEADS, "--offline")
    )
    result = run("convert", *arguments, *HEADS)
    assert result.exit_code == 0, (result.output, result.exception)
    assert transfers(repositories) == []


def test_convert_wants_an_encoder_and_an_adapter(tmp_path: Path) -> None:
    told = sentence(run("convert", "--base", GOLDEN / "tiny-sdxl", "--out", tmp_path / "mine"))
    assert told.startswith("Give --image-encoder and --adapter, or --from")


@pytest.mark.faults
def test_convert_killed_leaves_no_half_model_and_can_be_done_again(tmp_path: Path) -> None:
    arguments = ["--base", GOLDEN / "tiny-sdxl", "--image-encoder", GOLDEN / "image_encoder"]
    arguments += ["--adapter", GOLDEN / "ms_adapter.bin", "--out", tmp_path / "mine", *HEADS]
    stop = (
        "import os, signal, ms_core.model_dir.provision.convert as convert;"
        "convert.write_inventory = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL);"
        "from cli.main import run; run()"
    )
    killed = subprocess.run(
        [sys.executable, "-c", stop, "convert", *map(str, arguments)], env=environment(), check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".lock", ".partial"]
    assert run("convert", *arguments).exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
