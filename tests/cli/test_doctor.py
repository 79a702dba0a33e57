"""``msd doctor``: what it tells of this machine, of broken ones, and of broken models; and how it ends."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from cli.checks import torch_build, trial
from cli.checks.child import Outcome, run_child
from cli.checks.disk import check_disk
from cli.checks.downloads import check_downloads
from cli.checks.gpus import Gpu, GpuList, check_gpus, list_gpus
from cli.checks.model_directories import find_directories
from cli.checks.python import check_python
from cli.checks.redis import check_redis
from cli.checks.section import Section
from cli.checks.torch_build import check_torch, probe_torch
from cli.checks.trial import judge_trial
from cli.checks.trial_child import try_model
from cli.doctor import _print_finding, doctor
from ms_core.model_dir.inspection import Finding, Level
from ms_core.model_dir.inventory import write_inventory
from tests.support.paths import ROOT
from tests.support.service_processes import free_port, run_msd
from worker.redis_server import find_redis_binary

MINI = ROOT / "models" / "mini"
UNET_WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
ROOMY = Gpu("GPU-aaaa", "NVIDIA Test 24", 24 * 2**30, 23 * 2**30, ())


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    for name in [name for name in os.environ if name.startswith("MSD_")]:
        monkeypatch.delenv(name)
    app = typer.Typer()
    app.command()(doctor)
    return app


@pytest.fixture(scope="session")
def torch_here() -> Outcome:
    """What the probe's process tells of this machine's torch."""
    return probe_torch()


@pytest.fixture
def ask(
    app: typer.Typer, torch_here: Outcome, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., dict[str, Any]]:
    """Run ``msd doctor --json --no-generate`` and return what it told; torch was probed once for all tests."""
    monkeypatch.setattr(torch_build, "probe_torch", lambda: torch_here)

    def run(*arguments: object) -> dict[str, Any]:
        options = ["--json", "--no-generate", "--data", str(tmp_path / "data"), *map(str, arguments)]
        result = CliRunner().invoke(app, options)
        told = json.loads(result.stdout)
        assert result.exit_code == (1 if told["errors"] else 0)
        return told

    return run


@pytest.fixture
def model(golden_model_directory: Path, tmp_path: Path) -> Path:
    """A copy of the golden model, to be broken."""
    directory = tmp_path / "golden"
    shutil.copytree(golden_model_directory, directory)
    return directory


def errors_of(told: dict[str, Any]) -> list[dict[str, str]]:
    return [finding for section in told["sections"] for finding in section["findings"] if finding["level"] == "error"]


def section_of(told: dict[str, Any], title: str) -> dict[str, Any]:
    [section] = [section for section in told["sections"] if section["title"].startswith(title)]
    return section


def only(section: Section) -> Finding:
    [finding] = section.findings
    return finding


def the_error(section: Section) -> Finding:
    """The only error of a section; it has a remedy."""
    [error] = [finding for finding in section.findings if finding.level is Level.ERROR]
    assert error.remedy
    return error


# The whole command.


def test_json_tells_all_parts(ask: Callable[..., dict[str, Any]]) -> None:
    told = ask("--model", "mini")
    assert told["errors"] == 0
    titles = [section["title"].split()[0] for section in told["sections"]]
    assert titles == ["Python", "Devices", "torch", "Redis", "Disk", "Downloads", "Model"]
    assert section_of(told, "torch")["facts"]["version"].startswith("2.")
    assert section_of(told, "Model mini")["facts"]["parts"]["unet"]["cross_attention_dim"] == 320


def test_without_a_choice_all_models_are_looked_at(
    ask: Callable[..., dict[str, Any]], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (model.parent / ".golden.0123.partial" / "unet").mkdir(parents=True)
    (model.parent / "notes").mkdir()
    monkeypatch.setenv("MSD_MODELS_DIR", str(model.parent))
    titles = [section["title"] for section in ask()["sections"]]
    assert f"Model golden in {model}" in titles
    assert f"Model mini in {MINI}" in titles
    assert not any(name in title for title in titles for name in ("partial", "notes"))


def _remove(model: Path) -> None:
    (model / "vae" / "config.json").unlink()


def _rename(model: Path) -> None:
    (model / UNET_WEIGHTS).rename(model / "unet" / "weights.safetensors")


def _cut(model: Path) -> None:
    with (model / UNET_WEIGHTS).open("r+b") as file:
        file.truncate(1000)


def _break_off(model: Path) -> None:
    (model / UNET_WEIGHTS).rename(model / "unet" / "diffusion_pytorch_model.safetensors.incomplete")


def _edit(model: Path, path: str, **values: Any) -> None:
    file = model / path
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def _take_other_encoder(model: Path) -> None:
    _edit(model, "image_encoder/config.json", hidden_size=1280)


def _take_other_base(model: Path) -> None:
    _edit(model, "unet/config.json", cross_attention_dim=768)


def _take_flux(model: Path) -> None:
    (model / "unet").rename(model / "transformer")
    (model / "model_index.json").write_text('{"_class_name": "FluxPipeline", "transformer": ["diffusers", "F"]}')


@pytest.mark.parametrize(
    ("damage", "code", "remedy"),
    [
        (_remove, "missing_file", "msd download"),
        (_rename, "renamed_file", "Rename weights.safetensors to diffusion_pytorch_model.safetensors."),
        (_cut, "truncated_file", "msd download"),
        (_break_off, "half_download", "msd download"),
        (_take_other_encoder, "wrong_image_encoder", "image_encoder/"),
        (_take_other_base, "wrong_base", "msd download sdxl"),
        (_take_flux, "wrong_base", "msd download sdxl"),
    ],
)
def test_each_damage_is_one_error(
    ask: Callable[..., dict[str, Any]], model: Path, damage: Callable[[Path], None], code: str, remedy: str
) -> None:
    damage(model)
    [error] = errors_of(ask("--model", model))
    assert error["code"] == code
    assert remedy in error["remedy"]


def test_a_changed_file_is_seen_with_hashes(ask: Callable[..., dict[str, Any]], model: Path) -> None:
    write_inventory(model)
    with (model / UNET_WEIGHTS).open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\xff")
    assert ask("--model", model)["errors"] == 0
    assert [error["code"] for error in errors_of(ask("--model", model, "--hashes"))] == ["changed_file"]


def test_a_model_that_is_not_there(ask: Callable[..., dict[str, Any]]) -> None:
    [error] = errors_of(ask("--model", "sdxl-that-nobody-has"))
    assert error["sentence"].startswith("There is no model 'sdxl-that-nobody-has'")
    assert "msd download" in error["remedy"]


def test_a_checkpoint_file_is_to_be_converted(ask: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "dream.safetensors").write_bytes(b"x")
    [error] = errors_of(ask("--model", tmp_path / "dream.safetensors"))
    assert error["code"] == "single_file"
    assert "msd convert" in error["remedy"]


def test_redis_that_is_down(
    ask: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MSD_REDIS_URL", f"unix://{tmp_path}/nothing.sock")
    [error] = errors_of(ask("--model", "mini"))
    assert error["code"] == "redis_down"


def test_no_picture_is_tried_with_a_broken_model(
    app: typer.Typer, torch_here: Outcome, monkeypatch: pytest.MonkeyPatch, model: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch_build, "probe_torch", lambda: torch_here)
    _cut(model)
    result = CliRunner().invoke(app, ["--model", str(model), "--data", str(tmp_path)])
    assert result.exit_code == 1
    assert "  warning  No picture was tried: no model is without errors.\n" in result.stdout
    assert result.stdout.endswith("\n1 error, 1 warning.\n")


def test_a_setting_that_makes_no_sense_is_one_sentence(tmp_path: Path) -> None:
    result = run_msd("doctor", "--no-generate", "--data", tmp_path, MSD_JOB_TIMEOUT_S="soon")
    assert result.returncode == 1
    assert result.stderr.startswith("msd: MSD_JOB_TIMEOUT_S")


def test_sentences_are_shown_as_they_are_on_a_terminal() -> None:
    page = io.StringIO()
    finding = Finding.error("x", "The box [0, 1] is [bold]wrong[/bold].", "Mend it.")
    _print_finding(Console(file=page, force_terminal=True, width=60, color_system=None), finding)
    assert [line.strip() for line in page.getvalue().splitlines()] == [
        "error    The box [0, 1] is [bold]wrong[/bold].",
        "To do: Mend it.",
    ]


# Python and torch.


def test_a_python_too_old() -> None:
    error = the_error(check_python((3, 9)))
    assert "Python 3.9 is not supported" in error.sentence
    assert "make install" in error.remedy


def without_torch(folder: Path) -> dict[str, str]:
    """An environment whose Python finds no torch, as one that was installed without it."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import sys\n"
        "class Blocker:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] == 'torch':\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Blocker())\n"
    )
    return {"PYTHONPATH": f"{folder}:{ROOT}"}


