"""Captions of clips: those of the footage's notes, or a model's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ms_lab.data.config import PipelineConfig
from ms_lab.data.items import Clip, Frame
from ms_lab.data.parts import Captioner, load_part
from ms_lab.data.stages.base import all_frames, with_frames


class CaptionStage:
    """Gives every frame a caption."""

    def __init__(self, config: PipelineConfig) -> None:
        self.config = config.caption
        self.captioner: Captioner = load_part(config.caption, "caption")

    def __call__(self, clips: Sequence[Clip]) -> list[Clip]:
        asked = [frame for frame in self._asked(clips) if not (self.config.prefer_notes and frame.caption)]
        texts = self.captioner.caption(asked) if asked else []
        said = {frame.id: tidy(text) for frame, text in zip(asked, texts, strict=True)}
        of_clip = {frame.clip: said[frame.id] for frame in asked}
        return with_frames(clips, [self._captioned(frame, said, of_clip) for frame in all_frames(clips)])

    def _asked(self, clips: Sequence[Clip]) -> list[Frame]:
        """The frames whose captions are wanted; in joined clips, of each that was joined."""
        frames = all_frames(clips)
        if self.config.frames == "every":
            return frames
        groups: dict[str, list[Frame]] = {}
        for frame in frames:
            groups.setdefault(frame.clip, []).append(frame)
        return [group[len(group) // 2] for group in groups.values()]

    def _captioned(self, frame: Frame, said: dict[str, str], of_clip: dict[str, str]) -> Frame:
        if self.config.prefer_notes and frame.caption:
            return replace(frame, caption=tidy(frame.caption))
        text = said.get(frame.id) if self.config.frames == "every" else of_clip.get(frame.clip)
        return replace(frame, caption=text or "")


def tidy(text: str) -> str:
    """A caption on one line."""
    return " ".join(text.split())
