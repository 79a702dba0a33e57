"""Stand-ins for models, with stated errors: they know the truth and are wrong on purpose, the same way every time.

| stand-in | errors |
|---|---|
| detector | 4 % missed, 3 % false, 3 % of the boxes at IoU 0.4 to 0.8 |
| segmenter | masks at IoU 0.85 to 0.95, within the given box even when that is wrong |
| captioner | 5 % of the entities dropped, 3 % invented |
| matcher | 5 % of the scores from the wrong class, in each direction |
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Float

from ms_core.spec import Box
from ms_lab.data.geometry import box_iou, clamped_box
from ms_lab.data.items import Detection, Frame, Mask
from ms_lab.data.parts import Seen
from ms_lab.data.run_lengths import from_run_lengths
from ms_lab.footage.truth import TrueFrame, TrueSubject, Truth
from ms_lab.mini.scenes import caption_of

MISSED, FALSE, WRONG_BOX, DROPPED, INVENTED, WRONG_SCORE = 0.04, 0.03, 0.03, 0.05, 0.03, 0.05
# Of similarities: mean and spread of one thing at two moments, of two things, and of one moment.
SAME, OTHER, ONE_MOMENT = (0.78, 0.05), (0.45, 0.06), (0.985, 0.006)
# A box counts as a subject's from this IoU on.
_ITS_BOX = 0.35
_INVENTED_PHRASES = ("umbrella", "bicycle", "lamp", "ladder")


@lru_cache(maxsize=2)
def _load(truth: str) -> Truth:
    return Truth.load(truth)


def draw(*names: object) -> np.random.Generator:
    """Random numbers that depend on these names alone."""
    digest = hashlib.sha256("\n".join(map(str, names)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8]))


class StandInCaptioner:
    """Says what the truth says, with dropped and invented entities."""

    def __init__(self, truth: str, errors: bool = True) -> None:
        self.truth, self.errors = _load(truth), errors

    def caption(self, frames: Sequence[Frame]) -> list[str]:
        """One sentence for each frame."""
        return [self._caption(frame) for frame in frames]

    def _caption(self, frame: Frame) -> str:
        true = self.truth.frames[frame.id]
        if not self.errors:
            return true.caption
        named = {subject.actor: subject.phrase for subject in true.subjects if subject.named}
        kept = [phrase for actor, phrase in named.items() if draw("caption", frame.id, actor).random() >= DROPPED]
        rng = draw("invented", frame.id)
        invented = [str(rng.choice(_INVENTED_PHRASES)) for _ in named if rng.random() < INVENTED]
        where = true.caption.rpartition(" a ")[2] if not named else _where(true.caption, list(named.values()))
        return caption_of([*kept, *invented], where, "")[0] if kept or invented else f"a view {where}"


def _where(caption: str, phrases: list[str]) -> str:
    """What a caption says behind its last phrase."""
    return caption[caption.rindex(phrases[-1]) + len(phrases[-1]) :].strip()


class StandInDetector:
    """Finds what the truth has, with missed, false and wrong boxes."""

    def __init__(self, truth: str, errors: bool = True) -> None:
        self.truth, self.errors = _load(truth), errors

    def detect(self, frames: Sequence[Frame], phrases: Sequence[Sequence[str]]) -> list[list[Detection]]:
        """Boxes of the asked phrases, and of what the truth does not name: a detector's labels go astray."""
        return [self._detect(frame, own) for frame, own in zip(frames, phrases, strict=True)]

    def _detect(self, frame: Frame, phrases: Sequence[str]) -> list[Detection]:
        true = self.truth.frames[frame.id]
        asked = {phrase.lower() for phrase in phrases}
        found: list[Detection] = []
        for subject in true.subjects:
            if subject.visible < 0.05 or (subject.named and subject.phrase.lower() not in asked):
                continue
            rng = draw("detector", frame.id, subject.actor)
            luck = float(rng.random()) if self.errors else 1.0
            if luck < MISSED:
                continue
            own = true.as_box(subject)
            box = wrong_box(own, rng) if luck < MISSED + WRONG_BOX else near_box(own, rng, self.errors)
            found.append(Detection(subject.phrase, box, round(float(rng.uniform(0.4, 0.9)), 4)))
            if self.errors and rng.random() < FALSE:
                found.append(Detection(subject.phrase, random_box(rng), round(float(rng.uniform(0.3, 0.7)), 4)))
        return found


def near_box(box: Box, rng: np.random.Generator, errors: bool = True) -> Box:
    """A box at an IoU of about 0.93 to 1."""
    if not errors:
        return box
    width, height = box.x_max - box.x_min, box.y_max - box.y_min
    x_min, y_min, x_max, y_max = rng.uniform(-0.015, 0.015, 4).tolist()
    near = clamped_box(
        box.x_min + x_min * width, box.y_min + y_min * height, box.x_max + x_max * width, box.y_max + y_max * height
    )
    return near if near is not None else box


