"""What became of subjects that are not where they belong: each slot is told by which of the scene's subjects it looks like.

A slot is the part of a picture in and around a subject's box; the judge tells how well each of the scene's subjects explains
it. It is right if it looks most like its own subject and no other one comes near; else it is one of ``COLLAPSES``.
Drawings may look alike: so every share is set against that of the true composites.
"""

from __future__ import annotations

from collections.abc import Sequence

from ms_lab.evaluation.judge.outcome import Outcome

RIGHT, DRIFT, BLEND, MOVED, DOMINANCE = ("right", "drift", "blend", "moved", "dominance")
# Title, and which slots.
COLLAPSES = {
    DRIFT: ("drift", "that look like none of the scene's subjects, or where nothing stands"),
    MOVED: ("slot swap", "that look most like another subject, which no other slot looks like"),
    DOMINANCE: ("dominance", "that look most like another subject, which another slot looks like as well"),
    BLEND: ("blend", "that look about equally like their own subject and another one"),
}
# Composites in mosaics of 4 cells reach 0.82 or more of their own subject; of the scene's subjects, other drawings reach 0.6
# at the median and 0.8 at nine in ten. A slot looks like a subject whose likeness is at least the first, and like two of them where they differ by less than the
# second.
LEAST_LIKENESS, BLEND_MARGIN = 0.7, 0.05


def collapse(outcome: Outcome) -> tuple[str, ...]:
    """What each slot of a scene shows: ``RIGHT`` or one of ``COLLAPSES``."""
    subjects = outcome.verdict.subjects
    shown = [_looks_like(subject.likeness) if subject.present else None for subject in subjects]
    return tuple(_told(index, subject.likeness, shown) for index, subject in enumerate(subjects))


def _looks_like(likeness: Sequence[float]) -> int | None:
    """The subject that a slot looks most like; ``None`` if like none."""
    best = max(range(len(likeness)), key=likeness.__getitem__)
    return best if likeness[best] >= LEAST_LIKENESS else None


def _told(index: int, likeness: Sequence[float], shown: Sequence[int | None]) -> str:
    best = shown[index]
    if best is None:
        return DRIFT
    rival = max(value for other, value in enumerate(likeness) if other != index)
    if abs(likeness[index] - rival) < BLEND_MARGIN:
        return BLEND
    if best == index:
        return RIGHT
    return MOVED if shown.count(best) == 1 else DOMINANCE
