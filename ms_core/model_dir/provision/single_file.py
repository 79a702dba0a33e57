"""SDXL checkpoints in one file, as fine-tunes are passed around, to the folders of the diffusers layout."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from diffusers.loaders.single_file_utils import SingleFileComponentError
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import StableDiffusionXLPipeline

from ms_core.errors import CheckpointError, ModelNotFoundError
from ms_core.model_dir.inspection import INDEX_FILE
from ms_core.model_dir.inspection.components import SCHEDULER, TEXT_ENCODERS, TOKENIZERS, UNET
from ms_core.model_dir.inspection.headers import TensorHeader, main_dtype
from ms_core.model_dir.loading import quiet
from ms_core.model_dir.provision.weights import read_tensor_headers

SCHEDULER_CONFIG = f"{SCHEDULER}/scheduler_config.json"

_CONFIGS = (
    INDEX_FILE,
    SCHEDULER_CONFIG,
    *(f"{name}/config.json" for name in (UNET, *TEXT_ENCODERS)),
    *(f"{name}/tokenizer_config.json" for name in TOKENIZERS),
)
_SMALL_FILES = ("*.json", "*.txt")
_VAE = "first_stage_model."
# 8-bit weights are for storing only; they are widened.
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
    tensors = read_tensor_headers(checkpoint)
    if with_vae and not any(name.startswith(_VAE) for name in tensors):
        raise CheckpointError(f"{checkpoint} has no VAE; give one with --vae.")
    with tempfile.TemporaryDirectory() as folder:
        _copy_configs(configs, Path(folder))
        components = _load(checkpoint, Path(folder), _dtype(tensors), with_vae)
        with quiet():
            components.save_pretrained(directory, safe_serialization=True)
        for name in TOKENIZERS:
            # As they were: saving one notes in its config where it was read from.
            shutil.rmtree(directory / name)
            shutil.copytree(Path(folder) / name, directory / name)
    _set_prediction_type(directory / SCHEDULER_CONFIG, tensors)


def _load(checkpoint: Path, configs: Path, dtype: torch.dtype, with_vae: bool) -> Any:
    """A ``StableDiffusionXLPipeline`` on the CPU."""
    without: dict[str, Any] = {} if with_vae else {"vae": None}
    try:
        with quiet():
            components: Any = cast("Any", StableDiffusionXLPipeline).from_single_file(
                str(checkpoint),
                config=str(configs),
                local_files_only=True,
                dtype=dtype,
                add_watermarker=False,
                **without,
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
    return components


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
