"""Model directories: what is missing or broken is named, and no foreign code is loaded."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from ms_core.config import CARD_FILE, WEIGHTS_FILE
from ms_core.errors import CheckpointError, ModelError, ModelNotFoundError, WrongImageEncoderError
from ms_core.model_dir.loading import INDEX_FILE, load_sdxl
from ms_core.sampling.pipeline import MSDiffusionPipeline
from tests.support.paths import ROOT


@pytest.fixture
def directory(golden_model_directory, tmp_path) -> Path:
    """A copy of the model directory, to be damaged."""
    return shutil.copytree(golden_model_directory, tmp_path / "model")


def change_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_model_directory_gives_the_same_as_its_parts(golden_model_directory, golden_pipeline) -> None:
    loaded = MSDiffusionPipeline.from_pretrained(golden_model_directory, device="cpu")
    state = golden_pipeline.adapter.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.adapter.state_dict().items())
    assert loaded.card.name == "golden"


def test_the_dtype_can_be_chosen(golden_model_directory) -> None:
    loaded = MSDiffusionPipeline.from_pretrained(golden_model_directory, device="cpu", dtype=torch.bfloat16)
    assert {loaded.unet.dtype, loaded.components.vae.dtype, loaded.adapter.dtype} == {torch.bfloat16}


def test_a_vae_unsafe_in_float16_stays_in_float32(golden_model_directory) -> None:
    components = load_sdxl(golden_model_directory, torch.float16)
    assert (components.unet.dtype, components.vae.dtype) == (torch.float16, torch.float32)


def test_a_missing_directory_is_named(tmp_path) -> None:
    with pytest.raises(ModelNotFoundError, match="nowhere"):
        MSDiffusionPipeline.from_pretrained(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "name",
    [
        INDEX_FILE,
        CARD_FILE,
        WEIGHTS_FILE,
        "unet/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "text_encoder/model.safetensors",
        "tokenizer",
        "tokenizer_2/tokenizer.json",
        "scheduler",
        "image_encoder",
        "image_encoder/model.safetensors",
        "image_encoder/preprocessor_config.json",
    ],
)
def test_a_missing_file_is_a_model_that_is_not_found(directory: Path, name: str) -> None:
    path = directory / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(ModelNotFoundError):
        MSDiffusionPipeline.from_pretrained(directory, device="cpu")


@pytest.mark.parametrize(
    "name", [INDEX_FILE, CARD_FILE, WEIGHTS_FILE, "unet/diffusion_pytorch_model.safetensors", "unet/config.json"]
)
def test_a_broken_file_is_an_error_of_ours(directory: Path, name: str) -> None:
    (directory / name).write_bytes(b"{ broken")
    with pytest.raises(ModelError):
        MSDiffusionPipeline.from_pretrained(directory, device="cpu")


def test_a_wrong_image_encoder_is_named(directory: Path) -> None:
    card = json.loads((directory / CARD_FILE).read_text())
    card["resampler"]["feature_dim"] = 1664
    (directory / CARD_FILE).write_text(json.dumps(card))
    with pytest.raises(CheckpointError, match=r"proj_in"):
        MSDiffusionPipeline.from_pretrained(directory, device="cpu")


def test_the_needed_image_encoder_is_named(directory: Path, golden_pipeline) -> None:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=32, intermediate_size=32, num_attention_heads=4, num_hidden_layers=2, patch_size=32
    )
    CLIPVisionModelWithProjection(config).save_pretrained(directory / "image_encoder")
    with pytest.raises(WrongImageEncoderError, match="width 48"):
        MSDiffusionPipeline.from_pretrained(directory, device="cpu")


@pytest.mark.parametrize("library", ["os", "pickle", "app.main", "ms_core_evil", "stable_diffusion_xl"])
def test_foreign_libraries_are_refused(directory: Path, library: str) -> None:
    change_json(directory / INDEX_FILE, vae=[library, "AutoencoderKL"])
    with pytest.raises(CheckpointError, match=f"vae from '{library}'"):
        load_sdxl(directory, torch.float32)


def test_code_beside_the_weights_is_not_run(directory: Path) -> None:
    (directory / "vae" / "ms_core.py").write_text("raise SystemExit('run')")
    change_json(directory / INDEX_FILE, vae=["ms_core.nothing", "AutoencoderKL"])
    with pytest.raises(CheckpointError, match="does not exist"):
        load_sdxl(directory, torch.float32)


@pytest.mark.faults
def test_a_component_of_our_own_loads_in_a_fresh_process(directory: Path) -> None:
    from ms_core.mini.vae import MiniVAE

    shutil.rmtree(directory / "vae")
    MiniVAE(latent_channels=4, width=8, detail_width=8).save_pretrained(directory / "vae")
    change_json(directory / INDEX_FILE, vae=["ms_core.mini.vae", "MiniVAE"])
    script = (
        "import sys, torch; from pathlib import Path; from ms_core.model_dir.loading import load_sdxl;"
        "print(type(load_sdxl(Path(sys.argv[1]), torch.float32).vae).__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, directory], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "MiniVAE", done.stderr


def test_what_is_missing_is_told_without_the_path(golden_model_directory: Path, tmp_path: Path) -> None:
    directory = tmp_path / "golden"
    shutil.copytree(golden_model_directory, directory)
    (directory / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ModelNotFoundError) as caught:
        load_sdxl(directory, torch.float32)
    assert str(tmp_path) not in caught.value.detail
