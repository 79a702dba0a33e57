"""SDXL checkpoints in one file, as fine-tunes are passed around, to the folders of the diffusers layout."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from diffusers.loaders.single_file_utils import (
    SingleFileComponentError,
    create_diffusers_clip_model_from_ldm,  # pyright: ignore[reportUnknownVariableType] - diffusers is untyped
)
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import StableDiffusionXLPipeline
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from ms_core.errors import CheckpointError, ModelNotFoundError
from ms_core.model_dir.inspection import INDEX_FILE
from ms_core.model_dir.inspection.components import IMAGE_ENCODER, SCHEDULER, TEXT_ENCODERS, TOKENIZERS, UNET, VAE
from ms_core.model_dir.inspection.headers import TensorHeader, main_dtype
from ms_core.model_dir.loading import quiet
from ms_core.model_dir.provision.coverage import check_all_used, check_storage
from ms_core.model_dir.provision.scaled import widen_scaled
from ms_core.model_dir.provision.weights import load_tensors, read_tensor_headers

SCHEDULER_CONFIG = f"{SCHEDULER}/scheduler_config.json"

_CONFIGS = (
    INDEX_FILE,
    SCHEDULER_CONFIG,
    *(f"{name}/config.json" for name in (UNET, *TEXT_ENCODERS)),
    *(f"{name}/tokenizer_config.json" for name in TOKENIZERS),
)
_SMALL_FILES = ("*.json", "*.txt")
_VAE = "first_stage_model."
# Plain 8-bit weights are for storing only; they are widened.
_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16}
# Empty tensors by which fine-tunes say how they were trained.
_V_PREDICTION = "v_pred"
_ZERO_TERMINAL_SNR = "ztsnr"


def write_single_file(checkpoint: Path, configs: Path, directory: Path, with_vae: bool) -> None:
    """Write the folders of the diffusers layout, and their index, from a single file.

    Args:
        checkpoint: as ``check_base_file`` wants it; a .safetensors file, or a .ckpt file that holds only weights.
        configs: a folder in the diffusers layout; its configs, tokenizers and scheduler are taken, not its weights.
        directory: to write into.
        with_vae: whether the file's VAE is wanted.

    Raises:
        ModelNotFoundError: the file or a config is missing.
        CheckpointError: the file is cut off, or does not fit the configs.
    """
    headers = read_tensor_headers(checkpoint)
    if with_vae and not any(name.startswith(_VAE) for name in headers):
        raise CheckpointError(f"{checkpoint} has no VAE; give one with --vae.")
    with tempfile.TemporaryDirectory() as folder:
        _copy_configs(configs, Path(folder))
        components = _load(checkpoint, Path(folder), _dtype(headers), with_vae)
        with quiet():
            components.save_pretrained(directory, safe_serialization=True)
        for name in TOKENIZERS:
            # As they were: saving one notes in its config where it was read from.
            shutil.rmtree(directory / name)
            shutil.copytree(Path(folder) / name, directory / name)
    _set_prediction_type(directory / SCHEDULER_CONFIG, headers)


def _load(checkpoint: Path, configs: Path, dtype: torch.dtype, with_vae: bool) -> Any:
    """A ``StableDiffusionXLPipeline`` on the CPU, of all that the file holds."""
    tensors = widen_scaled(load_tensors(checkpoint), dtype, checkpoint)
    check_storage(tensors, checkpoint)
    try:
        with quiet():
            components: Any = cast("Any", StableDiffusionXLPipeline).from_pretrained(
                configs, local_files_only=True, add_watermarker=False, **_make_parts(tensors, configs, dtype, with_vae)
            )
    except (SingleFileComponentError, OSError, ValueError, RuntimeError, KeyError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(
            f"{checkpoint} does not fit the configs it is read with ({reason}). Give configs of the same kind of SDXL with "
            "--config."
        ) from error
    for name, component in components.components.items():
        if isinstance(component, torch.nn.Module) and any(tensor.is_meta for tensor in component.parameters()):
            raise CheckpointError(f"{checkpoint} lacks weights of its {name}; give the whole checkpoint.")
    check_all_used(tensors, components, checkpoint)
    return components


def _make_parts(tensors: dict[str, Tensor], configs: Path, dtype: torch.dtype, with_vae: bool) -> dict[str, Any]:
    """The components with weights, by name."""
    parts: dict[str, Any] = {VAE: None, IMAGE_ENCODER: None, "feature_extractor": None}
    models: dict[str, Any] = {UNET: UNet2DConditionModel}
    if with_vae:
        models[VAE] = AutoencoderKL
    for name, kind in models.items():
        parts[name] = kind.from_single_file(
            tensors, config=str(configs), subfolder=name, local_files_only=True, dtype=dtype
        )
    for name, kind in zip(TEXT_ENCODERS, (CLIPTextModel, CLIPTextModelWithProjection), strict=True):
        parts[name] = create_diffusers_clip_model_from_ldm(
            kind, tensors, subfolder=name, config=str(configs), torch_dtype=dtype, local_files_only=True
        )
    return parts


def _copy_configs(source: Path, target: Path) -> None:
    """Copy configs and tokenizers, and no weights: a component that the file lacks must not come from elsewhere."""
    missing = [name for name in _CONFIGS if not (source / name).is_file()]
    if missing:
        raise ModelNotFoundError(
            f"{source} lacks {', '.join(missing)}. A single file holds no configs and tokenizers: give the folder of an "
            "SDXL model in the diffusers layout with --config."
        )
    for pattern in _SMALL_FILES:
        for file in [*source.glob(pattern), *source.glob(f"*/{pattern}")]:
            if ".index." not in file.name:
                place = target / file.relative_to(source)
                place.parent.mkdir(exist_ok=True)
                shutil.copyfile(file, place)


def _dtype(tensors: Mapping[str, TensorHeader]) -> torch.dtype:
    return _DTYPES.get(main_dtype(tensors), torch.float16)


def _set_prediction_type(path: Path, tensors: Mapping[str, TensorHeader]) -> None:
    """Fit the scheduler to a fine-tune that predicts velocities."""
    if _V_PREDICTION not in tensors:
        return
    config = json.loads(path.read_text(encoding="utf-8"))
    config |= {
        "prediction_type": "v_prediction",
        "timestep_spacing": "trailing",
        "rescale_betas_zero_snr": _ZERO_TERMINAL_SNR in tensors,
    }
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
