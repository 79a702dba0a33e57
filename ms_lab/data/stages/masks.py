"""Silhouettes of the detections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ms_lab.data.config import PipelineConfig
from ms_lab.data.items import Clip, Frame, Mask
from ms_lab.data.parts import Segmenter, load_part
from ms_lab.data.run_lengths import run_lengths
from ms_lab.data.stages.base import all_frames, by_frame


class MaskStage:
    """Gives every detection its mask."""

    def __init__(self, config: PipelineConfig) -> None:
        self.segmenter: Segmenter = load_part(config.masks, "masks")

    def __call__(self, clips: Sequence[Clip]) -> list[Clip]:
        frames = [frame for frame in all_frames(clips) if frame.detections]
        answers = self.segmenter.segment(frames) if frames else []
        found = {frame.id: masks for frame, masks in zip(frames, answers, strict=True)}
        return by_frame(clips, [found.get(frame.id, []) for frame in all_frames(clips)], _with_masks)


def _with_masks(frame: Frame, masks: list[Mask]) -> Frame:
    # A mask that is empty says nothing; the box then stands for it.
    detections = tuple(
        replace(detection, mask=run_lengths(mask) if mask.any() else None)
        for detection, mask in zip(frame.detections, masks, strict=True)
    )
    return replace(frame, detections=detections)
