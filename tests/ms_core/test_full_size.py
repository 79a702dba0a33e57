"""SDXL, bigG and the adapter at full size, without their memory: construction, strict loading, and the estimate's figures."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.random_sdxl import FULL, sdxl_parts
from ms_core.config import ModelCard
from ms_core.device.memory import Job, ModelSizes, Precision, estimate_memory
from ms_core.method.attention_data import ATTENTION_DATA, AttentionData, SubjectBatch
from ms_core.method.checkpoint import load_official_adapter
from ms_core.sampling.pipeline import ModelParts, MSDiffusionPipeline
from tests.ms_core.live_tensors import LiveTensors, fused
from tests.support.sdxl import released_shapes

BF16 = torch.bfloat16
META = torch.device("meta")
LARGE = "MSD_TEST_LARGE_FILES"


@pytest.fixture(scope="module")
def parts() -> ModelParts:
    return sdxl_parts(FULL, BF16, META)


@pytest.fixture
def kept_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """No attention keeps scores, as with the kernels of a GPU; without values torch would take the plain form."""
    monkeypatch.setattr(F, "scaled_dot_product_attention", fused)


def numbers(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def counted_sizes(parts: ModelParts) -> dict[str, int]:
    components, adapter = parts.components, parts.adapter
    layers = [components.unet.get_submodule(path) for path in adapter.layer_paths]
    text_projections = numbers(*(projection for layer in layers for projection in (layer.to_k, layer.to_v)))
    return {
        "text_encoders": numbers(components.text_encoder, components.text_encoder_2),
        "image_encoder": numbers(parts.image_encoder),
        "resampler": numbers(adapter.resampler),
        "projections": text_projections + numbers(adapter.attention),
        "unet": numbers(components.unet) - text_projections,
        "vae": numbers(components.vae),
    }


def test_everything_has_its_published_number_of_weights(parts: ModelParts) -> None:
    components = parts.components
    counts = (components.unet, components.vae, components.text_encoder, components.text_encoder_2, parts.image_encoder)
    assert [numbers(model) for model in counts] == [
        2_567_463_684,
        83_653_863,
        123_060_480,
        694_659_840,
        1_844_907_264,
    ]


def test_the_pipeline_takes_the_full_model(parts: ModelParts) -> None:
    pipeline = MSDiffusionPipeline(sdxl_parts(FULL, BF16, META), META)
    assert len(pipeline.adapter.layer_paths) == 70


def write_official(path: Path, is_large: bool) -> None:
    """The released file's entries, keys and shapes, all zeros; one number stands for all of a tensor unless it is large."""

    def zeros(shape: tuple[int, ...]) -> torch.Tensor:
        return torch.zeros(shape) if is_large else torch.zeros(1).expand(shape)

    entries: dict[str, Any] = {
        name: {key: zeros(shape) for key, shape in shapes.items()} for name, shapes in released_shapes().items()
    }
    torch.save(entries | {"dummy_image_tokens": zeros((1, 4, 2048))}, path)


@pytest.mark.parametrize(
    "is_large",
    [
        False,
        pytest.param(
            True, marks=pytest.mark.skipif(LARGE not in os.environ, reason=f"{LARGE} is not set: writes 1.8 GB")
        ),
    ],
)
def test_an_official_file_with_the_200_released_shapes_loads_strictly(
    parts: ModelParts, tmp_path: Path, is_large: bool
) -> None:
    write_official(tmp_path / "ms_adapter.bin", is_large)
    assert ((tmp_path / "ms_adapter.bin").stat().st_size > 1_838_956_032) == is_large
    adapter = load_official_adapter(tmp_path / "ms_adapter.bin", parts.components.unet)
    state = adapter.state_dict()
    assert len(state) == 200
    assert sum(tensor.numel() for tensor in state.values()) == 459_739_008
    assert not any(tensor.is_meta or tensor.count_nonzero() for tensor in state.values())


def test_the_table_reckons_with_the_counted_weights(parts: ModelParts) -> None:
    sizes = ModelSizes()
    assert {name: getattr(sizes, name) for name in counted_sizes(parts)} == counted_sizes(parts)


def write_headers(directory: Path, parts: ModelParts) -> None:
    """A model directory whose weights are holes: headers, then nothing for as long as the weights would be."""
    components = parts.components
    models = {
        "unet/diffusion_pytorch_model": components.unet,
        "vae/diffusion_pytorch_model": components.vae,
        "text_encoder/model": components.text_encoder,
        "text_encoder_2/model": components.text_encoder_2,
        "image_encoder/model": parts.image_encoder,
        "ms_adapter": parts.adapter,
    }
    for path, model in models.items():
        file = directory / f"{path}.safetensors"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_hole(file, model.state_dict())
        if hasattr(model, "config"):
            text = model.to_json_string() if hasattr(model, "to_json_string") else model.config.to_json_string()
            (file.parent / "config.json").write_text(text)
    parts.card.save(directory)


