"""What only a CUDA device can tell: parity there, no waiting for the host, independent rows, memory modes, real exhaustion."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch

from ms_core.errors import DeviceOutOfMemoryError
from ms_core.method.attention import fused_attention
from ms_core.sampling.pipeline import MSDiffusionPipeline
from ms_core.spec import AutoLayout, Box, GenerationSpec, Subject
from ms_lab.parity import load_parity_pipeline

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

RESAMPLER_HEADS = 4


@pytest.fixture(scope="module")
def gpu_pipeline(golden_model_directory: Path) -> MSDiffusionPipeline:
    return MSDiffusionPipeline.from_pretrained(golden_model_directory, device="cuda", dtype=torch.float32)


@pytest.fixture
def specs(reference_picture) -> list[GenerationSpec]:
    cat = Subject("cat", reference_picture(0), Box(0.0, 0.2, 0.5, 0.8))
    dog = Subject("dog", reference_picture(1), Box(0.4, 0.2, 1.0, 0.8), scale=0.9)
    return [
        GenerationSpec("a cat and a dog", (cat, dog), seed=1),
        GenerationSpec("a dog", (dog,), seed=2, guidance_scale=1.0),
        GenerationSpec("a cat", (cat,), seed=3, layout=AutoLayout(0.5, 2)),
    ]


def test_a_picture_of_the_gpu_equals_that_of_the_cpu(gpu_pipeline, golden_directory: Path, specs) -> None:
    expected = load_parity_pipeline(golden_directory, RESAMPLER_HEADS).run(specs[0])[0]
    found = gpu_pipeline.run(specs[0])[0]
    assert (found.latents - expected.latents).abs().max() < 1e-2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_gives_finite_pictures(golden_model_directory: Path, specs, dtype: torch.dtype) -> None:
    pipeline = MSDiffusionPipeline.from_pretrained(golden_model_directory, device="cuda", dtype=dtype)
    for generation in pipeline.run(specs):
        assert generation.latents.isfinite().all()


def test_rows_of_a_batch_do_not_see_each_other(gpu_pipeline, specs) -> None:
    together = gpu_pipeline.run(specs)
    for spec, row in zip(specs, together, strict=True):
        alone = gpu_pipeline.run(spec)[0]
        assert (row.latents - alone.latents).abs().max() < 1e-2


@pytest.mark.parametrize("mode", ["12gb", "8gb"])
def test_a_smaller_memory_mode_gives_the_same_picture(golden_model_directory: Path, gpu_pipeline, specs, mode) -> None:
    small = MSDiffusionPipeline.from_pretrained(golden_model_directory, "cuda", torch.float32, memory=mode)
    for found, expected in zip(small.run(specs), gpu_pipeline.run(specs), strict=True):
        # Kernels may choose another order of summation beside other free memory.
        assert (found.latents - expected.latents).abs().max() < 1e-3


def test_a_denoising_step_does_not_wait_for_the_device(gpu_pipeline, specs) -> None:
    events = gpu_pipeline.generate(specs[0])
    while next(events).phase != "denoise":
        pass
    next(events)  # the first step fills the caches
    _set_sync_debug_mode("error")
    try:
        next(events)
    finally:
        _set_sync_debug_mode("default")


def _set_sync_debug_mode(mode: str) -> None:
    with warnings.catch_warnings():
        # Each call warns that the feature is a prototype.
        warnings.simplefilter("ignore")
        torch.cuda.set_sync_debug_mode(mode)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_row_with_one_visible_token_reads_only_that(dtype: torch.dtype) -> None:
    query, key, value = (torch.randn(1, 2, 64, 32, device="cuda", dtype=dtype) for _ in range(3))
    mask = torch.eye(64, dtype=torch.bool, device="cuda")[None, None]
    assert torch.allclose(fused_attention(query, key, value, mask), value, atol=1e-2)


def test_a_picture_that_does_not_fit_fails_alone(gpu_pipeline, specs) -> None:
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 2**20) / total)
    try:
        with pytest.raises(DeviceOutOfMemoryError):
            gpu_pipeline.run(specs)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert gpu_pipeline.run(specs[0])[0].latents.isfinite().all()
