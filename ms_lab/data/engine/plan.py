"""What a run would do: what is there, on what it would run, how long and how large, from the first items measured."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import av.error

from ms_lab.data.clips.reading import Fault, read_clips
from ms_lab.data.clips.shots import count_parts
from ms_lab.data.config import STAGES, PipelineConfig, Resources
from ms_lab.data.engine.batches import run_batch
from ms_lab.data.engine.run import check_models
from ms_lab.data.engine.tally import READ, WRITE
from ms_lab.data.items import Clip
from ms_lab.data.sources import Footage, find_footage
from ms_lab.data.stages.base import build_stages
from ms_lab.data.writing.parts import write_part

MEASURED_ITEMS = 100


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run would do.

    Attributes:
        videos, folders, pictures: how much footage there is; ``hours`` of the videos that say how long they are.
        clips: about how many clips it gives.
        measured: clips of which the numbers below come.
        seconds: of each stage for one clip, on one core or GPU.
        total_s: of all clips on this machine.
        output_bytes: of all shards.
        samples: of all clips.
        runs_on: what each stage is given.
    """

    videos: int
    folders: int
    pictures: int
    hours: float
    clips: int
    measured: int
    seconds: dict[str, float]
    total_s: float
    output_bytes: int
    samples: int
    runs_on: dict[str, str]


def in_words(seconds: float) -> str:
    """A time in hours, or in minutes if it is less than two hours."""
    return f"{seconds / 3600:.1f} h" if seconds >= 7200 else f"{seconds / 60:.1f} min"


def make_plan(inputs: Sequence[Path], config: PipelineConfig, cores: int, most: int = MEASURED_ITEMS) -> Plan:
    """Run the first clips through all stages in this process, and reckon up the rest; nothing is kept.

    Raises:
        InvalidInputError: there is no footage.
        ModelNotFoundError: a model is not on this machine.
    """
    # The import takes seconds.
    import torch

    has_gpu = torch.cuda.is_available()
    footage = find_footage(inputs)
    check_models(config)
    hours = sum(_hours(piece.path) for piece in footage if piece.kind == "video")
    pictures = sum(len(piece.pictures()) for piece in footage if piece.kind == "pictures")
    seconds, measured, covered_h, size, samples = _measure(footage, config, most)
    videos = sum(piece.kind == "video" for piece in footage)
    clips = _count_clips(measured, covered_h, hours, pictures, config)
    each = sum(seconds.values())
    return Plan(
        videos=videos,
        folders=len(footage) - videos,
        pictures=pictures,
        hours=round(hours, 3),
        clips=clips,
        measured=measured,
        seconds=seconds,
        total_s=clips * each / max(1, cores),
        output_bytes=round(clips * size / max(1, measured)),
        samples=round(clips * samples / max(1, measured)),
        runs_on={name: given_to(getattr(config.resources, name), has_gpu) for name in (READ, *STAGES)},
    )


def _measure(
    footage: Sequence[Footage], config: PipelineConfig, most: int
) -> tuple[dict[str, float], int, float, int, int]:
    """Seconds a clip of each stage, clips, hours of footage that they cover, and bytes and samples that they give."""
    begun = time.monotonic()
    stream = itertools.chain.from_iterable(read_clips(piece, config.clips) for piece in footage)
    clips = list(itertools.islice((item for item in stream if not isinstance(item, Fault)), most))
    count = max(1, len(clips))
    seconds = {READ: (time.monotonic() - begun) / count}
    hours = sum(clip.end_s - clip.start_s for clip in clips) / 3600
    for name, stage in build_stages(config).items():
        begun = time.monotonic()
        batch = getattr(config.resources, name).batch
        done: list[Clip] = []
        for start in range(0, len(clips), batch):
            done += run_batch(name, stage, clips[start : start + batch])[0]
        clips = done
        seconds[name] = (time.monotonic() - begun) / count
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        size = sum(write_part(Path(folder), clip, config.write).stat().st_size for clip in clips)
    seconds[WRITE] = (time.monotonic() - begun) / count
    return seconds, len(clips), hours, size, sum(len(clip.samples) for clip in clips)


def _count_clips(measured: int, covered_h: float, hours: float, pictures: int, config: PipelineConfig) -> int:
    """All clips: as dense as the measured ones, or, where those are pictures, one for each picture."""
    if covered_h <= 0:
        return max(measured, pictures) + count_parts(hours * 3600, config.clips) * (hours > 0)
    return max(measured, round(measured * hours / covered_h)) + pictures


def _hours(path: Path) -> float:
    """How long a video says it is; 0 if it says nothing."""
    try:
        opened: Any = av.open(str(path.absolute()))
    except (av.error.FFmpegError, OSError):
        return 0.0
    with opened as container:
        return (container.duration or 0) / av.time_base / 3600


def given_to(resources: Resources, has_gpu: bool) -> str:
    """What a stage is given, in words; as in a run, GPUs only where there is one."""
    if not resources.actors:
        # Tasks reserve parts of cores, so that reading and the other stages share all of them.
        return "all cores"
    what = f"{resources.gpus:g} GPU" if resources.gpus and has_gpu else f"{resources.cpus:g} core"
    return f"{resources.actors} x {what}, {resources.batch} clips at once"
