"""Which detections and pairs would be dropped, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ms_lab.data.config import PipelineConfig
from ms_lab.data.filters.tracks import partners
from ms_lab.data.filters.verdicts import UNSAFE, UnsafeScore, in_order, is_on, judge_box, judge_frame, judge_pair
from ms_lab.data.items import Clip, Place, Reason


class FilterStage:
    """Notes against every detection and pair the filters that would drop it; dropping is for the choice."""

    def __init__(self, config: PipelineConfig) -> None:
        self.config = config
        self.unsafe: UnsafeScore | None = None
        if is_on(UNSAFE, config.filters):
            from ms_lab.data.models.unsafe import UnsafeClassifier

            self.unsafe = UnsafeClassifier(config.filters.unsafe_model, config.filters.unsafe_labels)

    def __call__(self, clips: Sequence[Clip]) -> list[Clip]:
        return [self._judged(clip) for clip in clips]

    def _judged(self, clip: Clip) -> Clip:
        config = self.config.filters
        known = partners(clip, config.floor)
        reasons: dict[Place, tuple[Reason, ...]] = {}
        for number, frame in enumerate(clip.frames):
            for index, against in enumerate(judge_frame(frame, config, self.unsafe)):
                place = Place(number, index)
                reasons[place] = in_order((*against, *judge_box(clip, place, known.get(place, ()), config)))
        clip = replace(clip, reasons=reasons)
        gap = self.config.choose.min_gap_s
        pairs = tuple(replace(pair, reasons=in_order(judge_pair(clip, pair, config, gap))) for pair in clip.pairs)
        return replace(clip, pairs=pairs)
