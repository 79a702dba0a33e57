"""The first stage: one piece of footage to clips, with what its notes say of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain

from ms_lab.data.clips.pictures import clips_of_pictures
from ms_lab.data.clips.shots import clips_of_video
from ms_lab.data.config import ClipConfig
from ms_lab.data.items import Clip, Frame, Source, content_id
from ms_lab.data.sources import Footage, Notes, SourceError


@dataclass(frozen=True, slots=True)
class Fault:
    """Footage, or one picture of it, that cannot be used.

    Attributes:
        path: as the user gave it; for people, never part of an id.
        reason: short and stable.
        detail: a sentence.
    """

    path: str
    reason: str
    detail: str


def read_clips(footage: Footage, config: ClipConfig, across_clips: bool = False) -> Iterator[Clip | Fault]:
    """All clips of a piece of footage, and what of it cannot be used; never raises for bad footage.

    Args:
        across_clips: all clips of the source become one, so that entities are matched between them.
    """
    items = _read(footage, config)
    if not across_clips:
        yield from items
        return
    clips: list[Clip] = []
    for item in items:
        if isinstance(item, Fault):
            yield item
        else:
            clips.append(item)
    if clips:
        yield join_clips(clips)


def _read(footage: Footage, config: ClipConfig) -> Iterator[Clip | Fault]:
    try:
        notes = footage.notes()
        source = footage.source(notes)
        if footage.kind == "video":
            for clip in clips_of_video(footage.path, source, config):
                yield _captioned(clip, notes)
            return
        for item in clips_of_pictures(footage, source, notes, config):
            if isinstance(item, Clip):
                yield item
            else:
                yield Fault(str(footage.path / item[0]), item[1].reason, item[1].detail)
    except SourceError as error:
        yield Fault(str(footage.path), error.reason, error.detail)
    except MemoryError:
        yield Fault(str(footage.path), "out_of_memory", "There was not enough memory to decode it.")


def _captioned(clip: Clip, notes: Notes) -> Clip:
    """The clip with the notes' caption of its middle in all frames."""
    caption = notes.caption_at((clip.start_s + clip.end_s) / 2)
    return replace(clip, frames=tuple(replace(frame, caption=caption) for frame in clip.frames))


def join_clips(clips: list[Clip]) -> Clip:
    """All clips of one source as one."""
    frames: tuple[Frame, ...] = tuple(chain.from_iterable(clip.frames for clip in clips))
    source: Source = clips[0].source
    return Clip(content_id("clips", *(clip.id for clip in clips)), source, clips[0].start_s, clips[-1].end_s, frames)
