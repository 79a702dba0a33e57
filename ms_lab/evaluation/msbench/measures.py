"""What a picture's embeddings and detections are counted as. No model is met here.

Similarities are cosines of unit vectors. ``crops[i, j]`` is that of the part in subject i's box with subject j's reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from ms_core.spec import Box
from ms_lab.data.geometry import box_iou

# IoU from which a detection counts, of COCO's average precision.
THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))

Similarities = Float[np.ndarray, "subjects subjects"]


@dataclass(frozen=True, slots=True)
class Found:
    """A detection: what it was found by, where, and with which score."""

    phrase: str
    box: Box
    score: float


def product_of(similarities: Sequence[float]) -> float:
    """M-DINO: the product of the subjects' similarities, negative ones taken as 0, so that one lost subject costs all."""
    return float(np.prod([max(0.0, value) for value in similarities]))


def collapsed(crops: Similarities, boxes: Sequence[Box], asked: Sequence[bool]) -> list[bool | None]:
    """Whether each box looks more like another subject of the picture than like its own.

    Args:
        crops: similarities of boxes and references.
        boxes: of the subjects.
        asked: whether a subject is asked about; all of them are rivals.

    Returns:
        ``None`` where it is not asked, and where two subjects have the same box, for then nothing is its own.
    """
    answers: list[bool | None] = []
    for index, box in enumerate(boxes):
        rivals = [float(crops[index, other]) for other in range(len(boxes)) if other != index]
        decidable = asked[index] and list(boxes).count(box) == 1 and rivals
        answers.append(max(rivals) > float(crops[index, index]) if decidable else None)
    return answers


def placed_ious(phrases: Sequence[str], boxes: Sequence[Box], found: Sequence[Found]) -> list[float]:
    """IoU of each subject's box with what was found by its phrase; 0 where nothing was.

    Subjects of one phrase never share a detection: the pair with the highest IoU is settled first.
    """
    ious = np.asarray(
        [
            [box_iou(box, each.box) if each.phrase == phrase else 0.0 for each in found]
            for phrase, box in zip(phrases, boxes, strict=True)
        ]
    ).reshape(len(boxes), len(found))
    best = [0.0] * len(boxes)
    while ious.size and ious.max() > 0:
        subject, detection = np.unravel_index(int(ious.argmax()), ious.shape)
        best[int(subject)] = float(ious[subject, detection])
        ious[subject], ious[:, detection] = 0.0, 0.0
    return best


def hits(
    phrases: Sequence[str], boxes: Sequence[Box], found: Sequence[Found]
) -> Bool[np.ndarray, "thresholds detections"]:
    """Which detections hit a box of their phrase, at each of ``THRESHOLDS``.

    The surest detection chooses first, as in COCO: the free box of its phrase with the highest IoU, if that reaches the
    threshold.
    """
    told = np.zeros((len(THRESHOLDS), len(found)), bool)
    order = sorted(range(len(found)), key=lambda index: -found[index].score)
    for row, threshold in enumerate(THRESHOLDS):
        free = set(range(len(boxes)))
        for index in order:
            ious = {b: box_iou(boxes[b], found[index].box) for b in free if phrases[b] == found[index].phrase}
            best = max(ious, key=ious.__getitem__, default=None)
            if best is not None and ious[best] >= threshold:
                free.remove(best)
                told[row, index] = True
    return told


def average_precision(
    scores: Float[np.ndarray, " detections"],
    told: Bool[np.ndarray, "thresholds detections"],
    weights: Float[np.ndarray, " detections"],
    num_boxes: float,
) -> float:
    """Mean over ``THRESHOLDS`` of the area under precision over recall; detections of all phrases in one ranking.

    Args:
        scores: of the detections.
        told: which of them hit a box.
        weights: how often each counts.
        num_boxes: boxes there are, counted in the same way.
    """
    if num_boxes <= 0 or not len(scores):
        return 0.0
    order = np.argsort(-scores, kind="stable")
    right = np.cumsum(told[:, order] * weights[order], axis=1)
    all_so_far = np.maximum(np.cumsum(weights[order]), 1e-12)
    # The best precision at this recall or a higher one.
    precision = np.maximum.accumulate((right / all_so_far)[:, ::-1], axis=1)[:, ::-1]
    gained = np.diff(right, axis=1, prepend=0.0) / num_boxes
    return float((precision * gained).sum(1).mean())
