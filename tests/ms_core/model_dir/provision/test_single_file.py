"""Checkpoints in one file: the folders made of them hold the same weights as the model they came from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ms_core.errors import CheckpointError, ModelNotFoundError
from ms_core.model_dir.provision.single_file import SCHEDULER_CONFIG
from ms_core.model_dir.provision.single_file import write_single_file as convert
from tests.support.single_file_checkpoint import single_file_tensors, write_single_file

WEIGHTS = (
    "unet/diffusion_pytorch_model.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
    "text_encoder/model.safetensors",
    "text_encoder_2/model.safetensors",
)


@pytest.fixture
def base(golden_directory: Path) -> Path:
    return golden_directory / "tiny-sdxl"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


def weights(folder: Path, name: str) -> dict[str, torch.Tensor]:
    """Weights of a component; the first text encoder's are written with and without a prefix."""
    return {key.removeprefix("text_model."): tensor for key, tensor in load_file(folder / name).items()}


def assert_same(folder: Path, base: Path, dtype: torch.dtype = torch.float32) -> None:
    for name in WEIGHTS:
        found, wanted = weights(folder, name), weights(base, name)
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[key], wanted[key].to(dtype)) for key in wanted), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_weights_are_those_of_the_file_in_its_dtype(
    base: Path, tmp_path: Path, target: Path, dtype: torch.dtype
) -> None:
    write_single_file(base, tmp_path / "file.safetensors", dtype)
    convert(tmp_path / "file.safetensors", base, target, with_vae=True)
    assert_same(target, base, dtype)
    assert load_file(target / WEIGHTS[0]).popitem()[1].dtype == dtype


def test_configs_and_tokenizers_are_those_given(base: Path, tmp_path: Path, target: Path) -> None:
    write_single_file(base, tmp_path / "file.safetensors")
    convert(tmp_path / "file.safetensors", base, target, with_vae=True)
    for name in ("tokenizer/tokenizer.json", "tokenizer_2/tokenizer_config.json"):
        assert (target / name).read_bytes() == (base / name).read_bytes()
    given, written = (json.loads((folder / "unet" / "config.json").read_text()) for folder in (base, target))
    assert written.items() >= {key: value for key, value in given.items() if not key.startswith("_")}.items()


def test_a_ckpt_of_plain_weights_does_too(base: Path, tmp_path: Path, target: Path) -> None:
    torch.save({"state_dict": single_file_tensors(base)}, tmp_path / "file.ckpt")
    convert(tmp_path / "file.ckpt", base, target, with_vae=True)
    assert_same(target, base)


def test_what_training_left_in_the_file_does_not_matter(base: Path, tmp_path: Path, target: Path) -> None:
    noise = {
        "conditioner.embedders.0.transformer.text_model.embeddings.position_ids": torch.arange(77)[None],
        "denoiser.sigmas": torch.ones(3),
    }
    save_file(
        {name: tensor.contiguous() for name, tensor in {**single_file_tensors(base), **noise}.items()},
        tmp_path / "file.safetensors",
    )
    convert(tmp_path / "file.safetensors", base, target, with_vae=True)
    assert_same(target, base)


def test_a_component_that_the_file_lacks_does_not_come_from_elsewhere(base: Path, tmp_path: Path, target: Path) -> None:
    tensors = {
        name: tensor.contiguous()
        for name, tensor in single_file_tensors(base).items()
        if not name.startswith("conditioner.embedders.0.")
    }
    save_file(tensors, tmp_path / "file.safetensors")
    with pytest.raises(CheckpointError, match=r"file\.safetensors (does not fit|lacks)"):
        convert(tmp_path / "file.safetensors", base, target, with_vae=True)


def test_missing_layers_are_named(base: Path, tmp_path: Path, target: Path) -> None:
    tensors = {
        name: tensor.contiguous()
        for name, tensor in single_file_tensors(base).items()
        if ".middle_block.1.transformer_blocks.0.attn2." not in name
    }
    save_file(tensors, tmp_path / "file.safetensors")
    with pytest.raises(CheckpointError, match=r"file\.safetensors (does not fit|lacks)"):
        convert(tmp_path / "file.safetensors", base, target, with_vae=True)


def test_a_file_without_vae_needs_another(base: Path, tmp_path: Path, target: Path) -> None:
    tensors = {
        name: tensor.contiguous()
        for name, tensor in single_file_tensors(base).items()
        if not name.startswith("first_stage_model.")
    }
    save_file(tensors, tmp_path / "file.safetensors")
    with pytest.raises(CheckpointError, match="has no VAE; give one with --vae"):
        convert(tmp_path / "file.safetensors", base, target, with_vae=True)
    convert(tmp_path / "file.safetensors", base, target, with_vae=False)
    assert not (target / "vae").exists()


def test_configs_that_are_not_all_there_are_named(base: Path, tmp_path: Path, target: Path) -> None:
    write_single_file(base, tmp_path / "file.safetensors")
    configs = shutil.copytree(base, tmp_path / "configs")
    shutil.rmtree(configs / "tokenizer")
    with pytest.raises(ModelNotFoundError, match=r"configs lacks tokenizer/tokenizer_config\.json.*with --config"):
        convert(tmp_path / "file.safetensors", configs, target, with_vae=True)


def test_configs_of_other_sizes_are_refused(base: Path, tmp_path: Path, target: Path) -> None:
    write_single_file(base, tmp_path / "file.safetensors")
    configs = shutil.copytree(base, tmp_path / "configs")
    path = configs / "unet" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "block_out_channels": [16, 16, 32]}))
    with pytest.raises(CheckpointError, match=r"does not fit the configs it is read with .*with --config"):
        convert(tmp_path / "file.safetensors", configs, target, with_vae=True)


@pytest.mark.parametrize("marks", [["v_pred"], ["v_pred", "ztsnr"]])
def test_a_file_that_predicts_velocities_says_so_to_the_scheduler(
    base: Path, tmp_path: Path, target: Path, marks: list[str]
) -> None:
    tensors = {name: tensor.contiguous() for name, tensor in single_file_tensors(base).items()}
    save_file({**tensors, **{mark: torch.tensor([]) for mark in marks}}, tmp_path / "file.safetensors")
    convert(tmp_path / "file.safetensors", base, target, with_vae=True)
    config = json.loads((target / SCHEDULER_CONFIG).read_text())
    assert (config["prediction_type"], config["timestep_spacing"]) == ("v_prediction", "trailing")
    assert config["rescale_betas_zero_snr"] == ("ztsnr" in marks)
