"""Training one variant of the small model: UNet, text encoders and adapter from random weights, at 64 px.

VAE and image encoder are a trained model's. All else starts from random weights that the seed decides, and is the same for all
variants wherever they have it; so are scenes, noise and what is dropped.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from safetensors.torch import (
    load_file,  # pyright: ignore[reportUnknownVariableType] - safetensors leaves PathLike's parameter open
)
from torch import nn
from transformers import CLIPTokenizer

from ms_core.method.attention import explicit_attention
from ms_core.model_dir.loading import IMAGE_ENCODER, load_image_encoder, load_vae
from ms_lab.ablation.variants import VARIANTS
from ms_lab.mini.batches import SceneStream, Share
from ms_lab.mini.random_scenes import PLAIN_SCENES, SceneKind, SceneOdds
from ms_lab.mini.recipe import MiniModel, build_model
from ms_lab.mini.sprites import SpritePack
from ms_lab.training.checkpoints import AVERAGE
from ms_lab.training.denoising_stage import DenoisingStage
from ms_lab.training.loop import DONE, LOG, StageConfig, Trainer, seed_everything
from ms_lab.training.mini import FULL, HELD_OUT_SEED, train_ready
from ms_lab.training.warm_start import BASE_PARTS

SIDE = 64  # pixels
PICTURES = 20_000
# 16 tokens a subject, as in the paper; the more of today's small model are for larger pictures.
TOKENS_A_SIDE = 4
ODDS = SceneOdds(kinds=(SceneKind(1.0, SIDE, SIDE),))
_TELEMETRY_ODDS = replace(PLAIN_SCENES, kinds=ODDS.kinds)
# Steps of warm-up, and the least number of pictures for each of them.
_WARMUP, _PICTURES_PER_WARMUP_STEP = 100, 64


def build_variant(origin: Path, name: str, seed: int) -> MiniModel:
    """A variant with random weights, its adapter installed.

    Args:
        origin: directory of the model whose VAE, image encoder and tokenizer it has.
        name: a key of ``VARIANTS``.
        seed: of the weights.

    Raises:
        ModelNotFoundError, CheckpointError: the origin cannot be loaded.
    """
    vae, tokenizer = load_vae(origin), cast("Any", CLIPTokenizer).from_pretrained(origin / "tokenizer")
    image_encoder: Any = load_image_encoder(origin / IMAGE_ENCODER, vae.dtype)
    seed_everything(seed)
    model = train_ready(build_model(tokenizer, explicit_attention, vae.config["latent_channels"], TOKENS_A_SIDE))
    model.adapter.copy_text_projections(model.unet)
    model.vae.load_state_dict(vae.state_dict())
    model.image_encoder.load_state_dict(image_encoder.state_dict())
    for fixed in (model.vae, model.image_encoder):
        fixed.requires_grad_(False)
    # After all weights that the variants share, so that each draws the same for them.
    VARIANTS[name].change(model)
    return model


class VariantStage(DenoisingStage):
    """The stage ``base`` of ``msd train mini`` without its sheets: an ablation has sheets of its own."""

    def sheet(self) -> None:
        """No samples while it trains."""


def trained_parts(model: MiniModel) -> nn.ModuleDict:
    """UNet, text encoders and adapter together."""
    return nn.ModuleDict({name: getattr(model, name) for name in BASE_PARTS})


def stage_of(model: MiniModel, held_out: SpritePack, telemetry_scenes: int) -> VariantStage:
    """The stage of a variant; its telemetry looks at so many scenes of ``held_out``."""
    scenes = SceneStream(held_out, _TELEMETRY_ODDS, Share(telemetry_scenes, HELD_OUT_SEED))
    return VariantStage(model, trained_parts(model), scenes.batch(0))


def config_of(seed: int, pictures: int, batch_size: int = FULL.base.batch_size) -> StageConfig:
    """How long and how fast a variant trains: as the stage ``base``."""
    warmup = max(1, min(_WARMUP, pictures // _PICTURES_PER_WARMUP_STEP))
    return replace(FULL.base, pictures=pictures, batch_size=batch_size, seed=seed, warmup=warmup)


def train_variant(
    folder: Path, stage: DenoisingStage, pack: SpritePack, config: StageConfig, minutes: float | None = None
) -> bool:
    """Train, or go on with, a run in its folder, and leave its averaged weights in the model.

    Args:
        folder: of the run.
        stage: of ``stage_of``, with a fresh model.
        pack: artwork to train on.
        config: of ``config_of``.
        minutes: to train for, at most.

    Returns:
        Whether the run is done; if not, the weights are those of its last step.
    """
    if not (folder / DONE).is_file() and not Trainer(stage, config, folder).run(
        partial(SceneStream, pack, ODDS), minutes
    ):
        return False
    stage.trained.load_state_dict(load_file(folder / AVERAGE))
    return True


def training_facts(folder: Path) -> dict[str, float]:
    """Pictures, minutes and last telemetry of a run, from its log."""
    rows = [json.loads(line) for line in (folder / LOG).read_text(encoding="utf-8").splitlines()]
    facts: dict[str, float] = {}
    for row in rows:
        facts |= {key: value for key, value in row.items() if key.startswith(("inside_", "reference_gain_"))}
    return {"pictures": rows[-1]["pictures"], "minutes": round(rows[-1]["seconds"] / 60, 1), **facts}
