"""Parts of a model directory put in place: components, VAE, image encoder, and what lies beside the model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, cast

from ms_core.config import ResamplerConfig, encoder_name
from ms_core.errors import CheckpointError, ModelNotFoundError, WrongImageEncoderError
from ms_core.model_dir.inspection import INDEX_FILE
from ms_core.model_dir.inspection.components import (
    DIFFUSERS_WEIGHTS,
    IMAGE_ENCODER,
    TEXT_ENCODERS,
    TRANSFORMERS_WEIGHTS,
    VAE,
)
from ms_core.model_dir.loading import PREPROCESSOR_FILE
from ms_core.model_dir.provision.bases import read_json
from ms_core.model_dir.provision.weights import find_weights, put_file, put_weights, read_tensor_headers, save_tensors

# What the official code's image processor does where a repository has no such file: CLIP's preprocessing.
_PREPROCESSOR: dict[str, Any] = {
    "image_processor_type": "CLIPImageProcessor",
    "do_convert_rgb": True,
    "do_resize": True,
    "resample": 3,
    "do_center_crop": True,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
_PICTURE_SIDE = 224
# The half of a whole CLIP that looks at pictures.
_VISION_TENSORS = ("vision_model.", "visual_projection.")
_SMALL_FILES = ("*.json", "*.txt")
_VAE_CLASS = "AutoencoderKL"
# What a VAE and a UNet must agree on, with the values of configs that leave them out.
_LATENT_NUMBERS = {"latent_channels": 4, "scaling_factor": 0.18215}


def put_component(source: Path, target: Path, with_weights: bool) -> None:
    """A component's small files, copied, and its weights."""
    if not source.is_dir():
        raise ModelNotFoundError(f"{source.parent} lacks its folder {source.name}.")
    target.mkdir()
    for file in (file for pattern in _SMALL_FILES for file in sorted(source.glob(pattern))):
        if ".index." not in file.name:
            shutil.copyfile(file, target / file.name)
    if with_weights:
        is_transformers = target.name in (*TEXT_ENCODERS, IMAGE_ENCODER)
        put_weights(find_weights(source), target, TRANSFORMERS_WEIGHTS if is_transformers else DIFFUSERS_WEIGHTS)


def put_vae(source: Path, target: Path, bases_own: Path) -> list[str]:
    """A VAE that fits the base's latents; returns its entry in the index."""
    config = read_json(source / "config.json")
    kind = str(config.get("_class_name"))
    own = read_json(bases_own / "config.json") if (bases_own / "config.json").is_file() else config
    for key, default in _LATENT_NUMBERS.items():
        found, wanted = config.get(key, default), own.get(key, default)
        if found != wanted:
            raise CheckpointError(
                f"{source} is not SDXL's kind of VAE: its {key} is {found}, the base needs {wanted}. Give another "
                "with --vae."
            )
    put_component(source, target, with_weights=True)
    # A VAE of our own stands in the index of the model it comes from.
    if kind != _VAE_CLASS:
        entry = read_json(source.parent / INDEX_FILE).get(VAE)
        if not (isinstance(entry, list) and cast("list[str]", entry)[1:] == [kind]):
            raise CheckpointError(f"{source} holds {kind}, not {_VAE_CLASS}; give another VAE.")
        return cast("list[str]", entry)
    return ["diffusers", kind]


def put_image_encoder(source: Path, target: Path, resampler: ResamplerConfig) -> None:
    """The vision tower; of a whole CLIP only what looks at pictures, in float16."""
    config = read_json(source / "config.json")
    is_whole_clip = config.get("model_type") == "clip"
    vision = cast("dict[str, Any]", config["vision_config"]) if is_whole_clip else config
    if not is_whole_clip and config.get("model_type") != "clip_vision_model":
        raise CheckpointError(f"{source} contains no CLIP vision tower; give one with --image-encoder.")
    width = int(vision.get("hidden_size", 0))
    if width != resampler.feature_dim:
        raise WrongImageEncoderError(
            f"{source} is {width} wide ({encoder_name(width)}); the adapter needs {resampler.feature_dim}: "
            f"{encoder_name(resampler.feature_dim)}. Give that one with --image-encoder."
        )
    if is_whole_clip:
        target.mkdir()
        tensors = find_weights(source).load()
        seen = {name: tensor for name, tensor in tensors.items() if name.startswith(_VISION_TENSORS)}
        half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in seen.items()}
        save_tensors(half, target / f"{TRANSFORMERS_WEIGHTS}.safetensors")
        vision |= {"model_type": "clip_vision_model", "architectures": ["CLIPVisionModelWithProjection"]}
        vision.setdefault("projection_dim", config.get("projection_dim"))
        (target / "config.json").write_text(json.dumps(vision, indent=2) + "\n", encoding="utf-8")
    else:
        put_component(source, target, with_weights=True)
    _put_preprocessor(source, target, int(vision.get("image_size", _PICTURE_SIDE)))


def put_extra(source: Path, target: Path) -> None:
    """A file of weights, such as a LoRA, or a folder with config and weights, such as a ControlNet."""
    target.parent.mkdir(exist_ok=True)
    if source.is_dir():
        put_component(source, target, with_weights=True)
    else:
        if source.suffix != ".safetensors":
            raise CheckpointError(f"{source} is not a safetensors file; only those are taken beside a model.")
        read_tensor_headers(source)
        put_file(source, target)


def _put_preprocessor(source: Path, target: Path, side: int) -> None:
    """The encoder's own preprocessing, or CLIP's for pictures of ``side`` pixels."""
    if (source / PREPROCESSOR_FILE).is_file():
        shutil.copyfile(source / PREPROCESSOR_FILE, target / PREPROCESSOR_FILE)
        return
    config = {**_PREPROCESSOR, "size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
    (target / PREPROCESSOR_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
