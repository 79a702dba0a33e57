"""Bases are named for what they are before anything is done with them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ms_core.errors import CheckpointError, ModelNotFoundError
from ms_core.model_dir.inspection.headers import TensorHeader
from ms_core.model_dir.provision.bases import check_base_file, check_base_folder
from tests.support.single_file_checkpoint import single_file_tensors

FILE = Path("base.safetensors")
FIRST_LAYER = "model.diffusion_model.input_blocks.0.0.weight"


@pytest.fixture
def folder(golden_directory: Path, tmp_path: Path) -> Path:
    """The golden base's configs, to be changed."""
    return shutil.copytree(
        golden_directory / "tiny-sdxl", tmp_path / "base", ignore=shutil.ignore_patterns("*.safetensors")
    )


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def headers(*names: str, **shapes: tuple[int, ...]) -> dict[str, TensorHeader]:
    return {name: TensorHeader("F16", shapes.get(name, (4, 4)), 32) for name in names}


def sdxl_headers(golden_directory: Path) -> dict[str, TensorHeader]:
    tensors = single_file_tensors(golden_directory / "tiny-sdxl")
    return {name: TensorHeader("F32", tuple(tensor.shape), tensor.nbytes) for name, tensor in tensors.items()}


def test_sdxl_is_taken(folder: Path, golden_directory: Path) -> None:
    assert check_base_folder(folder)["unet"] == ["diffusers", "UNet2DConditionModel"]
    check_base_file(FILE, sdxl_headers(golden_directory))


@pytest.mark.parametrize(
    ("pipeline", "name"), [("FluxPipeline", "Flux"), ("StableDiffusion3Pipeline", "Stable Diffusion 3")]
)
def test_a_base_without_unet_is_named(folder: Path, pipeline: str, name: str) -> None:
    shutil.rmtree(folder / "unet")
    index = {"_class_name": pipeline, "transformer": ["diffusers", "Transformer"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=f"{name}; MS-Diffusion works on SDXL only.*with --base"):
        check_base_folder(folder)


@pytest.mark.parametrize(
    ("width", "name"), [(768, "Stable Diffusion 1.5"), (1024, "Stable Diffusion 2"), (1280, "the SDXL refiner")]
)
def test_another_unet_is_named(folder: Path, width: int, name: str) -> None:
    change(folder / "unet" / "config.json", cross_attention_dim=width)
    with pytest.raises(CheckpointError, match=name):
        check_base_folder(folder)


def test_a_base_with_one_text_encoder_is_named(folder: Path) -> None:
    change(folder / "model_index.json", text_encoder=[None, None])
    with pytest.raises(CheckpointError, match="without SDXL's two text encoders"):
        check_base_folder(folder)


def test_an_inpainting_base_is_named(folder: Path) -> None:
    change(folder / "unet" / "config.json", in_channels=9)
    with pytest.raises(CheckpointError, match="an inpainting model"):
        check_base_folder(folder)


@pytest.mark.parametrize("name", ["model_index.json", "unet/config.json"])
def test_a_missing_or_broken_config_is_named(folder: Path, name: str) -> None:
    (folder / name).write_text("{")
    with pytest.raises(CheckpointError, match=f"{name} is not valid JSON"):
        check_base_folder(folder)
    (folder / name).unlink()
    with pytest.raises(ModelNotFoundError, match=f"There is no .*{name}"):
        check_base_folder(folder)


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["model.diffusion_model.double_blocks.0.img_attn.qkv.weight"], "Flux"),
        (["model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight"], "Stable Diffusion 3"),
        ([FIRST_LAYER, "cond_stage_model.transformer.text_model.final_layer_norm.bias"], "Stable Diffusion 1.5"),
        ([FIRST_LAYER, "cond_stage_model.model.ln_final.bias"], "Stable Diffusion 2"),
        ([FIRST_LAYER, "conditioner.embedders.0.model.ln_final.bias"], "the SDXL refiner"),
        (["lora_unet_input_blocks_1_0.lora_up.weight"], "a LoRA, which goes with --lora"),
        (["unet.down_blocks.0.to_q.lora_A.weight"], "a LoRA, which goes with --lora"),
        (["control_model.input_blocks.0.0.weight"], "a ControlNet"),
        (["model.diffusion_model.x.weight"], "another UNet"),
        (["x.weight"], "not a single-file SDXL checkpoint"),
    ],
)
def test_other_files_are_named(names: list[str], kind: str) -> None:
    with pytest.raises(CheckpointError, match=f"^base.safetensors is {kind}. MS-Diffusion's weights fit SDXL"):
        check_base_file(FILE, headers(*names))


def test_a_file_without_its_text_encoders_is_named() -> None:
    names = (FIRST_LAYER, "model.diffusion_model.label_emb.0.0.weight")
    with pytest.raises(CheckpointError, match="lacks its text encoders; give the whole checkpoint"):
        check_base_file(FILE, headers(*names))


@pytest.mark.parametrize(("channels", "kind"), [(9, "an inpainting model"), (16, "latents of 16 channels")])
def test_a_file_with_other_latents_is_named(golden_directory: Path, channels: int, kind: str) -> None:
    tensors = sdxl_headers(golden_directory) | {FIRST_LAYER: TensorHeader("F16", (8, channels, 3, 3), 1)}
    with pytest.raises(CheckpointError, match=kind):
        check_base_file(FILE, tensors)


@pytest.mark.parametrize("mark", ["edm_mean", "edm_vpred.sigma_max"])
def test_a_file_with_another_noise_schedule_is_named(golden_directory: Path, mark: str) -> None:
    with pytest.raises(CheckpointError, match=r"trained on another noise schedule \(EDM\)"):
        check_base_file(FILE, sdxl_headers(golden_directory) | headers(mark))
