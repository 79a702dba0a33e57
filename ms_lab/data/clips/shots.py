"""Videos to clips: shots by PySceneDetect, cut to a usable length, with frames at equal distances."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from scenedetect import (  # pyright: ignore[reportMissingTypeStubs] - it has none
    ContentDetector,
    FrameTimecode,
)

from ms_lab.data.clips.video import VideoFrame, kept_pixels, read_frames
from ms_lab.data.config import ClipConfig
from ms_lab.data.items import Clip, Frame, Pixels, Source, content_id, microseconds

# Times to the detector are counted in these, so that variable rates need no rate of their own.
_TICKS_PER_S = 1000


class Look(NamedTuple):
    """A frame that may become one of a clip."""

    time_s: float
    pixels: Pixels


def clips_of_video(path: Path, source: Source, config: ClipConfig) -> Iterator[Clip]:
    """The clips of a video, one after another.

    Raises:
        SourceError: nothing can be decoded.
    """
    for start_s, end_s, looks in _shots(path, config):
        yield from _cut(source, start_s, end_s, looks, config)


def _shots(path: Path, config: ClipConfig) -> Iterator[tuple[float, float, list[Look]]]:
    """Start, end and looks of each shot; the last one ends with its last frame."""
    detector = ContentDetector(config.shot_threshold, min_scene_len=1)
    start_s, last_s, step_s = None, 0.0, 0.04
    looks: list[Look] = []
    for frame in read_frames(path):
        if start_s is None:
            start_s = frame.time_s
        elif _cuts(detector, frame):
            yield start_s, frame.time_s, looks
            start_s, looks = frame.time_s, []
        elif frame.time_s > last_s:
            step_s = frame.time_s - last_s
        if not looks or frame.time_s >= looks[-1].time_s + 1 / config.looks_per_s - 1e-6:
            looks.append(Look(frame.time_s, kept_pixels(frame.decoded, config.max_side)))
        if frame.time_s - start_s >= config.max_clip_s:
            yield start_s, frame.time_s, looks[:-1] or looks
            start_s, looks = frame.time_s, looks[-1:]
        last_s = frame.time_s
    if start_s is not None and looks:
        yield start_s, last_s + step_s, looks


def _cuts(detector: ContentDetector, frame: VideoFrame) -> bool:
    """Whether a new shot begins with this frame."""
    timecode = FrameTimecode(max(0, round(frame.time_s * _TICKS_PER_S)), Fraction(_TICKS_PER_S))
    return bool(detector.process_frame(timecode, frame.look))


def _cut(source: Source, start_s: float, end_s: float, looks: list[Look], config: ClipConfig) -> Iterator[Clip]:
    """The clip of a shot; none if it is too short, but a single picture is a clip of one frame."""
    if len(looks) > 1 and end_s - start_s < config.min_clip_s:
        return
    chosen = equally_distant([look.time_s for look in looks], start_s, end_s, config.frames_per_clip)
    yield make_clip(source, start_s, end_s, [looks[index] for index in chosen])


def equally_distant(times: list[float], start_s: float, end_s: float, count: int) -> list[int]:
    """Indexes of the times nearest to the middles of ``count`` equal parts; each once."""
    middles = [start_s + (end_s - start_s) * (part + 0.5) / count for part in range(count)]
    nearest = {min(range(len(times)), key=lambda index: (abs(times[index] - middle), index)) for middle in middles}
    return sorted(nearest)


def make_clip(source: Source, start_s: float, end_s: float, looks: list[Look]) -> Clip:
    """A clip and its frames, with the ids of their content and times."""
    clip_id = content_id("clip", source.content, microseconds(start_s), microseconds(end_s))
    frames = tuple(
        Frame(content_id("frame", source.content, microseconds(look.time_s)), clip_id, look.time_s, look.pixels)
        for look in looks
    )
    return Clip(clip_id, source, start_s, end_s, frames)


def count_parts(duration_s: float, config: ClipConfig) -> int:
    """How many clips a video of one shot gives."""
    return max(1, math.ceil(duration_s / config.max_clip_s))
