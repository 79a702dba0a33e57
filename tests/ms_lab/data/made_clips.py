"""Small clips and videos for the tests of the data pipeline."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np

from ms_core.spec import Box
from ms_lab.data.config import PipelineConfig, load_config
from ms_lab.data.items import Clip, Detection, Frame, Place, Source
from ms_lab.data.run_lengths import run_lengths
from ms_lab.data.stages.choose import ChooseStage
from ms_lab.data.stages.filter import FilterStage
from ms_lab.data.stages.match import MatchStage
from ms_lab.footage.films import encode_video

NO_MODELS = {
    "caption": {"use": "tests.ms_lab.data.made_clips:Fixed", "options": {}},
    "grounding": {"use": "tests.ms_lab.data.made_clips:Fixed", "options": {}},
    "masks": {"use": "tests.ms_lab.data.made_clips:Fixed", "options": {}},
    "match": {"use": "ms_lab.data.models.colour_shape:ColourShapeMatcher", "options": {}},
    # Things that only move and grow have the same colours at every moment.
    "filters": {"ceiling": 0.999},
}
THINGS = {"red square": (220, 30, 30), "blue disc": (30, 60, 220)}


class Fixed:
    """A captioner, detector and segmenter for ``colour_clip``: things are where their colour is."""

    def caption(self, frames: list[Frame]) -> list[str]:
        return ["a red square and a blue disc on a table" for _ in frames]

    def detect(self, frames: list[Frame], phrases: list[list[str]]) -> list[list[Detection]]:
        return [
            [_found(frame, phrase) for phrase in own if phrase in THINGS]
            for frame, own in zip(frames, phrases, strict=True)
        ]

    def segment(self, frames: list[Frame]) -> list[list[np.ndarray]]:
        return [[_where(frame, found.phrase) for found in frame.detections] for frame in frames]


def config_without_models(**changes: Any) -> PipelineConfig:
    filters = {**NO_MODELS["filters"], **changes.pop("filters", {})}
    return load_config(None, {**NO_MODELS, **changes, "filters": filters})


def colour_clip(seed: int = 0, num_frames: int = 3, source: str = "s" * 24) -> Clip:
    """Two things that move and grow on a grey table, as the detector's stand-in finds them."""
    frames = []
    for number in range(num_frames):
        pixels = scene(seed, number)
        frames.append(Frame(f"{seed:02x}{number:022x}", f"{seed:024x}", float(number), pixels))
    return Clip(f"{seed:024x}", Source(source, source, "CC0-1.0", "made"), 0.0, float(num_frames), tuple(frames))


def scene(seed: int, number: int, side: int = 96) -> np.ndarray:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(110, 150, (side // 8, side // 8, 3)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
    y, x = 8 + int(rng.integers(0, 8)) + 3 * number, 8 + int(rng.integers(0, 8)) + 2 * number
    size = 26 + 3 * number
    pixels[y : y + size, x : x + size] = THINGS["red square"]
    bar = 4 + 6 * number
    pixels[y + bar : y + bar + 6, x + 4 : x + size - 6] = (250, 210, 40)
    rows, columns = np.mgrid[:side, :side]
    disc = (rows - 68 + number) ** 2 + (columns - 68 - number) ** 2 <= (15 + number) ** 2
    pixels[disc] = THINGS["blue disc"]
    pixels[disc & ((rows + 5 * number) % 13 < 4)] = (240, 240, 240)
    return pixels


def judged_clip(config: PipelineConfig, seed: int = 0, source: str = "s" * 24, num_frames: int = 3) -> Clip:
    """A clip that has passed all stages without models."""
    clip = colour_clip(seed, num_frames, source)
    stand_in = Fixed()
    frames = []
    for frame in clip.frames:
        frame = replace(frame, caption=stand_in.caption([frame])[0])
        found = stand_in.detect([frame], [list(THINGS)])[0]
        detections = tuple(replace(own, mask=run_lengths(_where(frame, own.phrase))) for own in found)
        frames.append(replace(frame, detections=detections))
    clips = [replace(clip, frames=tuple(frames))]
    for stage in (MatchStage(config), FilterStage(config), ChooseStage(config)):
        clips = stage(clips)
    return clips[0]


def write_video(path: Path, pictures: list[np.ndarray], frames_per_s: int = 8, **options: str) -> None:
    path.write_bytes(encode_video(pictures, frames_per_s, options))


def takes(count: int = 2, frames: int = 16, side: int = 64) -> list[np.ndarray]:
    """Pictures of takes that differ much from one another and little within."""
    pictures = []
    for take in range(count):
        base = np.random.default_rng(take).integers(0, 255, (side // 8, side // 8, 3)).astype(np.uint8)
        base = base.repeat(8, 0).repeat(8, 1)
        pictures += [np.roll(base, step // 4, 1) for step in range(frames)]
    return pictures


def count_frames(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def place(frame: int, detection: int = 0) -> Place:
    return Place(frame, detection)


def _where(frame: Frame, phrase: str) -> np.ndarray:
    own = (np.abs(frame.pixels.astype(int) - THINGS[phrase]).sum(-1) < 60).astype(np.uint8)
    rows, columns = np.flatnonzero(own.any(1)), np.flatnonzero(own.any(0))
    mask = np.zeros(own.shape, bool)
    mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    if phrase == "blue disc":
        y, x = np.mgrid[: own.shape[0], : own.shape[1]]
        middle, radius = ((rows[0] + rows[-1]) / 2, (columns[0] + columns[-1]) / 2), (rows[-1] - rows[0]) / 2 + 0.5
        mask &= (y - middle[0]) ** 2 + (x - middle[1]) ** 2 <= radius**2
    return mask


def _found(frame: Frame, phrase: str) -> Detection:
    mask = _where(frame, phrase)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = (columns[0] / 96, rows[0] / 96, (columns[-1] + 1) / 96, (rows[-1] + 1) / 96)
    return Detection(phrase, Box(*map(float, box)), 0.9)