def wrong_box(box: Box, rng: np.random.Generator) -> Box:
    """A box at an IoU of 0.4 to 0.8, moved and resized."""
    width, height = box.x_max - box.x_min, box.y_max - box.y_min
    for _ in range(500):
        moved: list[float] = rng.uniform(-0.45, 0.45, 2).tolist()
        grown: list[float] = np.exp(rng.uniform(-0.45, 0.45, 2)).tolist()
        x, y = (box.x_min + box.x_max) / 2 + moved[0] * width, (box.y_min + box.y_max) / 2 + moved[1] * height
        half_width, half_height = float(grown[0]) * width / 2, float(grown[1]) * height / 2
        wrong = clamped_box(x - half_width, y - half_height, x + half_width, y + half_height)
        if wrong is not None and 0.4 <= box_iou(box, wrong) < 0.8:
            return wrong
    return box


def random_box(rng: np.random.Generator) -> Box:
    """A box of a usual size anywhere."""
    sides: list[float] = rng.uniform(0.15, 0.4, 2).tolist()
    width, height = sides
    x, y = float(rng.uniform(0, 1 - width)), float(rng.uniform(0, 1 - height))
    return Box(x, y, x + width, y + height)


class StandInSegmenter:
    """Masks of what stands in the box, at IoU 0.85 to 0.95 to it; of a wrong box, the same form within that box."""

    def __init__(self, truth: str, errors: bool = True) -> None:
        self.truth, self.errors = _load(truth), errors

    def segment(self, frames: Sequence[Frame]) -> list[list[Mask]]:
        """A mask for each detection."""
        return [[self._segment(frame, detection) for detection in frame.detections] for frame in frames]

    def _segment(self, frame: Frame, detection: Detection) -> Mask:
        true = self.truth.frames[frame.id]
        subject = subject_at(true, detection)
        mask = np.zeros((frame.height, frame.width), bool)
        x_min, y_min, x_max, y_max = frame.pixel_box(detection.box)
        if subject is None:
            mask[y_min:y_max, x_min:x_max] = cv2.ellipse(
                np.zeros((y_max - y_min, x_max - x_min), np.uint8),
                ((x_max - x_min) // 2, (y_max - y_min) // 2),
                (max(1, (x_max - x_min) // 2), max(1, (y_max - y_min) // 2)),
                0, 0, 360, 1, -1,
            ).astype(bool)  # fmt: skip
            return mask
        own = frame.pixel_box(true.as_box(subject))
        form = from_run_lengths(subject.mask, frame.height, frame.width)[own[1] : own[3], own[0] : own[2]]
        size = (x_max - x_min, y_max - y_min)
        mask[y_min:y_max, x_min:x_max] = cv2.resize(form.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
        return _worn(mask, draw("mask", frame.id, detection.box.as_tuple())) if self.errors else mask


def _worn(mask: Mask, rng: np.random.Generator) -> Mask:
    """The mask with bites at its rim, until its IoU to itself is where it should be."""
    wanted, whole = float(rng.uniform(0.86, 0.94)), float(mask.sum())
    left, worn = mask.copy(), mask.astype(np.uint8)
    rim = np.argwhere(mask & ~(cv2.erode(worn, np.ones((3, 3), np.uint8)) > 0))
    radius = max(1, round(0.05 * whole**0.5))
    for _ in range(200):
        if not len(rim) or left.sum() / whole <= wanted:
            break
        y, x = rim[int(rng.integers(len(rim)))].tolist()
        cv2.circle(worn, (x, y), radius, 0, -1)
        left = worn > 0
    return left


class StandInMatcher:
    """Similarities drawn from three classes: one thing, two things, one moment; some from the wrong one."""

    def __init__(self, truth: str, errors: bool = True) -> None:
        self.truth, self.errors = _load(truth), errors

    def compare(self, groups: Sequence[Sequence[Seen]]) -> list[Float[np.ndarray, "n n"]]:
        """Symmetrical similarities within each group."""
        return [self._compare(group) for group in groups]

    def _compare(self, group: Sequence[Seen]) -> Float[np.ndarray, "n n"]:
        true = [subject_at(self.truth.frames[seen.frame.id], seen.detection) for seen in group]
        similar = np.eye(len(group))
        for row in range(len(group)):
            for column in range(row):
                similar[row, column] = similar[column, row] = self._similarity(
                    group[row], group[column], true[row], true[column]
                )
        return similar

    def _similarity(self, one: Seen, other: Seen, mine: TrueSubject | None, its: TrueSubject | None) -> float:
        names = sorted((seen.frame.id, seen.detection.box.as_tuple()) for seen in (one, other))
        rng = draw("matcher", *names)
        same = mine is not None and its is not None and mine.identity == its.identity
        if self.errors and rng.random() < WRONG_SCORE:
            same = not same
            kind = SAME if same else OTHER
        elif same and mine is not None and its is not None and not mine.moved_from(its):
            kind = ONE_MOMENT
        else:
            kind = SAME if same else OTHER
        return float(np.clip(rng.normal(*kind), -1, 1))


def subject_at(true: TrueFrame, detection: Detection) -> TrueSubject | None:
    """The subject that a detection is of: the one of its name whose box fits best, if any does."""
    own = [subject for subject in true.subjects if subject.phrase.lower() == detection.phrase.lower()]
    best = max(own, key=lambda subject: box_iou(true.as_box(subject), detection.box), default=None)
    if best is None or box_iou(true.as_box(best), detection.box) < _ITS_BOX:
        return None
    return best
