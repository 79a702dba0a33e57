"""Model directories to components: safetensors only, local files only, and no code from outside ``ms_core``."""

from __future__ import annotations

import importlib
import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import StableDiffusionXLPipeline
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError
from transformers import CLIPVisionModelWithProjection
from transformers.utils import logging as transformers_logging

from ms_core.errors import CheckpointError, ModelNotFoundError, not_a_model_directory

INDEX_FILE = "model_index.json"
IMAGE_ENCODER = "image_encoder"
PREPROCESSOR_FILE = "preprocessor_config.json"
VAE = "vae"

_LIBRARIES = ("diffusers", "transformers")
_OWN_PACKAGE = "ms_core."
_TOKENIZER_FILES = ("tokenizer.json", "vocab.json")
_LOGGING: tuple[Any, ...] = (diffusers_logging, transformers_logging)


def load_sdxl(directory: Path, dtype: torch.dtype) -> Any:
    """A ``StableDiffusionXLPipeline`` without image encoder, on the CPU; float16 keeps an unsafe VAE in float32.

    Args:
        directory: in the diffusers layout. A component of our own stands in ``model_index.json`` as, for instance,
            ``["ms_core.mini.vae", "MiniVAE"]``.
        dtype: of all weights.

    Raises:
        ModelNotFoundError: the directory or a file of it is missing.
        CheckpointError: a file cannot be used, or the index names a library that is not allowed.
    """
    index = _read_index(directory)
    _import_own_components(index)
    _check_components(directory, index)
    with _loading_errors(directory), quiet():
        components: Any = cast("Any", StableDiffusionXLPipeline).from_pretrained(
            directory,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            image_encoder=None,
            feature_extractor=None,
            add_watermarker=False,
        )
    # SDXL's own VAE overflows in float16 and says so in its config.
    if dtype == torch.float16 and components.vae.config.force_upcast:
        components.vae.to(torch.float32)
    return components


def load_vae(directory: Path) -> Any:
    """The VAE alone of a model directory, in float32 on the CPU; errors as ``load_sdxl``."""
    index = _read_index(directory)
    _import_own_components(index)
    library, name = index[VAE]
    with _loading_errors(directory), quiet():
        kind: Any = getattr(importlib.import_module(library), name)
        vae: Any = kind.from_pretrained(
            directory, subfolder=VAE, torch_dtype=torch.float32, use_safetensors=True, local_files_only=True
        )
    return vae.eval()


def load_image_encoder(directory: Path, dtype: torch.dtype) -> Any:
    """A ``CLIPVisionModelWithProjection`` on the CPU, from its own directory.

    Raises:
        ModelNotFoundError: the directory or a file of it is missing.
        CheckpointError: a file cannot be used.
    """
    if not directory.is_dir():
        raise ModelNotFoundError(f"The model lacks its {IMAGE_ENCODER} directory.")
    with _loading_errors(directory), quiet():
        encoder: Any = cast("Any", CLIPVisionModelWithProjection).from_pretrained(
            directory, dtype=dtype, use_safetensors=True, local_files_only=True
        )
    return encoder.eval()


def _read_index(directory: Path) -> dict[str, Any]:
    if not directory.is_dir():
        raise ModelNotFoundError(f"There is no model directory {directory.name}.")
    try:
        index: Any = json.loads((directory / INDEX_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise not_a_model_directory(directory.name, INDEX_FILE) from error
    except ValueError as error:
        raise CheckpointError(f"{INDEX_FILE} is not valid JSON: {error}") from error
    return index


def _libraries(index: dict[str, Any]) -> dict[str, str]:
    """Library of each component that the model has."""
    entries = {name: cast("list[str | None]", entry) for name, entry in index.items() if isinstance(entry, list)}
    return {name: entry[0] for name, entry in entries.items() if entry[0] is not None}


def _import_own_components(index: dict[str, Any]) -> None:
    """Import the modules of our own components, which diffusers only looks up; refuse all foreign ones."""
    for name, library in _libraries(index).items():
        if library in _LIBRARIES:
            continue
        if not library.startswith(_OWN_PACKAGE):
            raise CheckpointError(f"{INDEX_FILE} takes {name} from {library!r}, which is not allowed.")
        try:
            importlib.import_module(library)
        except ModuleNotFoundError as error:
            raise CheckpointError(f"{INDEX_FILE} takes {name} from {library!r}, which does not exist.") from error


def _check_components(directory: Path, index: dict[str, Any]) -> None:
    """Name what is missing; without its files a tokenizer would load silently, with an empty vocabulary."""
    for name in _libraries(index):
        files = _TOKENIZER_FILES if name.startswith("tokenizer") else ("",)
        if not any((directory / name / file).exists() for file in files):
            raise ModelNotFoundError(f"The model {directory.name} lacks its {name}.")


@contextmanager
def quiet() -> Generator[None]:
    """Keep both libraries' progress bars and warnings out of logs and terminals, and leave their settings as they were.

    diffusers warns of every component class that is not SDXL's own, such as our VAE.
    """
    shown = [library for library in _LOGGING if library.is_progress_bar_enabled()]
    levels = [(library, library.get_verbosity()) for library in _LOGGING]
    for library in shown:
        library.disable_progress_bar()
    for library, _ in levels:
        library.set_verbosity_error()
    try:
        yield
    finally:
        for library in shown:
            library.enable_progress_bar()
        for library, level in levels:
            library.set_verbosity(level)


@contextmanager
def _loading_errors(directory: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise ModelNotFoundError(
            f"A file of the model {directory.name} is missing or unreadable: {_without_path(error, directory)}"
        ) from error
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(
            f"A file of the model {directory.name} cannot be used: {_without_path(error, directory)}"
        ) from error


def _without_path(error: Exception, directory: Path) -> str:
    """What went wrong; users of the service read it, and where the model lies is not their concern."""
    return str(error).replace(str(directory), directory.name)
