"""Telling what a base model is before it is used: SDXL and its fine-tunes fit, and what does not is named."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ms_core.errors import CheckpointError, ModelNotFoundError
from ms_core.model_dir.inspection import INDEX_FILE
from ms_core.model_dir.inspection.base import component_classes, is_right_base
from ms_core.model_dir.inspection.components import TEXT_ENCODERS, UNET
from ms_core.model_dir.inspection.files import parse_json
from ms_core.model_dir.inspection.findings import Notes
from ms_core.model_dir.inspection.headers import TensorHeader

_REMEDY = "MS-Diffusion's weights fit SDXL and its fine-tunes only; give one of those with --base."

# Parts of tensor names that only one kind of single file has, the telling ones first.
_SINGLE_FILE_KINDS = (
    ("double_blocks.", "Flux"),
    ("joint_blocks.", "Stable Diffusion 3"),
    ("lora_", "a LoRA, which goes with --lora"),
    (".lora.", "a LoRA, which goes with --lora"),
    ("control_model.", "a ControlNet"),
    ("controlnet_cond_embedding.", "a ControlNet"),
    ("cond_stage_model.transformer.", "Stable Diffusion 1.5"),
    ("cond_stage_model.model.", "Stable Diffusion 2"),
    ("conditioner.embedders.0.model.", "the SDXL refiner"),
)
# Marks of fine-tunes that were trained on another noise schedule, such as Playground 2.5.
_OTHER_SCHEDULES = ("edm_mean", "edm_vpred.sigma_max")
_SECOND_TEXT_ENCODER = "conditioner.embedders.1."
_UNET = "model.diffusion_model."
_FIRST_LAYER = "model.diffusion_model.input_blocks.0.0.weight"
_SIZE_EMBEDDING = "model.diffusion_model.label_emb."
_LATENT_CHANNELS = 4
_INPAINTING_CHANNELS = 9


def check_base_folder(folder: Path) -> dict[str, Any]:
    """Check that a folder in the diffusers layout holds an SDXL model, and return its ``model_index.json``.

    Raises:
        ModelNotFoundError: there is no such folder, or it lacks its index or a component's config.
        CheckpointError: it holds another kind of model, which is named.
    """
    index = read_json(folder / INDEX_FILE)
    notes = Notes(_REMEDY)
    is_right_base(folder, index, None, notes)
    for finding in notes.findings:
        raise CheckpointError(f"{folder}: {finding.sentence} {_REMEDY}")
    unet = read_json(folder / UNET / "config.json")
    if not all(name in component_classes(index) for name in TEXT_ENCODERS):
        raise _wrong_base(folder, "a model without SDXL's two text encoders, such as its refiner")
    _check_channels(folder, unet.get("in_channels"))
    return index


def check_base_file(path: Path, tensors: Mapping[str, TensorHeader]) -> None:
    """Check that a single file holds an SDXL model with its text encoders.

    Args:
        path: of the file, for the sentence.
        tensors: of the file.

    Raises:
        CheckpointError: it holds something else, named as far as its tensors show.
    """
    if any(name.startswith(_SECOND_TEXT_ENCODER) for name in tensors) and _FIRST_LAYER in tensors:
        if any(mark in tensors for mark in _OTHER_SCHEDULES):
            raise _wrong_base(path, "trained on another noise schedule (EDM) than SDXL's")
        _check_channels(path, tensors[_FIRST_LAYER].shape[1])
        return
    for part, kind in _SINGLE_FILE_KINDS:
        if any(part in name for name in tensors):
            raise _wrong_base(path, kind)
    if any(name.startswith(_SIZE_EMBEDDING) for name in tensors):
        raise CheckpointError(f"{path} lacks its text encoders; give the whole checkpoint, not the UNet alone.")
    kind = "another UNet" if any(name.startswith(_UNET) for name in tensors) else "not a single-file SDXL checkpoint"
    raise _wrong_base(path, kind)


def read_json(path: Path) -> dict[str, Any]:
    """An object of a JSON file.

    Raises:
        ModelNotFoundError: there is no such file.
        CheckpointError: it holds no JSON object.
    """
    try:
        data = parse_json(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ModelNotFoundError(f"There is no {path}; give a folder that holds {path.name}.") from error
    if data is None:
        raise CheckpointError(f"{path} is not valid JSON; fetch it again.")
    return data


def _check_channels(path: Path, channels: int | None) -> None:
    if channels == _INPAINTING_CHANNELS:
        raise _wrong_base(path, "an inpainting model, whose UNet also reads a mask")
    if channels != _LATENT_CHANNELS:
        raise _wrong_base(path, f"a model with latents of {channels} channels")


def _wrong_base(path: Path, kind: str) -> CheckpointError:
    return CheckpointError(f"{path} is {kind}. {_REMEDY}")
