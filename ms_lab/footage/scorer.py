"""How well the pipeline does on made footage, pair by pair, against the truth."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ms_lab.data.filters.verdicts import DUPLICATE, FILTERS, OVERLAP, SIZE
from ms_lab.data.geometry import area, box_iou, intersection
from ms_lab.data.items import Clip, Detection, Pair, Place
from ms_lab.footage.stand_ins import subject_at
from ms_lab.footage.truth import TrueFrame, TrueSubject, Truth

LEAST_IOU = 0.8
# A pair of the truth: shot, actor, and the ids of two frames.
_Key = tuple[str, int, str, str]


@dataclass(slots=True)
class Score:
    """Counts over all clips.

    Attributes:
        true: usable pairs of the truth.
        found: of them, those that were paired rightly before any filter.
        kept: of them, those that no filter dropped.
        made: pairs that no filter dropped.
        right: of them, right identity, both boxes fit, another moment.
        wrong: what is wrong with the others.
        unfiltered: pairs before the filters; ``unfiltered_right`` of them are right.
        dropped_good: by filter, of the pairs in ``found``, those that it speaks against.
        planted, caught: by fault, the planted items that reached the filters, and those that the fault's filter spoke against.
    """

    true: int = 0
    found: int = 0
    kept: int = 0
    made: int = 0
    right: int = 0
    unfiltered: int = 0
    unfiltered_right: int = 0
    wrong: Counter[str] = field(default_factory=Counter[str])
    dropped_good: Counter[str] = field(default_factory=Counter[str])
    planted: Counter[str] = field(default_factory=Counter[str])
    caught: Counter[str] = field(default_factory=Counter[str])
    wrong_boxes: int = 0
    wrong_boxes_caught: int = 0

    def summary(self) -> dict[str, Any]:
        """The figures as shares."""
        good_dropped = self.found - self.kept
        return {
            "precision": _share(self.right, self.made),
            "kept": _share(self.kept, self.true),
            "precision_without_filters": _share(self.unfiltered_right, self.unfiltered),
            "found_without_filters": _share(self.found, self.true),
            "good_pairs_dropped": _share(good_dropped, self.found),
            "good_pairs_dropped_by": {
                name: _share(self.dropped_good[name], self.found) for name in FILTERS if self.dropped_good[name]
            },
            "recall": {name: f"{self.caught[name]} of {self.planted[name]}" for name in sorted(self.planted)},
            "wrong_boxes_caught": f"{self.wrong_boxes_caught} of {self.wrong_boxes}",
            "wrong": dict(self.wrong),
            "pairs": {"true": self.true, "made": self.made, "right": self.right, "unfiltered": self.unfiltered},
        }


def _share(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0


def score(clips: Iterable[Clip], truth: Truth, min_gap_s: float, min_area: float) -> Score:
    """Count over clips that have passed the filter stage, with these of its thresholds."""
    total = Score()
    for clip in clips:
        _score_clip(total, clip, truth, min_gap_s, min_area)
    return total


def _score_clip(total: Score, clip: Clip, truth: Truth, min_gap_s: float, min_area: float) -> None:
    frames = [truth.frames[frame.id] for frame in clip.frames]
    usable = _true_pairs(frames, min_gap_s)
    total.true += len(usable)
    for pair in clip.pairs:
        fault, key = _judge(clip, pair, frames, min_gap_s)
        total.unfiltered += 1
        total.unfiltered_right += not fault
        if not pair.reasons:
            total.made += 1
            total.right += not fault
            if fault:
                total.wrong[fault] += 1
        # A copied film's pairs are good until the last pass, which works on samples.
        if not fault and key in usable:
            total.found += 1
            total.kept += not pair.reasons
            total.dropped_good.update({reason.filter for reason in pair.reasons})
    _count_planted(total, clip, frames, min_area)


def _true_pairs(frames: Sequence[TrueFrame], min_gap_s: float) -> set[_Key]:
    """Pairs of one shot's frames in which an actor is usable twice and has moved."""
    found: set[_Key] = set()
    for one, other in itertools.combinations(frames, 2):
        if one.shot != other.shot or abs(other.time_s - one.time_s) < min_gap_s:
            continue
        theirs = {subject.actor: subject for subject in other.subjects}
        for subject in one.subjects:
            its = theirs.get(subject.actor)
            if its is not None and _is_good(subject, its):
                found.add((one.shot, subject.actor, one.id, other.id))
    return found


