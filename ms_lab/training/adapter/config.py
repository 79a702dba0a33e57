"""The configuration of a run of ``msd train adapter``: one TOML file, laid over ``default.toml``, which has the comments."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self, cast

from pydantic import Field, model_validator

from ms_lab.data.settings import Section, load_settings
from ms_lab.training.dropout import DropRates
from ms_lab.training.loop import StageConfig

DEFAULT = Path(__file__).with_name("default.toml")

Share = Field(ge=0, le=1)
# What may change while a run goes on, beside checkpoints and log.
_FREE = {"data": ("folder", "loaders"), "train": ("steps", "micro_batch_size", "gradient_checkpointing")}


class DataConfig(Section):
    """What is trained on."""

    folder: str
    height: int = Field(ge=8, multiple_of=8)
    width: int = Field(ge=8, multiple_of=8)
    loaders: int = Field(ge=0)


class TrainConfig(Section):
    """How long and how fast."""

    steps: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    micro_batch_size: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    warmup_steps: int = Field(ge=1)
    decay: float = Share
    weight_decay: float = Field(ge=0)
    betas: tuple[float, float]
    clip_norm: float = Field(gt=0)
    average_decay: float = Field(ge=0, lt=1)
    min_snr_gamma: float = Field(ge=0)
    precision: Literal["bf16", "float32"]
    gradient_checkpointing: bool
    seed: int = Field(ge=0)


class DropConfig(Section):
    """What pictures go without."""

    text: float = Share
    image: float = Share
    both: float = Share
    grounding: float = Share

    @model_validator(mode="after")
    def _leave_some(self) -> Self:
        if self.text + self.image + self.both > 1:
            raise ValueError("text, image and both are shares of all pictures and may be 1 together at most")
        return self

    @property
    def rates(self) -> DropRates:
        """As the trainers draw by them."""
        return DropRates(self.text, self.image, self.both, self.grounding)


class CheckpointConfig(Section):
    """When the run is saved."""

    every_steps: int = Field(ge=1)
    every_minutes: float = Field(gt=0)
    keep: int = Field(ge=1)


class LogConfig(Section):
    """What is told on the way."""

    every_steps: int = Field(ge=1)
    tensorboard: bool
    held_out: int = Field(ge=0)
    pictures: int = Field(ge=0)
    picture_steps: int = Field(ge=1)


class AdapterConfig(Section):
    """Everything that decides a run."""

    version: int
    model: str
    start: Literal["adapter", "new"]
    data: DataConfig
    train: TrainConfig
    drops: DropConfig
    checkpoints: CheckpointConfig
    log: LogConfig

    def stage(self) -> StageConfig:
        """What the training loop must know."""
        train = self.train
        return StageConfig(
            pictures=train.steps * train.batch_size,
            batch_size=train.batch_size,
            micro_batch_size=train.micro_batch_size,
            learning_rate=train.learning_rate,
            warmup=train.warmup_steps,
            decay=train.decay,
            weight_decay=train.weight_decay,
            betas=train.betas,
            clip_norm=train.clip_norm,
            average_decay=train.average_decay,
            average_every=1,
            seed=train.seed,
            checkpoint_minutes=self.checkpoints.every_minutes,
            checkpoint_steps=self.checkpoints.every_steps,
            log_every=self.log.every_steps,
            autocast=train.precision == "bf16",
        )

    def deciding(self) -> dict[str, Any]:
        """What a run that goes on must not change: all that decides its steps."""
        content = self.model_dump(mode="json", exclude={"checkpoints", "log"})
        for table, names in _FREE.items():
            for name in names:
                del content[table][name]
        return content

    def to_toml(self) -> str:
        """The whole configuration as a file that gives it again; JSON's values are TOML's here."""
        lines: list[str] = []
        tables: list[str] = []
        for name, value in self.model_dump(mode="json").items():
            if isinstance(value, dict):
                table = cast("dict[str, Any]", value)
                tables += ["", f"[{name}]", *(_line(key, own) for key, own in table.items())]
            else:
                lines.append(_line(name, value))
        lines += tables
        return "\n".join(lines) + "\n"


def _line(key: str, value: Any) -> str:
    return f"{key} = {json.dumps(value, ensure_ascii=False)}"


def load_config(path: Path | None = None, changes: Mapping[str, Any] | None = None) -> AdapterConfig:
    """The default configuration with a file's and then further changes laid over it; errors as ``load_settings``."""
    return load_settings(AdapterConfig, DEFAULT, path, changes)
