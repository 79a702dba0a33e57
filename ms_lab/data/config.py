"""The pipeline's configuration: one TOML file with every threshold; what a user gives is laid over ``default.toml``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ms_lab.data.settings import Section, load_settings

STAGES = ("caption", "entities", "grounding", "masks", "match", "filter", "choose")
DEFAULT = Path(__file__).with_name("default.toml")
FilterName = Literal[
    "not_in_caption",
    "size",
    "border",
    "blur",
    "overlap",
    "text",
    "unsafe",
    "box_fit",
    "match_weak",
    "too_alike",
    "same_moment",
    "near_duplicate",
]


class StageClasses(Section):
    """``module:Class`` of each stage."""

    caption: str
    entities: str
    grounding: str
    masks: str
    match: str
    filter: str
    choose: str


class ClipConfig(Section):
    """How footage is cut and looked at; comments are in ``default.toml``, as for all sections."""

    shot_threshold: float = Field(gt=0)
    min_clip_s: float = Field(ge=0)
    max_clip_s: float = Field(gt=0)
    frames_per_clip: int = Field(ge=1)
    looks_per_s: float = Field(gt=0)
    max_side: int = Field(ge=32)
    max_pixels: int = Field(ge=1)
    pictures: Literal["pictures", "frames"]
    picture_frames_per_s: float = Field(gt=0)


class PartConfig(Section):
    """A part that can be exchanged: ``module:Class`` and its keyword arguments."""

    use: str
    options: dict[str, Any] = Field(default_factory=dict)


class CaptionConfig(PartConfig):
    """Captions."""

    prefer_notes: bool
    frames: Literal["middle", "every"]


class EntityConfig(Section):
    """Noun phrases."""

    max_entities: int = Field(ge=1)


class GroundingConfig(PartConfig):
    """Boxes of the phrases."""

    max_detections: int = Field(ge=1)
    same_phrase_iou: float = Field(gt=0, le=1)
    any_phrase_iou: float = Field(gt=0, le=1)


class MatchConfig(PartConfig):
    """The same entity at other moments."""

    across_clips: bool


class ChooseConfig(Section):
    """Which target, which references."""

    max_subjects: int = Field(ge=1, le=4)
    samples_per_clip: int = Field(ge=1)
    reference: Literal["largest", "nearest"]
    min_gap_s: float = Field(ge=0)
    single_frame_samples: bool


class FilterConfig(Section):
    """Thresholds of the filters."""

    enabled: bool
    off: tuple[FilterName, ...]
    floor: float = Field(ge=-1, le=1)
    ceiling: float = Field(ge=-1, le=1)
    same_pixels: float = Field(ge=-1, le=1)
    min_area: float = Field(ge=0, le=1)
    max_area: float = Field(ge=0, le=1)
    min_sharpness: float = Field(ge=0)
    clear_edges: float = Field(ge=0)
    faint_edges: float = Field(ge=0)
    min_faint_sharpness: float = Field(ge=0)
    min_edges: float = Field(ge=0)
    max_overlap: float = Field(ge=0, le=1)
    max_border: float = Field(ge=0, le=1)
    max_text: float = Field(ge=0, le=1)
    min_box_fit: float = Field(ge=0, le=1)
    min_track_fit: float = Field(ge=0, le=1)
    min_colour_fit: float = Field(ge=0, le=1)
    max_hash_distance: int = Field(ge=-1, le=64)
    unsafe_model: str
    unsafe_labels: tuple[str, ...]
    max_unsafe: float = Field(ge=0, le=1)


class WriteConfig(Section):
    """Shards."""

    picture: Literal["jpeg", "png"]
    quality: int = Field(ge=1, le=100)
    samples_per_shard: int = Field(ge=1)
    heldout_share: float = Field(ge=0, le=1)
    split_seed: int


class Resources(Section):
    """What one copy of a stage is given, its batch, and how many copies there are; 0 copies: as many as there are cores."""

    cpus: float = Field(ge=0)
    gpus: float = Field(ge=0)
    batch: int = Field(ge=1)
    actors: int = Field(ge=0)


class StageResources(Section):
    """Resources of every stage."""

    clips: Resources
    caption: Resources
    entities: Resources
    grounding: Resources
    masks: Resources
    match: Resources
    filter: Resources
    choose: Resources


class PipelineConfig(Section):
    """Everything that decides a run."""

    version: int
    stages: StageClasses
    clips: ClipConfig
    caption: CaptionConfig
    entities: EntityConfig
    grounding: GroundingConfig
    masks: PartConfig
    match: MatchConfig
    choose: ChooseConfig
    filters: FilterConfig
    write: WriteConfig
    resources: StageResources

    def digest(self) -> str:
        """Of all that can change what a run writes; resources cannot."""
        content = self.model_dump(mode="json", exclude={"resources"})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def load_config(path: Path | None = None, changes: Mapping[str, Any] | None = None) -> PipelineConfig:
    """The default configuration with a file's and then further changes laid over it; errors as ``load_settings``."""
    return load_settings(PipelineConfig, DEFAULT, path, changes)
