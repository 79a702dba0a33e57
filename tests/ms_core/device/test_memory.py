"""Which memory mode fits, told before anything is loaded; the figures themselves are in ``test_full_size``."""

from __future__ import annotations

import logging
import re
import shutil
from pathlib import Path

import pytest
import torch

from ms_core.config import ModelCard
from ms_core.device.devices import DeviceMemory
from ms_core.device.memory import (
    Job,
    ModelSizes,
    Precision,
    choose_mode,
    estimate_memory,
    estimate_modes,
    first_that_fits,
)
from ms_core.device.modes import DEVICE_MODES, MemoryMode, is_tiled, smaller_mode
from ms_core.errors import InsufficientMemoryError, ModelNotFoundError
from ms_core.sampling.pipeline import ModelParts, MSDiffusionPipeline

CUDA, CPU = torch.device("cuda"), torch.device("cpu")
GB = 10**9


@pytest.fixture
def has_memory(monkeypatch: pytest.MonkeyPatch):
    """Have devices tell of this much memory."""

    def tell(free: int, total: int = 24 * GB, used_by_others: int = 0) -> None:
        memory = DeviceMemory(free, total, used_by_others)
        monkeypatch.setattr("ms_core.device.memory.choice.read_memory", lambda device: memory)

    return tell


def peaks(directory: Path, dtype: torch.dtype = torch.bfloat16) -> dict[MemoryMode, int]:
    card = ModelCard.load(directory)
    sizes = ModelSizes.read(directory, card)
    job = Job(card.defaults.height, card.defaults.width, num_subjects=card.max_subjects)
    return {mode: estimate_memory(sizes, mode, job, Precision.of(dtype, sizes)).peak for mode in (*DEVICE_MODES, "cpu")}


def test_the_modes_of_sdxl_fit_the_cards_they_are_named_for() -> None:
    estimates = {estimate.mode: estimate for estimate in estimate_modes()}
    assert list(estimates) == ["24gb", "12gb", "8gb", "cpu"]
    assert estimates["24gb"].peak < 24 * GB
    assert estimates["12gb"].peak < 11.5 * GB
    assert estimates["8gb"].peak < 7.5 * GB
    assert [estimate.largest_phase for estimate in estimates.values()] == ["decode", "pictures", "denoise", "decode"]


def test_weights_are_in_the_phases_that_need_them() -> None:
    sizes, precision = ModelSizes(), Precision()
    estimate = estimate_memory(sizes, "8gb", Job(), precision)
    assert estimate.resident == 0
    assert estimate_memory(sizes, "12gb", Job(), precision).resident == 2 * (
        sizes.resampler + sizes.projections + sizes.unet + sizes.vae
    )
    more = ModelSizes(image_encoder=sizes.image_encoder + 1000)
    changed = estimate_memory(more, "8gb", Job(), precision).phases
    assert {phase: changed[phase] - size for phase, size in estimate.phases.items() if changed[phase] != size} == {
        "pictures": 2000
    }


@pytest.mark.parametrize("mode", [*DEVICE_MODES, "cpu"])
def test_larger_pictures_and_batches_need_more(mode: MemoryMode) -> None:
    def denoise(job: Job) -> int:
        return estimate_memory(ModelSizes(), mode, job, Precision()).phases["denoise"]

    assert denoise(Job(512, 512)) < denoise(Job()) < denoise(Job(1024, 1536)) < denoise(Job(1024, 1536, num_images=2))


def test_a_large_picture_is_decoded_in_tiles_of_a_constant_size() -> None:
    def decode(side: int, bytes_per_value: int) -> int:
        precision = Precision(2, bytes_per_value)
        return estimate_memory(ModelSizes(), "8gb", Job(side, side), precision).phases["decode"]

    assert decode(2048, 2) == decode(1024, 2)
    assert decode(1408, 2) > decode(1024, 2)
    assert decode(1408, 4) == decode(1024, 4)


@pytest.mark.parametrize(
    ("side", "bytes_per_value", "tiled"), [(1024, 4, False), (1032, 4, True), (1448, 2, False), (1456, 2, True)]
)
def test_the_size_alone_decides_on_tiles(side: int, bytes_per_value: int, tiled: bool) -> None:
    assert is_tiled(side, side, bytes_per_value) is tiled


@pytest.mark.parametrize(("height", "width"), [(1024, 1024), (1152, 896), (832, 1216), (768, 1344), (640, 1536)])
def test_the_usual_sizes_of_sdxl_are_never_tiled(height: int, width: int) -> None:
    assert not is_tiled(height, width, 2)
    assert not is_tiled(height, width, 4)


def test_a_vae_that_needs_float32_counts_double_beside_float16() -> None:
    sizes = ModelSizes(vae_needs_float32=True)
    assert Precision.of(torch.float16, sizes) == Precision(2, 4)
    assert Precision.of(torch.bfloat16, sizes) == Precision(2, 2)
    assert Precision.of(torch.float16, ModelSizes()) == Precision(2, 2)
    assert Precision.of(torch.float32, sizes) == Precision(4, 4)


@pytest.mark.parametrize(("mode", "smaller"), [("24gb", "12gb"), ("12gb", "8gb"), ("8gb", "8gb"), ("cpu", "cpu")])
def test_the_next_smaller_mode(mode: MemoryMode, smaller: MemoryMode) -> None:
    assert smaller_mode(mode) == smaller


