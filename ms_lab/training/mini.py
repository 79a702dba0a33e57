"""``msd train mini``: the three stages of the bundled model, each resumable from its own folder."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from diffusers.models.attention_processor import AttnProcessor
from safetensors.torch import (
    load_file,  # pyright: ignore[reportUnknownVariableType] - safetensors leaves PathLike's parameter open
    save_file,  # pyright: ignore[reportUnknownVariableType] - the same
)
from torch import nn
from torch.utils.data import IterableDataset
from transformers import CLIPTokenizer

from ms_core.errors import ModelNotFoundError
from ms_core.method.attention import explicit_attention
from ms_lab.mini.assemble import save_model
from ms_lab.mini.backgrounds import BACKGROUNDS
from ms_lab.mini.batches import SceneStream, Share
from ms_lab.mini.halves import VALIDATION, take_half
from ms_lab.mini.own_artwork import collect_artwork, draw_cutouts
from ms_lab.mini.painting import TREATMENTS
from ms_lab.mini.random_scenes import PLAIN_SCENES, SceneOdds
from ms_lab.mini.recipe import LATENT_CHANNELS, MiniModel, build_model, train_tokenizer
from ms_lab.mini.reference_batches import ReferenceStream
from ms_lab.mini.scenes import IN_THIS_PLACE, caption_of
from ms_lab.mini.shard_batches import ShardStream
from ms_lab.mini.sprites import SpritePack
from ms_lab.mini.training_index import save_index
from ms_lab.training.checkpoints import AVERAGE
from ms_lab.training.denoising_stage import DenoisingStage
from ms_lab.training.loop import DONE, Stage, StageConfig, Trainer, seed_everything
from ms_lab.training.reference_stage import ReferenceReading, ReferenceStage
from ms_lab.training.scene_attention import share_scenes
from ms_lab.training.team import ALONE, Team, require_cpu, run_team
from ms_lab.training.vae_stage import VAEStage, whiten_latents

STAGES = ("vae", "references", "base")
HELD_OUT_SEED = 999
TOKENIZER_CAPTIONS = 20_000
WHITENED = "whitened.safetensors"
TRAINING_PACK, SMOKE_PACK, HELD_OUT_PACK = "sprites.zip", "smoke-sprites.zip", "heldout-sprites.zip"
CUTOUTS, MODEL, SIZES = "artwork.png", "model", "sizes.json"


@dataclass(frozen=True, slots=True)
class MiniRecipe:
    """Everything that decides a training run, beside the artwork.

    Attributes:
        vae, references, base: how long and how fast each stage trains.
        odds: of what the scenes hold.
        held_out_pictures: in the batch that telemetry and sheets use.
        shards: a set of the data pipeline, that ``base`` sees in place of composed scenes; ``shard_side`` is their size.
    """

    vae: StageConfig
    references: StageConfig
    base: StageConfig
    odds: SceneOdds = SceneOdds()
    held_out_pictures: int = 64
    shards: Path | None = None
    shard_side: int = 64


FULL = MiniRecipe(
    vae=StageConfig(pictures=15_000, batch_size=8, learning_rate=8e-4, decay=0.5, seed=1),
    references=StageConfig(pictures=64_000, batch_size=64, learning_rate=1e-3, decay=0.5, seed=2),
    base=StageConfig(pictures=134_000, batch_size=16, learning_rate=6e-4, seed=3),
)
SMOKE = MiniRecipe(
    vae=StageConfig(pictures=16, batch_size=4, warmup=2),
    references=StageConfig(pictures=16, batch_size=4, warmup=2),
    base=StageConfig(pictures=8, batch_size=4, warmup=2),
    held_out_pictures=2,
)


class MiniTraining:
    """One training run in one folder: ``tokenizer/`` and a folder for each stage."""

    def __init__(  # noqa: PLR0913 - what a run is made of
        self,
        folder: Path,
        pack: SpritePack,
        held_out: SpritePack,
        recipe: MiniRecipe,
        device: torch.device | str = "cpu",
        team: Team = ALONE,
    ) -> None:
        """Prepare a run, or take up the one that stands in ``folder``.

        Args:
            folder: of the run.
            pack: artwork to train on.
            held_out: artwork for telemetry and sheets only.
            recipe: lengths and rates.
            device: to train on; a run can go on on another.
            team: the processes that train together; the folder has its tokenizer already where there are several.
        """
        self.folder, self.pack, self.recipe, self.device = folder, pack, recipe, torch.device(device)
        self.team = team
        share = Share(recipe.held_out_pictures, HELD_OUT_SEED)
        self.held_out = SceneStream(held_out, PLAIN_SCENES, share).batch(0).to(self.device)
        self.held_out_references = ReferenceStream(held_out, PLAIN_SCENES, share).batch(0).to(self.device)
        seed_everything(recipe.base.seed)
        tokenizer = prepare_tokenizer(folder, pack)
        self.model = train_ready(build_model(tokenizer, explicit_attention, read_latent_channels(folder)))
        self.reading = ReferenceReading(self.model)
        for part in self._parts():
            part.to(self.device)

    def run(self, minutes: float | None = None) -> str | None:
        """Train every stage that is not done, for ``minutes`` in all. Returns the stage that is not done yet."""
        deadline = None if minutes is None else time.monotonic() + 60 * minutes
        for name in STAGES:
            left = None if deadline is None else (deadline - time.monotonic()) / 60
            if not self.train(name, left):
                return name
        return None

    def train(self, name: str, minutes: float | None = None) -> bool:
        """Train one stage after loading the stages before it; returns whether it is done."""
        for earlier in STAGES[: STAGES.index(name)]:
            self.load(earlier)
        self._prepare(name)
        if not (self.folder / name / DONE).is_file():
            if minutes is not None and minutes <= 0:
                return False
            config: StageConfig = getattr(self.recipe, name)
            trainer: Trainer[Any] = Trainer(self._stage(name), config, self.folder / name, self.device, self.team)
            if not trainer.run(self._stream(name), minutes):
                return False
        if name == "vae" and not self._weights(name).is_file() and self.team.leads:
            self._whiten()
        self.team.wait()
        self.load(name)
        return True

    def _stream(self, name: str) -> Callable[[Share], IterableDataset[Any]]:
        """The batches of a stage."""
        if name == "base" and self.recipe.shards is not None:
            return partial(ShardStream, self.recipe.shards, self.recipe.shard_side)
        return partial(ReferenceStream if name == "references" else SceneStream, self.pack, self.recipe.odds)

    def has_come_far(self) -> bool:
        """Whether every stage has weights, if only from a checkpoint, so that there is a model to look at."""
        return all(self._weights(name).is_file() for name in STAGES)

    def save(self) -> Path:
        """Write the model as trained so far, with its training index, log and last sheet, to ``model/`` in the run's folder."""
        for name in STAGES:
            self.load(name)
        directory = self.folder / MODEL
        save_model(self.model, directory, replace(self.model.card, training=self.facts()))
        save_index(self.pack.sprites, directory)
        rows = "".join(json.dumps(row) + "\n" for row in read_log(self.folder))
        (directory / "training_log.jsonl").write_text(rows, encoding="utf-8")
        shutil.copy(max((self.folder / STAGES[-1]).glob("sheet-*.png")), directory / "training_sheet.png")
        return directory

    def facts(self) -> dict[str, Any]:
        """The card's facts about the training: pictures, minutes and last telemetry of each stage."""
        facts: dict[str, Any] = {"artists": sorted({sprite.artist for sprite in self.pack.sprites})}
        facts["sprites"], facts["concepts"] = len(self.pack), len(self.pack.by_concept)
        for name in STAGES:
            rows = [row for row in read_log(self.folder) if row["stage"] == name]
            last = rows[-1]
            facts[name] = {"pictures": last["pictures"], "minutes": round(float(last["seconds"]) / 60, 1)}
            facts[name] |= {key: value for key, value in last.items() if key not in ("stage", "pictures", "seconds")}
        return facts

    def load(self, name: str) -> None:
        """Load a stage's averaged weights, of its end or of its last checkpoint."""
        weights = self._weights(name)
        if not weights.is_file():
            raise ModelNotFoundError(f"The stage {name} has not been trained in {self.folder.name} yet.")
        self._trained(name).load_state_dict(load_file(weights))

    def _weights(self, name: str) -> Path:
        return self.folder / name / (WHITENED if name == "vae" else AVERAGE)

    def _whiten(self) -> None:
        """Whiten the latents once, so that all later stages see the same ones."""
        vae = self.model.vae
        vae.load_state_dict(load_file(self.folder / "vae" / AVERAGE))
        stream = SceneStream(self.pack, PLAIN_SCENES, Share(64, self.recipe.vae.seed))
        whiten_latents(vae, [stream.batch(number).to(self.device) for number in range(4)])
        save_file({name: value.cpu() for name, value in vae.state_dict().items()}, self._weights("vae"))

    def _trained(self, name: str) -> nn.Module:
        model = self.model
        if name == "base":
            return nn.ModuleDict(
                {
                    "unet": model.unet,
                    "text_encoder": model.text_encoder,
                    "text_encoder_2": model.text_encoder_2,
                    "adapter": model.adapter,
                }
            )
        return {"vae": model.vae, "references": self.reading}[name]

    def _parts(self) -> tuple[Any, ...]:
        """All modules that any stage trains."""
        model = self.model
        return model.vae, self.reading, model.unet, model.text_encoder_2, model.adapter

    def _prepare(self, name: str) -> None:
        """Freeze what the stage does not train."""
        for part in self._parts():
            part.requires_grad_(False)
        self._trained(name).requires_grad_(True)
        if name == "base":
            self.model.adapter.copy_text_projections(self.model.unet)

    def _stage(self, name: str) -> Stage[Any]:
        if name == "vae":
            return VAEStage(self.model.vae, self.held_out)
        if name == "references":
            return ReferenceStage(self.model, self.reading, self.held_out_references)
        return DenoisingStage(self.model, self._trained(name), self.held_out)