def test_a_machine_without_torch(tmp_path: Path) -> None:
    environment = without_torch(tmp_path / "site")
    result = run_msd("doctor", "--json", "--model", "mini", "--data", tmp_path / "data", **environment)
    assert result.returncode == 1, result.stderr
    told = json.loads(result.stdout)
    [error] = errors_of(told)
    assert error["code"] == "torch_missing"
    assert "make install" in error["remedy"]
    assert section_of(told, "One tiny picture")["findings"][0]["code"] == "not_tried"


def fake_torch(folder: Path, body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a package torch with this body before the real one, for child processes."""
    (folder / "torch").mkdir()
    (folder / "torch" / "__init__.py").write_text(body)
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{ROOT}")


def test_a_torch_whose_libraries_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_torch(tmp_path, "raise ImportError('libcudart.so.12: cannot open shared object file')", monkeypatch)
    error = the_error(check_torch(probe_torch(), GpuList(), "auto"))
    assert error.code == "torch_broken"
    assert "libcudart.so.12" in error.sentence


def test_a_torch_that_crashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_torch(tmp_path, "import os\nos.kill(os.getpid(), 11)", monkeypatch)
    error = the_error(check_torch(probe_torch(), GpuList(), "auto"))
    assert error.code == "torch_crashed"
    assert "SIGSEGV" in error.sentence


def told_of(**values: Any) -> Outcome:
    """What the probe would tell of a CUDA build on a machine with one device, but for ``values``."""
    device = {"index": 0, "name": "NVIDIA Test 24", "capability": "8.9", "problem": None}
    told = {
        "version": "2.13.0+cu130",
        "cuda": "13.0",
        "threads": 8,
        "available": True,
        "devices": [device],
        "warnings": [],
    }
    return Outcome({**told, **values})


FOUND = GpuList((ROOMY,), "580.65", (13, 0))
UNAVAILABLE: dict[str, Any] = {"available": False, "devices": []}


def test_a_cuda_build_with_its_device() -> None:
    finding = only(check_torch(told_of(), FOUND, "auto"))
    assert finding.sentence == "torch 2.13.0+cu130 (CUDA 13.0) can use 1 CUDA device with driver 580.65."


def test_a_build_for_the_cpu_beside_a_gpu() -> None:
    outcome = told_of(version="2.13.0+cpu", cuda=None, **UNAVAILABLE)
    error = the_error(check_torch(outcome, FOUND, "auto"))
    assert error.code == "torch_for_cpu"
    assert "cannot use the NVIDIA Test 24" in error.sentence
    assert "torch==2.13.0)" in error.remedy


def test_a_build_for_the_cpu_is_right_where_the_cpu_is_wanted() -> None:
    outcome = told_of(version="2.13.0+cpu", cuda=None, **UNAVAILABLE)
    assert only(check_torch(outcome, FOUND, "cpu")).level is Level.OK


def test_a_driver_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    found = replace(FOUND, driver="470.57", driver_cuda=(11, 4))
    error = the_error(check_torch(told_of(**UNAVAILABLE), found, "auto"))
    assert error.code == "driver_too_old"
    assert "driver 470.57 is too old" in error.sentence
    assert "for CUDA 13" in error.remedy


@pytest.mark.parametrize(("visible", "hidden"), [("", True), ("1", True), ("GPU-zz", True), ("0", False)])
def test_devices_that_the_environment_hides(monkeypatch: pytest.MonkeyPatch, visible: str, hidden: bool) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    error = the_error(check_torch(told_of(**UNAVAILABLE), FOUND, "auto"))
    assert error.code == ("devices_hidden" if hidden else "cuda_unusable")


def test_torchs_own_words_are_told_where_nothing_else_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    outcome = told_of(**UNAVAILABLE, warnings=["CUDA initialization: unknown error\nmore"])
    error = the_error(check_torch(outcome, FOUND, "auto"))
    assert error.sentence.endswith("It says: CUDA initialization: unknown error")


@pytest.mark.parametrize(
    ("problem", "told"),
    [
        ("CUDA error: no kernel image is available for execution", "has no code for the NVIDIA Test 24 (compute capab"),
        ("CUDA error: all CUDA-capable devices are busy", "cannot compute on the NVIDIA Test 24: CUDA error: all"),
    ],
)
def test_a_device_on_which_the_sum_fails(problem: str, told: str) -> None:
    device = {"index": 0, "name": "NVIDIA Test 24", "capability": "5.0", "problem": problem}
    error = the_error(check_torch(told_of(devices=[device]), FOUND, "auto"))
    assert error.code == "device_unusable"
    assert told in error.sentence


def test_devices_that_only_torch_sees() -> None:
    assert the_error(check_torch(told_of(), GpuList(), "auto")).code == "nvml_missing"


def test_a_device_that_is_wanted_and_not_there() -> None:
    assert the_error(check_torch(told_of(**UNAVAILABLE), GpuList(), "cuda")).code == "no_cuda_device"


# Devices, by a stand-in for NVML's library.


class NVMLError(Exception):
    def __init__(self, text: str, value: int = 999) -> None:
        super().__init__(text)
        self.value = value


class FakeNVML(SimpleNamespace):
    """A machine with one GPU; the handle is its UUID."""

    NVMLError = NVMLError
    NVML_ERROR_LIBRARY_NOT_FOUND = 12
    NVML_DEVICE_MIG_ENABLE = 1
    processes: tuple[Any, ...] = ()

    def nvmlInit(self) -> None: ...

    def nvmlShutdown(self) -> None: ...

    def nvmlSystemGetCudaDriverVersion(self) -> int:
        return 12080

    def nvmlSystemGetDriverVersion(self) -> str:
        return "570.86"

    def nvmlDeviceGetCount(self) -> int:
        return 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return "GPU-aaaa"

    def nvmlDeviceGetMigMode(self, handle: str) -> list[int]:
        raise NVMLError("not supported")

    def nvmlDeviceGetUUID(self, handle: str) -> str:
        return handle

    def nvmlDeviceGetName(self, handle: str) -> bytes:
        return b"NVIDIA Test 24"

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> SimpleNamespace:
        return SimpleNamespace(total=24 * 2**30, free=4 * 2**30)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> tuple[Any, ...]:
        return self.processes


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNVML:
    fake = FakeNVML()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake


@pytest.mark.usefixtures("nvml")
def test_a_device_is_told_by_name_uuid_and_memory() -> None:
    found = list_gpus()
    assert (found.driver, found.driver_cuda) == ("570.86", (12, 8))
    assert only(check_gpus(found)).sentence == "NVIDIA Test 24 (GPU-aaaa): 4.0 GiB of 24.0 GiB free."


def test_who_takes_a_devices_memory_is_told(nvml: FakeNVML) -> None:
    command = [sys.executable, "-c", "print('here', flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"here\n"
        nvml.processes = (SimpleNamespace(pid=other.pid, usedGpuMemory=20 * 2**30),)
        told = check_gpus(list_gpus())
        other.communicate(b"\n")
    [warning] = [finding for finding in told.findings if finding.level is Level.WARNING]
    assert f"process {other.pid} (python" in warning.sentence
    assert "holds 20.0 GiB" in warning.sentence
    assert f"kill {other.pid}" in warning.remedy
    assert told.facts["gpus"][0]["processes"][0]["pid"] == other.pid


def test_a_worker_of_this_service_is_no_stranger(nvml: FakeNVML, tmp_path: Path) -> None:
    (tmp_path / "worker").mkdir()
    (tmp_path / "worker" / "__init__.py").touch()
    (tmp_path / "worker" / "main.py").write_text("print('here', flush=True)\ninput()")
    command = [sys.executable, "-m", "worker.main"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path, env={}) as own:
        assert own.stdout is not None
        assert own.stdout.readline() == b"here\n"
        nvml.processes = (SimpleNamespace(pid=own.pid, usedGpuMemory=20 * 2**30),)
        told = check_gpus(list_gpus())
        own.communicate(b"\n")
    assert {finding.level for finding in told.findings} == {Level.OK}
    assert "a worker of this service" in told.findings[1].sentence


def test_a_process_beyond_this_container_and_little_memory(nvml: FakeNVML) -> None:
    nvml.processes = (SimpleNamespace(pid=2**30, usedGpuMemory=None), SimpleNamespace(pid=2**30, usedGpuMemory=1000))
    stranger, little = check_gpus(list_gpus()).findings[1:]
    assert "outside this container) holds an unknown share" in stranger.sentence
    assert (stranger.level, little.level) == (Level.WARNING, Level.OK)


def test_a_driver_that_does_not_tell_who_is_there(nvml: FakeNVML, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Any, handle: str) -> None:
        raise NVMLError("Function Not Found")

    monkeypatch.setattr(FakeNVML, "nvmlDeviceGetComputeRunningProcesses", fail)
    assert list_gpus().gpus[0].processes is None


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NVMLError("NVML Shared Library Not Found", 12), "ok"),
        (NVMLError("RM has detected an NVML/RM version mismatch."), "driver_mismatch"),
        (NVMLError("Driver Not Loaded"), "driver_problem"),
    ],
)
@pytest.mark.usefixtures("nvml")
def test_a_driver_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, error: NVMLError, code: str) -> None:
    def fail(self: Any) -> None:
        raise error

    monkeypatch.setattr(FakeNVML, "nvmlInit", fail)
    assert only(check_gpus(list_gpus())).code == code


def test_a_machine_without_the_nvml_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert only(check_gpus(list_gpus())).code == "nvml_missing"


# Redis.


@contextmanager
def redis_with(folder: Path, *options: str) -> Iterator[str]:
    """A real Redis with options of its own."""
    port = free_port()
    argv = [find_redis_binary(), "--port", port, "--bind", "127.0.0.1", "--dir", folder, "--save", "", *options]
    with subprocess.Popen(list(map(str, argv)), stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        for line in server.stdout:
            if "Ready to accept connections" in line:
                break
        try:
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.send_signal(signal.SIGTERM)
            server.communicate(timeout=10)


def test_a_redis_as_it_should_be(redis_url: str) -> None:
    section = check_redis(redis_url)
    assert only(section).level is Level.OK
    assert section.facts["append_only"] is True
    assert section.facts["policy"] == "noeviction"


def test_a_redis_that_forgets_and_throws_away(tmp_path: Path) -> None:
    with redis_with(tmp_path, "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru") as url:
        section = check_redis(url)
    assert [finding.code for finding in section.findings] == ["ok", "redis_evicts", "redis_forgets"]
    assert all("redis-cli config set" in finding.remedy for finding in section.findings[1:])


def test_a_redis_with_a_wrong_password_shows_none(tmp_path: Path) -> None:
    with redis_with(tmp_path, "--requirepass", "right") as url:
        section = check_redis(url.replace("redis://", "redis://:wrong@"))
    error = the_error(section)
    assert error.code == "redis_down"
    assert "(MSD_REDIS_URL) refuses: " in error.sentence
    assert "Start it" not in error.remedy
    assert "wrong" not in f"{section.findings}{section.facts}".lower().replace("wrongpass", "")


@pytest.mark.parametrize("url", ["http://127.0.0.1", "localhost:6379"])
def test_an_address_of_no_redis(url: str) -> None:
    assert the_error(check_redis(url)).code == "redis_url"


@pytest.mark.parametrize("url", [None, ""])
def test_the_program_that_up_would_start(url: str | None) -> None:
    section = check_redis(url)
    assert section.facts == {"binary": str(find_redis_binary())}


def test_a_machine_without_a_redis_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    error = the_error(check_redis(None))
    assert error.sentence.startswith("No Redis 6.2 or newer")
    assert error.remedy.startswith("Install redis-server")


# Disk, downloads, models.


def test_a_data_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert the_error(check_disk(tmp_path / "file" / "data", tmp_path)).code == "data_not_writable"


@pytest.mark.parametrize(("free", "code"), [(10**8, "disk_full"), (10**9, "disk_nearly_full"), (10**10, "ok")])
def test_room_for_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, code: str) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    data, _ = check_disk(tmp_path / "not" / "yet", tmp_path).findings
    assert data.code == code
    assert not (tmp_path / "not").exists()


def test_a_download_that_broke_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert only(check_downloads()).level is Level.OK
    for name in ("models--stabilityai--stable-diffusion-xl-base-1.0", "models--somebody--else"):
        (tmp_path / name / "blobs").mkdir(parents=True)
        (tmp_path / name / "blobs" / "0123.incomplete").write_bytes(b"x" * 5000)
    warning = only(check_downloads())
    assert "stabilityai/stable-diffusion-xl-base-1.0 is not complete: it has 5.0 kB" in warning.sentence
    assert "msd download sdxl" in warning.remedy


def test_models_of_ones_own_come_before_bundled_ones(tmp_path: Path) -> None:
    (tmp_path / "mini").mkdir()
    assert [item.directory for item in find_directories(["mini"], tmp_path)] == [tmp_path / "mini"]
    assert [item.directory for item in find_directories(["mini"], None)] == [MINI]


# The tiny picture.


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSD_DEVICE", "cpu")


@pytest.mark.usefixtures("on_cpu")
def test_a_picture_of_a_healthy_model(golden_model_directory: Path) -> None:
    told = try_model(golden_model_directory)
    assert (told["height"], told["width"], told["steps"], told["is_flat"]) == (64, 64, 2, False)
    assert told["peak_bytes"] > 10**8
    finding = only(judge_trial(Outcome(told), "golden", "cpu"))
    assert finding.level is Level.OK
    assert finding.sentence.endswith("in memory mode cpu.")


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")
def test_a_model_that_gives_no_numbers_makes_a_flat_picture(model: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(model / UNET_WEIGHTS)
    weights["conv_out.bias"].fill_(float("nan"))
    save_file(weights, model / UNET_WEIGHTS, {"format": "pt"})
    error = the_error(judge_trial(Outcome(try_model(model)), "golden", "cpu"))
    assert error.code == "flat_picture"


@pytest.mark.usefixtures("on_cpu")
def test_a_model_that_cannot_be_loaded(model: Path) -> None:
    (model / "image_encoder" / "preprocessor_config.json").unlink()
    error = the_error(judge_trial(Outcome(try_model(model)), "golden", "cpu"))
    assert error.code == "model_not_found"
    assert error.sentence.startswith("golden makes no picture on cpu: The image encoder lacks its preprocessor_config")
    assert "msd download" in error.remedy


def test_a_device_with_running_workers_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from worker.devices import Device, lock_devices
    from worker.models import FoundModel

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    device = Device("GPU-aaaa")
    [lock] = lock_devices([device])
    try:
        warning = only(trial.try_picture(FoundModel("mini", MINI), device))
    finally:
        lock.release()
    assert warning.code == "device_taken"
    assert f"taken by the workers of process {os.getpid()}" in warning.sentence


def test_too_little_memory() -> None:
    outcome = Outcome({"error": {"code": "device_out_of_memory", "detail": "Ask for a smaller picture."}})
    error = the_error(judge_trial(outcome, "sdxl", "cuda-gpu-aaaa"))
    assert error.sentence == "sdxl does not fit into the free memory of cuda-gpu-aaaa."


def child(tmp_path: Path, body: str, timeout_s: float = 60) -> Outcome:
    (tmp_path / "patient.py").write_text(body)
    return run_child("patient", [], {"PYTHONPATH": str(tmp_path)}, timeout_s)


@pytest.mark.parametrize(
    ("number", "code", "remedy"), [(9, "trial_killed", "ran out of memory"), (11, "trial_crashed", "driver crashed")]
)
def test_a_process_that_is_ended(tmp_path: Path, number: int, code: str, remedy: str) -> None:
    outcome = child(tmp_path, f"import os\nos.kill(os.getpid(), {number})")
    error = the_error(judge_trial(outcome, "mini", "cpu"))
    assert error.code == code
    assert remedy in error.remedy


def test_a_process_that_fails_in_a_way_of_its_own(tmp_path: Path) -> None:
    section = judge_trial(child(tmp_path, "raise KeyError('surprise')"), "mini", "cpu")
    assert "ended with code 1 (KeyError: 'surprise')" in the_error(section).sentence
    assert section.facts["output"][-1] == "KeyError: 'surprise'"


def test_a_process_that_hangs(tmp_path: Path) -> None:
    section = judge_trial(child(tmp_path, "import time\ntime.sleep(60)", 1), "mini", "cpu")
    assert "did not end within 1 s" in the_error(section).sentence


def test_a_process_that_says_something_before_its_json(tmp_path: Path) -> None:
    assert child(tmp_path, "print('noise')\nprint('{\"a\": 1}')").told == {"a": 1}
    assert child(tmp_path, "print('no json')").told is None


def test_each_device_has_its_own_process(
    app: typer.Typer,
    torch_here: Outcome,
    monkeypatch: pytest.MonkeyPatch,
    golden_model_directory: Path,
    tmp_path: Path,
) -> None:
    seen: list[dict[str, str]] = []
    made = {"load_s": 1, "picture_s": 2, "memory_mode": "24gb", "peak_bytes": 2**33, "is_flat": False}
    made |= {"height": 64, "width": 64, "steps": 2}

    def run(module: str, arguments: list[str], env: dict[str, str], timeout_s: float) -> Outcome:
        seen.append(env)
        return Outcome(None, "was ended by SIGSEGV", 11) if len(seen) == 1 else Outcome(made)

    from worker.devices import Device

    monkeypatch.setattr(torch_build, "probe_torch", lambda: torch_here)
    monkeypatch.setattr("worker.devices.find_devices", lambda wanted: [Device("GPU-aaaa"), Device("GPU-bbbb")])
    monkeypatch.setattr(trial, "run_child", run)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = CliRunner().invoke(app, ["--model", str(golden_model_directory), "--data", str(tmp_path)])
    assert [env["CUDA_VISIBLE_DEVICES"] for env in seen] == ["GPU-aaaa", "GPU-bbbb"]
    assert "ended by SIGSEGV" in result.stdout
    assert "golden on cuda-gpu-bbbb\n  ok       A picture of 64 x 64" in result.stdout
    assert "peak memory 8.0 GiB in memory mode 24gb" in result.stdout
    assert result.exit_code == 1
