"""Where the entities are: boxes by a detector, each thing once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ms_lab.data.config import PipelineConfig
from ms_lab.data.geometry import box_iou
from ms_lab.data.items import Clip, Detection
from ms_lab.data.parts import Detector, load_part
from ms_lab.data.stages.base import all_frames, by_frame


class GroundingStage:
    """Finds every frame's entities."""

    def __init__(self, config: PipelineConfig) -> None:
        self.config = config.grounding
        self.detector: Detector = load_part(config.grounding, "grounding")

    def __call__(self, clips: Sequence[Clip]) -> list[Clip]:
        frames = [frame for frame in all_frames(clips) if frame.entities]
        phrases = [list(dict.fromkeys(entity.phrase for entity in frame.entities)) for frame in frames]
        answers = self.detector.detect(frames, phrases) if frames else []
        # Joined clips may hold the same frame twice; it has the same detections.
        found = {frame.id: self._each_once(answer) for frame, answer in zip(frames, answers, strict=True)}
        values = [found.get(frame.id, ()) for frame in all_frames(clips)]
        return by_frame(clips, values, lambda frame, detections: replace(frame, detections=detections))

    def _each_once(self, detections: Sequence[Detection]) -> tuple[Detection, ...]:
        """The detections without those that show what a better one shows; from left to right, so that ids are stable."""
        kept: list[Detection] = []
        for detection in sorted(detections, key=lambda found: (-found.score, found.box.as_tuple(), found.phrase)):
            if not any(self._same(detection, other) for other in kept):
                kept.append(detection)
        kept = kept[: self.config.max_detections]
        return tuple(sorted(kept, key=lambda found: (found.box.as_tuple(), found.phrase)))

    def _same(self, one: Detection, other: Detection) -> bool:
        named_alike = one.phrase.lower() == other.phrase.lower()
        limit = self.config.same_phrase_iou if named_alike else self.config.any_phrase_iou
        return box_iou(one.box, other.box) > limit