def train_model(  # noqa: PLR0913 - what a run is made of
    folder: Path,
    pack: SpritePack,
    held_out: SpritePack,
    recipe: MiniRecipe,
    device: str,
    processes: int,
    minutes: float | None = None,
) -> str | None:
    """Train every stage that is not done, for ``minutes`` in all, in several processes; write the model as far as it has come.

    Returns:
        The stage that is not done yet.

    Raises:
        InvalidInputError: processes are to be started beside a GPU, or cannot share a batch.
    """
    require_cpu(device, processes)
    for name in STAGES:
        getattr(recipe, name).micro_batches(processes)
    prepare_tokenizer(folder, pack)
    if processes > 1:
        run_team(processes, _train_in_team, folder, pack, held_out, recipe, minutes)
        minutes = 0.0
    training = MiniTraining(folder, pack, held_out, recipe, device)
    unfinished = training.run(minutes)
    if training.has_come_far():
        training.save()
    return unfinished


def default_processes(device: str) -> int:
    """One for each core of a CPU, four at most, as long as they share every batch evenly; one beside a GPU."""
    cores = os.cpu_count() or 1
    return max(count for count in (1, 2, 4) if count <= cores) if device == "cpu" else 1


def _train_in_team(
    team: Team, folder: Path, pack: SpritePack, held_out: SpritePack, recipe: MiniRecipe, minutes: float | None
) -> None:
    MiniTraining(folder, pack, held_out, recipe, team=team).run(minutes)


