"""From pairs to samples: a target frame with its subjects, and for each a reference from another moment."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from ms_core.spec import find_phrases
from ms_lab.data.config import PipelineConfig
from ms_lab.data.geometry import area
from ms_lab.data.items import ChosenSample, ChosenSubject, Clip, Pair, Place, content_id

_Candidates = dict[int, dict[int, list[tuple[Place, Pair]]]]


class ChooseStage:
    """Chooses every clip's samples."""

    def __init__(self, config: PipelineConfig) -> None:
        self.config = config.choose

    def __call__(self, clips: Sequence[Clip]) -> list[Clip]:
        return [replace(clip, samples=self._samples(clip)) for clip in clips]

    def _samples(self, clip: Clip) -> tuple[ChosenSample, ...]:
        if len(clip.frames) == 1:
            return self._single(clip) if self.config.single_frame_samples else ()
        candidates = self._candidates(clip)
        best = sorted(candidates, key=lambda frame: (-len(candidates[frame]), clip.frames[frame].id))
        made = [self._sample(clip, frame, candidates[frame]) for frame in best[: self.config.samples_per_clip]]
        return tuple(sample for sample in made if sample.subjects)

    def _candidates(self, clip: Clip) -> _Candidates:
        """For each frame its detections that have a pair without reasons, with the other ends of those pairs."""
        found: _Candidates = defaultdict(lambda: defaultdict(list))
        for pair in clip.pairs:
            if pair.reasons:
                continue
            for target, reference in ((pair.one, pair.other), (pair.other, pair.one)):
                found[target.frame][target.detection].append((reference, pair))
        return found

    def _sample(self, clip: Clip, frame: int, found: dict[int, list[tuple[Place, Pair]]]) -> ChosenSample:
        """The largest subjects of a frame, each with its best reference, in the order of the caption."""
        chosen: list[tuple[Place, Place, float]] = []
        for detection, others in found.items():
            reference, pair = max(others, key=lambda other: self._preference(clip, frame, other[0]))
            chosen.append((Place(frame, detection), reference, pair.similarity))
        return self._made(clip, frame, chosen, single_frame=False)

    def _preference(self, clip: Clip, frame: int, reference: Place) -> tuple[float, str]:
        """The higher, the better a reference for a subject of this frame; the id decides between equals."""
        own, seen = clip.at(reference)
        nearness = -abs(own.time_s - clip.frames[frame].time_s)
        return area(seen.box) if self.config.reference == "largest" else nearness, own.id

    def _single(self, clip: Clip) -> tuple[ChosenSample, ...]:
        places = [place for place in clip.places() if not clip.reasons.get(place)]
        sample = self._made(clip, 0, [(place, place, 1.0) for place in places], single_frame=True)
        return (sample,) if sample.subjects else ()

    def _made(
        self, clip: Clip, number: int, chosen: list[tuple[Place, Place, float]], single_frame: bool
    ) -> ChosenSample:
        frame = clip.frames[number]
        chosen = sorted(chosen, key=lambda item: (-area(clip.at(item[0])[1].box), item[0]))[: self.config.max_subjects]
        spans = find_phrases(frame.caption, [clip.at(target)[1].phrase for target, _, _ in chosen])
        subjects = sorted(
            (
                ChosenSubject(target, reference, span, similarity)
                for (target, reference, similarity), span in zip(chosen, spans, strict=True)
                if span is not None
            ),
            key=lambda subject: (subject.phrase_span, subject.target),
        )
        references = [clip.frames[subject.reference.frame].id for subject in subjects]
        boxes = [clip.at(subject.target)[1].box.as_tuple() for subject in subjects]
        return ChosenSample(content_id("sample", frame.id, references, boxes), number, tuple(subjects), single_frame)