def _is_good(one: TrueSubject, other: TrueSubject) -> bool:
    """Whether a pair of subjects is what the pipeline should find; planted faults other than of moments are none."""
    planted = one.fault not in ("", "near_duplicate", "match_weak", "too_alike")
    return (
        one.is_usable and other.is_usable and one.identity == other.identity and one.moved_from(other) and not planted
    )


def _judge(clip: Clip, pair: Pair, frames: Sequence[TrueFrame], min_gap_s: float) -> tuple[str, _Key | None]:
    """What is wrong with a pair, empty if nothing; and which pair of the truth it is."""
    ends = [_true_end(clip, place, frames) for place in (pair.one, pair.other)]
    if any(subject is None for subject, _ in ends):
        return "no subject", None
    (one, one_fits), (other, other_fits) = ((subject, fits) for subject, fits in ends if subject is not None)
    left, right = frames[pair.one.frame], frames[pair.other.frame]
    key = (left.shot, one.actor, left.id, right.id)
    if one.identity != other.identity:
        return "identity", None
    if not (one_fits and other_fits):
        return "box", key
    if abs(right.time_s - left.time_s) < min_gap_s or not one.moved_from(other):
        return "same moment", key
    return "", key


def _true_end(clip: Clip, place: Place, frames: Sequence[TrueFrame]) -> tuple[TrueSubject | None, bool]:
    _, detection = clip.at(place)
    true = frames[place.frame]
    subject = subject_at(true, detection)
    return subject, subject is not None and box_iou(true.as_box(subject), detection.box) >= LEAST_IOU


_OF_PAIRS = ("match_weak", "too_alike")
# Of a planted subject's box, what the one behind it has at least.
_COVERED = 0.5


def _count_planted(total: Score, clip: Clip, frames: Sequence[TrueFrame], min_area: float) -> None:
    for place in clip.places():
        _, detection = clip.at(place)
        subject = subject_at(frames[place.frame], detection)
        if subject is None:
            continue
        against = {reason.filter for reason in clip.reasons.get(place, ())}
        if box_iou(frames[place.frame].as_box(subject), detection.box) < LEAST_IOU:
            total.wrong_boxes += 1
            total.wrong_boxes_caught += bool(against)
            continue
        if has_fault(subject, frames[place.frame], clip.frames[place.frame].detections, min_area):
            total.planted[subject.fault] += 1
            total.caught[subject.fault] += subject.fault in against
    planted: dict[str, list[Pair]] = defaultdict(list)
    for pair in clip.pairs:
        fault = _pair_fault(clip, pair, frames)
        if fault:
            planted[fault].append(pair)
    for fault, pairs in planted.items():
        total.planted[fault] += len(pairs)
        total.caught[fault] += sum(fault in {reason.filter for reason in pair.reasons} for pair in pairs)


def has_fault(subject: TrueSubject, true: TrueFrame, found: Sequence[Detection], min_area: float) -> bool:
    """Whether a subject has what is planted in it, for a filter to see.

    One that was drawn small may have grown or turned until its true box is large enough; and that two overlap is to be seen
    only where both were detected, however well.
    """
    if subject.fault == SIZE:
        return area(true.as_box(subject)) < min_area
    if subject.fault == OVERLAP:
        shown = [own for detection in found if (own := subject_at(true, detection)) is not None]
        own_box = true.as_box(subject)
        return any(
            other.actor != subject.actor and intersection(true.as_box(other), own_box) >= _COVERED * area(own_box)
            for other in shown
        )
    return bool(subject.fault) and subject.fault not in (*_OF_PAIRS, DUPLICATE)


def _pair_fault(clip: Clip, pair: Pair, frames: Sequence[TrueFrame]) -> str:
    """The planted fault that a pair has: both ends fit, and show what was exchanged or frozen."""
    (one, one_fits), (other, other_fits) = (_true_end(clip, place, frames) for place in (pair.one, pair.other))
    if one is None or other is None or not (one_fits and other_fits) or one.actor != other.actor:
        return ""
    if one.fault == "match_weak" and one.identity != other.identity:
        return "match_weak"
    if one.fault == "too_alike" and one.identity == other.identity:
        return "too_alike"
    return ""