def read_latent_channels(folder: Path) -> int:
    """Of a run's latents: those of the model that it goes on from, if it keeps that one's autoencoder."""
    path = folder / SIZES
    if not path.is_file():
        return LATENT_CHANNELS
    return json.loads(path.read_text(encoding="utf-8"))["latent_channels"]


def prepare_tokenizer(folder: Path, pack: SpritePack) -> Any:
    """The run's tokenizer, learnt once from captions of the training artwork."""
    directory = folder / "tokenizer"
    if not directory.is_dir():
        train_tokenizer(training_captions(pack, TOKENIZER_CAPTIONS)).save_pretrained(directory)
    return cast("Any", CLIPTokenizer).from_pretrained(directory)


def load_artwork(folder: Path, artwork: Sequence[Path], assets: Path, smoke: bool) -> tuple[SpritePack, SpritePack]:
    """The sprites to train on and those held out: bundled ones for a smoke run, else made once in ``folder``.

    Args:
        folder: of the run.
        artwork: folders with Iconify packages or with the user's own pictures; not read once the sprites are made. How
            the latter were cut out is drawn into ``artwork.png``.
        assets: the folder of the bundled packs, which hold what is held out of the Iconify packages.
        smoke: whether this is a smoke run.

    Raises:
        ModelNotFoundError: there is no artwork.
        InvalidInputError: a folder is missing, or too few of its pictures can be used.
    """
    if smoke:
        return SpritePack.load(assets / SMOKE_PACK), _bundled_held_out(assets)
    made, own_held_out = folder / TRAINING_PACK, folder / HELD_OUT_PACK
    if not made.is_file():
        if not artwork:
            raise ModelNotFoundError("Training needs artwork: give --artwork; docs/mini.md says how to get it.")
        training, held_out = collect_artwork(artwork)
        folder.mkdir(parents=True, exist_ok=True)
        if held_out is not None:
            held_out.save(own_held_out)
            draw_cutouts([training, held_out]).save(folder / CUTOUTS)
        training.save(made)
    return SpritePack.load(made), SpritePack.load(own_held_out) if own_held_out.is_file() else _bundled_held_out(assets)


def _bundled_held_out(assets: Path) -> SpritePack:
    """What telemetry and sheets may see of the bundled held-out artwork: recipes are chosen by them."""
    return take_half(SpritePack.load(assets / HELD_OUT_PACK), VALIDATION)


def train_ready(model: MiniModel) -> MiniModel:
    """The model with its adapter installed and attention by plain products, whose backward pass is fast on a CPU."""
    for encoder in (model.text_encoder, model.text_encoder_2, model.image_encoder):
        encoder.set_attn_implementation("eager")
    model.unet.set_attn_processor(AttnProcessor())
    model.adapter.install(model.unet)
    share_scenes(model.unet)
    return model


def training_captions(pack: SpritePack, count: int) -> Iterator[str]:
    """Captions as the scenes have them, without painting any."""
    rng = np.random.default_rng(0)
    wheres, treatments = [*BACKGROUNDS, IN_THIS_PLACE], list(TREATMENTS)
    for _ in range(count):
        phrases = [pack.sprites[int(rng.integers(len(pack)))].phrase for _ in range(2)]
        yield caption_of(phrases, str(rng.choice(wheres)), str(rng.choice(treatments)))[0]


def read_log(folder: Path) -> list[dict[str, float | str]]:
    """All rows of a run's stage logs, in the order of the stages."""
    rows: list[dict[str, float | str]] = []
    for name in STAGES:
        path = folder / name / "log.jsonl"
        if path.is_file():
            rows.extend(json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return rows
