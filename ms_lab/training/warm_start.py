"""Going on from a trained model: its parts are laid into a fresh run's folder, as if that run had made them.

The image encoder stays as it is. UNet, text encoders and adapter are trained further: gently, while the autoencoder stays
as well, or as long as from scratch, after the autoencoder.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import (
    save_file,  # pyright: ignore[reportUnknownVariableType] - safetensors leaves PathLike's parameter open
)
from torch import nn

from ms_core.config import ModelCard
from ms_core.errors import CheckpointError, ModelNotFoundError
from ms_core.method.checkpoint import load_adapter
from ms_core.model_dir.loading import IMAGE_ENCODER, load_image_encoder, load_sdxl
from ms_lab.mini.recipe import LATENT_CHANNELS, MiniModel, build_model
from ms_lab.mini.training_index import INDEX_FILE, load_index, save_index
from ms_lab.training.checkpoints import AVERAGE, WEIGHTS
from ms_lab.training.loop import DONE, LOG
from ms_lab.training.mini import SIZES, WHITENED, MiniRecipe
from ms_lab.training.reference_stage import ReferenceReading
from ms_lab.training.widening import load_widened

ORIGIN, TRAINING_LOG = "origin.json", "training_log.jsonl"
READ_STAGES = ("vae", "references")
BASE_PARTS = ("unet", "text_encoder", "text_encoder_2", "adapter")

BASE_PICTURES, LEARNING_RATE = 12_800, 1e-4


def begin_from(directory: Path, folder: Path, thorough: bool = False) -> None:
    """Lay a trained model into the folder of a run; nothing is done if that was done before.

    Args:
        directory: of a model that ``msd train mini`` made, perhaps with fewer tokens or latent channels.
        folder: of the run, without any stage yet.
        thorough: whether the autoencoder is trained further, too.

    Raises:
        ModelNotFoundError, CheckpointError: the directory holds no model that can be loaded.
        CheckpointError: the run has begun in another way.
    """
    if is_continued(folder):
        if thorough == is_gentle(folder):
            raise CheckpointError(f"The run in {folder} has begun {'without' if thorough else 'with'} --thorough.")
        return
    if any((folder / stage).exists() for stage in (*READ_STAGES, "base")):
        raise CheckpointError(f"The run in {folder} has begun without --from; choose another folder with --out.")
    model = _load_model(directory, keep_latents=not thorough)
    for stage in READ_STAGES:
        (folder / stage).mkdir(parents=True)
        _copy_log(directory, folder / stage, stage)
    (folder / "references" / DONE).write_text("{}\n", encoding="utf-8")
    (folder / "base").mkdir()
    if thorough:
        _save(model.vae, folder / "vae" / WEIGHTS)
    else:
        (folder / "vae" / DONE).write_text("{}\n", encoding="utf-8")
        _save(model.vae, folder / "vae" / WHITENED)
        sizes = {"latent_channels": model.vae.config["latent_channels"]}
        (folder / SIZES).write_text(json.dumps(sizes) + "\n", encoding="utf-8")
    _save(ReferenceReading(model), folder / "references" / AVERAGE)
    _save(nn.ModuleDict({name: getattr(model, name) for name in BASE_PARTS}), folder / "base" / WEIGHTS)
    shutil.copytree(directory / "tokenizer", folder / "tokenizer")
    # Written last: a folder that was left half filled is not taken for a run.
    (folder / ORIGIN).write_text(json.dumps({"directory": str(directory.resolve())}) + "\n", encoding="utf-8")


def is_continued(folder: Path) -> bool:
    """Whether the run in a folder goes on from a trained model."""
    return (folder / ORIGIN).is_file()


def is_gentle(folder: Path) -> bool:
    """Whether the run goes on from a model whose autoencoder it keeps."""
    return is_continued(folder) and not (folder / "vae" / WEIGHTS).is_file()


def gentle(recipe: MiniRecipe) -> MiniRecipe:
    """The recipe for going on: a sixth of the learning rate and fewer pictures, so that little is forgotten."""
    return replace(
        recipe,
        base=replace(recipe.base, pictures=BASE_PICTURES, learning_rate=LEARNING_RATE),
    )


def add_origin(folder: Path, directory: Path) -> None:
    """Tell in a model that a continued run has made what it goes on from: in its card, and in its training index."""
    origin = Path(json.loads((folder / ORIGIN).read_text(encoding="utf-8"))["directory"])
    card, before = ModelCard.load(directory), ModelCard.load(origin)
    replace(card, training=card.training | {"from": {"name": before.name, **before.training}}).save(directory)
    seen = {sprite.sha256: sprite for sprite in (*load_index(origin), *load_index(directory))}
    save_index(list(seen.values()), directory)


def _load_model(directory: Path, keep_latents: bool) -> MiniModel:
    """A trained model with its weights in float32, with as many tokens as today's, and its own latents or today's."""
    for name in (TRAINING_LOG, INDEX_FILE):
        if not (directory / name).is_file():
            raise ModelNotFoundError(f"{directory.name} was not made by msd train mini: it lacks its {name}.")
    pipeline = load_sdxl(directory, torch.float32)
    trained = {name: getattr(pipeline, name) for name in ("vae", "unet", "text_encoder", "text_encoder_2")}
    trained[IMAGE_ENCODER] = load_image_encoder(directory / IMAGE_ENCODER, torch.float32)
    trained["adapter"] = load_adapter(directory, pipeline.unet, ModelCard.load(directory))
    channels = trained["vae"].config.get("latent_channels", LATENT_CHANNELS) if keep_latents else LATENT_CHANNELS
    model = build_model(pipeline.tokenizer, latent_channels=channels)
    try:
        for name, part in trained.items():
            load_widened(getattr(model, name), part.state_dict())
    except RuntimeError as error:
        raise CheckpointError(
            f"{directory.name} has not the sizes that msd train mini trains, so nothing can go on from it: {error}"
        ) from error
    return model


def _copy_log(directory: Path, folder: Path, stage: str) -> None:
    """The rows of one stage from the model's training log, which say how that stage was trained."""
    lines = (directory / TRAINING_LOG).read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if json.loads(line)["stage"] == stage]
    (folder / LOG).write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")


def _save(module: nn.Module, path: Path) -> None:
    save_file({name: value.contiguous() for name, value in module.state_dict().items()}, path)
