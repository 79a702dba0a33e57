"""``msd train adapter``: a model directory, a set of samples and a configuration to checkpoints that can be served."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ms_core.config import ModelCard
from ms_core.device.devices import multiplies_bfloat16
from ms_core.device.modes import MemorySetting
from ms_core.errors import InvalidInputError
from ms_core.method.adapter import MSAdapter, cross_attention_layers
from ms_core.sampling.pipeline import MSDiffusionPipeline
from ms_lab.data.settings import differences
from ms_lab.data.writing.files import write_whole
from ms_lab.data.writing.sample_index import SampleIndex
from ms_lab.data.writing.shards import HELDOUT, TRAIN
from ms_lab.training.adapter.batches import SampleBatch, Samples, SampleStream, require_batch
from ms_lab.training.adapter.cache import is_cache, read_cache
from ms_lab.training.adapter.config import AdapterConfig, load_config
from ms_lab.training.adapter.encoding import Blanks, SampleEncoder
from ms_lab.training.adapter.model_checkpoints import CHECKPOINTS, CONFIG, ModelCheckpoints
from ms_lab.training.adapter.objective import NoiseObjective
from ms_lab.training.adapter.samples import Size, require_size
from ms_lab.training.adapter.sheet import draw_sheet
from ms_lab.training.adapter.sources import EncodedSamples, PictureSamples
from ms_lab.training.adapter.stage import AdapterStage, HeldOut
from ms_lab.training.loop import DONE, Trainer, seed_everything
from ms_lab.training.team import ALONE, Team, launched_team, require_cpu, run_team

TENSORBOARD = "tensorboard"
START_NEW = "new"


@dataclass(frozen=True, slots=True)
class _Set:
    """A set of samples, opened for a model."""

    train: Samples
    held_out: Samples
    pictures: PictureSamples
    blanks: Blanks


class AdapterTraining:
    """One run in one folder: ``checkpoints``, ``log.jsonl``, sheets, ``tensorboard`` and ``config.toml``."""

    def __init__(
        self,
        config: AdapterConfig,
        directory: Path,
        folder: Path,
        device: torch.device | str = "cpu",
        team: Team = ALONE,
    ) -> None:
        """Load the model and look at the set.

        Args:
            config: everything that decides the run.
            directory: of the model.
            folder: of the run.
            device: to train on.
            team: the processes that train together.

        Raises:
            InvalidInputError: a sample, the configuration, or both together cannot be used.
            ModelNotFoundError, CheckpointError: the same of the model.
        """
        self.config, self.folder, self.team = config, folder, team
        self.device = torch.device(device)
        if team.leads:
            require_same_run(folder, config)
        card = ModelCard.load(directory)
        in_bf16 = self.device.type == "cuda" and config.train.precision == "bf16" and multiplies_bfloat16(self.device)
        dtype = torch.bfloat16 if in_bf16 else torch.float32
        memory = memory_setting(self.device, is_cache(Path(config.data.folder)))
        self.pipeline = MSDiffusionPipeline.from_pretrained(directory, self.device, dtype, memory)
        if config.start == START_NEW:
            begin_anew(self.pipeline.adapter, self.pipeline.unet, config.train.seed)
        if config.train.gradient_checkpointing:
            self.pipeline.unet.enable_gradient_checkpointing()
            self.pipeline.unet.train()
        self.set = open_set(config, directory, self.pipeline)
        require_batch(len(self.set.train), config.train.batch_size)
        objective = NoiseObjective(self.pipeline.components.scheduler.config, config.train.min_snr_gamma)
        self.stage = AdapterStage(
            self.pipeline, objective, self.set.blanks, config.drops.rates, config.train.seed, self._held_out()
        )
        self.checkpoints = ModelCheckpoints(
            folder / CHECKPOINTS, directory, card, config.to_toml(), config.checkpoints.keep
        )
        self.trainer = Trainer(
            self.stage,
            config.stage(),
            folder,
            self.device,
            team,
            self.checkpoints,
            folder / TENSORBOARD if config.log.tensorboard else None,
            config.data.loaders,
        )

    def run(self, minutes: float | None = None) -> bool:
        """Train until the run is done, or for ``minutes``; returns whether it is done. Errors as ``Trainer.run``."""
        return self.trainer.run(partial(SampleStream, self.set.train), minutes, self._keep_config)

    def _keep_config(self) -> None:
        write_whole(self.folder / CONFIG, self.config.to_toml().encode())

    def _held_out(self) -> HeldOut:
        count = min(self.config.log.held_out, len(self.set.held_out))
        if count == 0 or not self.team.leads:
            return HeldOut()
        numbers = spread(count, len(self.set.held_out))
        batch = SampleBatch(tuple(self.set.held_out[number] for number in numbers), tuple(range(count)))
        shown = [self.set.pictures.record(number) for number in numbers[: self.config.log.pictures]]
        size = Size(self.config.data.height, self.config.data.width)
        draw = partial(draw_sheet, self.pipeline, shown, size, self.config.log.picture_steps) if shown else None
        return HeldOut(batch, draw)


def require_same_run(folder: Path, config: AdapterConfig) -> None:
    """Check that the run in a folder, if there is one, began with this configuration.

    Raises:
        InvalidInputError: it began with another one, or for another model.
    """
    path = folder / CONFIG
    if not path.is_file():
        return
    differing = sorted(differences(load_config(path).deciding(), config.deciding()))
    if differing:
        raise InvalidInputError(
            f"The run in {folder} began with another configuration: {', '.join(differing)}. Use that one, which is in its "
            f"{CONFIG}, or another folder with --out."
        )


def spread(count: int, among: int) -> list[int]:
    """So many numbers, evenly among all: neighbours are often of one video, and would show each other's subject."""
    return [number * among // count for number in range(count)]


def memory_setting(device: torch.device, cached: bool) -> MemorySetting:
    """Which parts of the model stay on a device that trains: on a cache, encoders come only for sample sheets."""
    if device.type == "cpu":
        return "cpu"
    return "12gb" if cached else "24gb"


def begin_anew(adapter: MSAdapter, unet: Any, seed: int) -> None:
    """Give an adapter the weights that the paper's training begins with: random ones, and the text's projections."""
    seed_everything(seed)
    fresh = MSAdapter(adapter.resampler.config, cross_attention_layers(unet), adapter.dummy_tokens.shape[1])
    adapter.resampler.load_state_dict(fresh.resampler.state_dict())
    adapter.copy_text_projections(unet)


def open_set(config: AdapterConfig, directory: Path, pipeline: MSDiffusionPipeline) -> _Set:
    """The samples of a configuration's set, from pictures or from a cache.

    Raises:
        InvalidInputError: a sample cannot be used, the size does not fit the base, or the cache is of another model or size.
        ModelNotFoundError, CheckpointError: there are no samples, or a shard is damaged.
    """
    folder, size = Path(config.data.folder), Size(config.data.height, config.data.width)
    require_size(size, pipeline.components.vae_scale_factor)
    train, held_out = SampleIndex(folder, TRAIN), SampleIndex(folder, HELDOUT)
    preprocessor = pipeline.conditioner.reader.preprocessor
    pictures = PictureSamples(held_out, size, preprocessor)
    blanks = read_cache(folder, directory, size)
    if blanks is not None:
        return _Set(EncodedSamples(train), EncodedSamples(held_out), pictures, blanks)
    encoder = SampleEncoder(pipeline)
    return _Set(PictureSamples(train, size, preprocessor), pictures, pictures, encoder.blanks())


def train_adapter(  # noqa: PLR0913 - what a run is made of
    config: AdapterConfig, directory: Path, folder: Path, device: str, processes: int = 1, minutes: float | None = None
) -> bool:
    """Train in this process, in those that ``accelerate launch`` or ``torchrun`` started with it, or in new ones on the CPU.

    Args:
        config: everything that decides the run.
        directory: of the model.
        folder: of the run; it lies where all processes see it.
        device: cpu or cuda; launched processes take one GPU each.
        processes: to start here, on the CPU; they train together.
        minutes: to train for, at most.

    Returns:
        Whether the run is done.

    Raises:
        InvalidInputError: processes are to be started beside a GPU, or cannot share a batch.
    """
    require_cpu(device, processes)
    # Before any of them is started: there may be thousands by mistake.
    config.stage().micro_batches(processes)
    if processes > 1:
        run_team(processes, _train_in_team, config, directory, folder, minutes)
        # What the team has written says whether it is done.
        return (folder / DONE).is_file()
    with launched_team(device) as (team, own_device):
        return AdapterTraining(config, directory, folder, own_device, team).run(minutes)


def _train_in_team(team: Team, config: AdapterConfig, directory: Path, folder: Path, minutes: float | None) -> None:
    AdapterTraining(config, directory, folder, team=team).run(minutes)
