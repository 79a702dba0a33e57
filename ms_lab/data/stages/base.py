"""What a stage is: a pure function over a batch of clips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from ms_lab.data.config import STAGES, PipelineConfig
from ms_lab.data.items import Clip, Frame
from ms_lab.data.parts import load_class

Value = TypeVar("Value")


class Stage(Protocol):
    """One stage; it is made from the configuration once and keeps its model."""

    def __init__(self, config: PipelineConfig) -> None: ...

    def __call__(self, clips: Sequence[Clip]) -> list[Clip]:
        """The same clips, in the same order, with what this stage finds out."""
        ...


def build_stage(name: str, config: PipelineConfig) -> Stage:
    """A stage as the configuration names it.

    Raises:
        InvalidInputError: there is no such class.
        ModelNotFoundError: its model is not on this machine.
    """
    return load_class(getattr(config.stages, name), f"stages.{name}")(config)


def build_stages(config: PipelineConfig) -> dict[str, Stage]:
    """All stages in their order."""
    return {name: build_stage(name, config) for name in STAGES}


def all_frames(clips: Sequence[Clip]) -> list[Frame]:
    """The frames of all clips, in their order."""
    return [frame for clip in clips for frame in clip.frames]


def with_frames(clips: Sequence[Clip], frames: Sequence[Frame]) -> list[Clip]:
    """The clips with these frames in place of theirs, in the order of ``all_frames``."""
    left = iter(frames)
    return [replace(clip, frames=tuple(next(left) for _ in clip.frames)) for clip in clips]


def by_frame(clips: Sequence[Clip], values: Sequence[Value], change: Callable[[Frame, Value], Frame]) -> list[Clip]:
    """The clips with every frame changed by its value."""
    frames = all_frames(clips)
    return with_frames(clips, [change(frame, value) for frame, value in zip(frames, values, strict=True)])