@pytest.mark.parametrize("mode", DEVICE_MODES)
def test_the_largest_mode_that_fits_is_taken(golden_model_directory, has_memory, mode: MemoryMode) -> None:
    has_memory(peaks(golden_model_directory)[mode])
    assert choose_mode(golden_model_directory, CUDA, torch.bfloat16) == mode


def test_a_mode_can_be_wanted(golden_model_directory, has_memory) -> None:
    has_memory(24 * GB)
    assert choose_mode(golden_model_directory, CUDA, torch.bfloat16, "8gb") == "8gb"


def test_the_choice_is_logged(golden_model_directory, has_memory, caplog: pytest.LogCaptureFixture) -> None:
    has_memory(24 * GB)
    with caplog.at_level(logging.INFO, "ms_core.device.memory"):
        choose_mode(golden_model_directory, CUDA, torch.bfloat16)
    assert re.search(r"memory mode 24gb: needs about 1\.0 GB of the 24\.0 GB that are free", caplog.text)


@pytest.mark.parametrize("wanted", ["auto", "8gb", "cpu"])
def test_the_cpu_has_one_mode(golden_model_directory, has_memory, wanted) -> None:
    has_memory(24 * GB)
    assert choose_mode(golden_model_directory, CPU, torch.float32, wanted) == "cpu"


def test_a_host_that_tells_nothing_is_trusted(golden_model_directory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ms_core.device.memory.choice.read_memory", lambda device: None)
    assert choose_mode(golden_model_directory, CPU, torch.float32) == "cpu"


def test_a_device_that_someone_else_uses_is_refused_with_a_sentence(golden_model_directory, has_memory) -> None:
    has_memory(free=GB // 2, total=24 * GB, used_by_others=23 * GB)
    with pytest.raises(InsufficientMemoryError) as caught:
        choose_mode(golden_model_directory, CUDA, torch.bfloat16)
    assert caught.value.detail == (
        "The model needs about 1.0 GB in memory mode 8gb; the device has 500.0 MB free of 24.0 GB, and 23.0 GB are "
        "used by "
        "other processes. Close some of them, or choose another device."
    )


@pytest.mark.parametrize(
    ("mode", "free", "others", "remedy"),
    [
        ("24gb", 8, 12, "Close some of them, or choose another device."),
        ("24gb", 8, 1, "Choose a smaller memory mode, such as 12gb."),
        ("8gb", 4, 1, "Choose a device with more memory, or the memory mode cpu, which is far slower."),
        ("cpu", 20, 12, "Close some of them."),
        ("cpu", 20, 1, "Use a machine with more memory."),
    ],
)
def test_the_remedy_fits_the_case(mode: MemoryMode, free: int, others: int, remedy: str) -> None:
    (estimate,) = [estimate for estimate in estimate_modes() if estimate.mode == mode]
    with pytest.raises(InsufficientMemoryError, match=re.escape(remedy) + "$"):
        first_that_fits([estimate], DeviceMemory(free * GB, (free + others) * GB, others * GB))


def test_nothing_is_loaded_that_cannot_fit(golden_model_directory, has_memory, monkeypatch: pytest.MonkeyPatch) -> None:
    has_memory(GB // 10)
    monkeypatch.setattr(ModelParts, "load", lambda *_: pytest.fail("it was loaded"))
    with pytest.raises(InsufficientMemoryError, match="this machine has 100.0 MB free"):
        MSDiffusionPipeline.from_pretrained(golden_model_directory, device="cpu")


def test_the_mode_is_shown(golden_model_directory) -> None:
    assert MSDiffusionPipeline.from_pretrained(golden_model_directory, device="cpu").memory_mode == "cpu"


def test_the_mode_cpu_takes_the_cpu_whatever_the_device(golden_model_directory) -> None:
    pipeline = MSDiffusionPipeline.from_pretrained(golden_model_directory, device="cuda", memory="cpu")
    assert (pipeline.device, pipeline.unet.device, pipeline.unet.dtype) == (CPU, CPU, torch.float32)


def test_sizes_are_counted_from_files_alone(golden_model_directory, golden_pipeline) -> None:
    def numbers(*models: torch.nn.Module) -> int:
        return sum(parameter.numel() for model in models for parameter in model.parameters())

    sizes = ModelSizes.read(golden_model_directory, golden_pipeline.card)
    components, adapter = golden_pipeline.components, golden_pipeline.adapter
    assert sizes.text_encoders == numbers(components.text_encoder, components.text_encoder_2)
    assert sizes.image_encoder == numbers(golden_pipeline.conditioner.reader.image_encoder)
    assert sizes.unet + sizes.projections == numbers(components.unet, adapter.attention)
    assert sizes.projections == 2 * numbers(adapter.attention)
    assert sizes.resampler == numbers(adapter.resampler)
    assert sizes.vae == numbers(components.vae)


@pytest.mark.parametrize("name", ["unet", "vae", "text_encoder", "image_encoder", "ms_adapter.safetensors"])
def test_what_is_missing_is_the_loaders_business(golden_model_directory, tmp_path: Path, name: str) -> None:
    directory = tmp_path / "model"
    shutil.copytree(golden_model_directory, directory)
    (shutil.rmtree if (directory / name).is_dir() else Path.unlink)(directory / name)
    with pytest.raises(ModelNotFoundError, match=name):
        MSDiffusionPipeline.from_pretrained(directory, device="cpu")