def write_hole(file: Path, state: dict[str, torch.Tensor]) -> None:
    header: dict[str, Any] = {}
    end = 0
    for name, tensor in state.items():
        begin, end = end, end + tensor.numel() * tensor.itemsize
        header[name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with file.open("wb") as content:
        content.write(len(text).to_bytes(8, "little") + text)
        content.truncate(8 + len(text) + end)


def test_the_sizes_of_a_full_model_directory_are_those_of_the_table(parts: ModelParts, tmp_path: Path) -> None:
    write_headers(tmp_path, parts)
    assert ModelSizes.read(tmp_path, ModelCard()) == ModelSizes()


def computed(phase: str, job: Job, precision: Precision | None = None) -> int:
    """Bytes of the estimate for what a phase computes: all but weights and workspaces."""
    nothing = ModelSizes(text_encoders=0, image_encoder=0, resampler=0, unet=0, vae=0)
    precision = precision or Precision()
    estimate = estimate_memory(nothing, "8gb", job, precision)
    weights = nothing.weights(["projections"], precision) if phase == "projection" else 0
    return estimate.phases[phase] - weights - 1_000_000_000


def attention_data(job: Job) -> AttentionData:
    rows, subjects = job.num_images, job.num_subjects
    with META:
        batch = SubjectBatch.from_rows(
            [torch.empty(subjects, 16, 2048, dtype=BF16)] * rows,
            [torch.empty(subjects, 4)] * rows,
            [torch.empty(subjects)] * rows,
        )
    return AttentionData(batch, (job.height // 8, job.width // 8))


@pytest.mark.usefixtures("kept_scores")
@pytest.mark.parametrize("job", [Job(1024, 1024, 1, 2), Job(768, 1344, 2, 4)], ids=["one", "batch"])
def test_a_step_computes_what_the_estimate_says(job: Job) -> None:
    parts = sdxl_parts(FULL, BF16, META)
    unet, adapter = parts.components.unet, parts.adapter
    rows = 2 * job.num_images
    data = attention_data(job)
    prompt_embeds = torch.empty(rows, 77, 2048, dtype=BF16, device=META)
    with adapter.installed(unet), torch.no_grad():
        latents = torch.empty(rows, 4, job.height // 8, job.width // 8, dtype=BF16, device=META)
        added = {
            "text_embeds": torch.empty(rows, 1280, dtype=BF16, device=META),
            "time_ids": torch.empty(rows, 6, device=META),
        }
        with LiveTensors(unet, adapter) as live:
            adapter.project(unet, prompt_embeds, data)
            projected = live.peak
            unet(
                latents,
                torch.empty((), device=META),
                prompt_embeds,
                added_cond_kwargs=added,
                cross_attention_kwargs={ATTENTION_DATA: data},
                return_dict=False,
            )
    assert computed("projection", job) == pytest.approx(projected, rel=0.05)
    assert live.peak <= computed("denoise", job) <= 1.1 * live.peak


@pytest.mark.usefixtures("kept_scores")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_decoding_computes_what_the_estimate_says(dtype: torch.dtype) -> None:
    vae = sdxl_parts(FULL, dtype, META).components.vae
    latents = torch.empty(1, 4, 128, 128, dtype=dtype, device=META)
    with torch.no_grad(), LiveTensors(vae) as live:
        vae.decode(latents, return_dict=False)
    job = Job(1024, 1024, 1, 1)
    kept = computed("projection", job)
    estimated = computed("decode", job, Precision(2, dtype.itemsize)) - kept
    assert live.peak <= estimated <= 1.05 * live.peak


@pytest.mark.usefixtures("kept_scores")
@pytest.mark.parametrize("subjects", [1, 4])
def test_reading_pictures_computes_what_the_estimate_says(parts: ModelParts, subjects: int) -> None:
    picture = torch.empty(1, 3, 224, 224, dtype=BF16, device=META)
    with torch.no_grad(), LiveTensors(parts.image_encoder) as live:
        kept = [parts.image_encoder(picture, output_hidden_states=True).hidden_states[-2] for _ in range(subjects)]
    assert len(kept) == subjects
    assert live.peak <= computed("pictures", Job(num_subjects=subjects)) <= 1.1 * live.peak


@pytest.mark.usefixtures("kept_scores")
def test_reading_text_computes_far_less_than_the_estimate_says(parts: ModelParts) -> None:
    encoder = parts.components.text_encoder_2
    tokens = torch.empty(2, 77, dtype=torch.int64, device=META)
    with torch.no_grad(), LiveTensors(encoder) as live:
        encoder(tokens, output_hidden_states=True)
    assert live.peak <= computed("text", Job())
