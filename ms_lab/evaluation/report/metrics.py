"""What the judge's verdicts are counted as.

Scenes whose prompt names a treatment count for ``treatment`` and ``background`` only, all others for everything else.
A scene with a scene subject names no background; it counts for ``place`` instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ms_lab.evaluation.judge.outcome import Outcome
from ms_lab.evaluation.report.intervals import Estimate, bootstrap, wilson
from ms_lab.mini.backgrounds import BACKGROUNDS
from ms_lab.mini.painting import TREATMENTS

NUM_CANDIDATES = 10


@dataclass(frozen=True, slots=True)
class Metric:
    """One thing that is counted.

    Attributes:
        title: in tables.
        about: one sentence that says what is counted.
        values: from 0 to 1, of one scene; empty where the metric does not apply. One value, but for a rate one for each
            subject.
        chance: of guessing right, by the number of subjects; ``None`` where guessing means nothing.
        is_rate: counted over subjects, with Wilson's interval, and the fewer the better.
    """

    title: str
    about: str
    values: Callable[[Outcome], tuple[float, ...]]
    chance: Callable[[int], float] | None = None
    is_rate: bool = False

    def estimate(self, outcomes: Sequence[Outcome]) -> Estimate | None:
        """Over all scenes to which the metric applies; ``None`` if it applies to none."""
        values = [value for outcome in outcomes for value in self.values(outcome)]
        if not values:
            return None
        return wilson(sum(values) / len(values), len(values)) if self.is_rate else bootstrap(np.asarray(values))

    def mean_chance(self, outcomes: Sequence[Outcome]) -> float | None:
        """The chance in the scenes to which the metric applies; ``None`` where it means nothing."""
        counts = [outcome.num_subjects for outcome in outcomes if self.values(outcome)]
        return sum(map(self.chance, counts)) / len(counts) if self.chance is not None and counts else None


def _mean_of(part: str) -> Callable[[Outcome], tuple[float, ...]]:
    """The mean over a scene's subjects."""

    def values(outcome: Outcome) -> tuple[float, ...]:
        if outcome.treated:
            return ()
        return (sum(float(getattr(subject, part)) for subject in outcome.verdict.subjects) / outcome.num_subjects,)

    return values


def _all_of(part: str) -> Callable[[Outcome], tuple[float, ...]]:
    """Whether all of two or more subjects are right."""

    def values(outcome: Outcome) -> tuple[float, ...]:
        if outcome.treated or outcome.num_subjects < 2:
            return ()
        return (float(all(getattr(subject, part) for subject in outcome.verdict.subjects)),)

    return values


def _swap(outcome: Outcome) -> tuple[float, ...]:
    return () if outcome.swapped is None else (float(outcome.swapped),)


def _inside(outcome: Outcome) -> tuple[float, ...]:
    return () if outcome.treated else (outcome.verdict.inside,)


def _background(outcome: Outcome) -> tuple[float, ...]:
    return () if outcome.verdict.place is not None else (float(outcome.verdict.background),)


def _place(outcome: Outcome) -> tuple[float, ...]:
    return () if outcome.verdict.place is None else (float(outcome.verdict.place),)


def _treatment(outcome: Outcome) -> tuple[float, ...]:
    return () if outcome.verdict.treatment is None else (float(outcome.verdict.treatment),)


def _neglect(outcome: Outcome) -> tuple[float, ...]:
    return () if outcome.treated else tuple(float(not subject.present) for subject in outcome.verdict.subjects)


def _conflict(outcome: Outcome) -> tuple[float, ...]:
    if outcome.treated or outcome.num_subjects < 2:
        return ()
    return tuple(float(subject.intruded) for subject in outcome.verdict.subjects)


METRICS = {
    "identity": Metric(
        "identity, hard",
        "the true drawing is picked among ten: colour turns of it, other artists' drawings of the same name, and "
        "drawings of like colours",
        _mean_of("identity"),
        lambda _: 1 / NUM_CANDIDATES,
    ),
    "identity_easy": Metric(
        "identity, random",
        "the true drawing is picked among ten random ones of the same artist",
        _mean_of("identity_easy"),
        lambda _: 1 / NUM_CANDIDATES,
    ),
    "both_right": Metric(
        "all right, hard",
        "every subject of a scene of two or more is picked among its hard candidates",
        _all_of("identity"),
        lambda subjects: NUM_CANDIDATES**-subjects,
    ),
    "both_right_easy": Metric(
        "all right, random",
        "every subject of a scene of two or more is picked among its random candidates",
        _all_of("identity_easy"),
        lambda subjects: NUM_CANDIDATES**-subjects,
    ),
    "swap": Metric(
        "swap",
        "of two subjects of one name each box holds its own, before and after the references are exchanged",
        _swap,
        lambda _: 1 / 16,
    ),
    "layout_iou": Metric(
        "layout IoU",
        "overlap of the found subject's box with the box of its silhouette in the composite",
        _mean_of("iou"),
    ),
    "inside": Metric("inside", "share of what differs from the background that lies in the boxes", _inside),
    "background": Metric(
        "background",
        "the named background is recognised among all eleven",
        _background,
        lambda _: 1 / len(BACKGROUNDS),
    ),
    "place": Metric(
        "place",
        "the place of the scene reference is recognised among ten: three more of its kind, six of other kinds",
        _place,
        lambda _: 1 / NUM_CANDIDATES,
    ),
    "treatment": Metric(
        "treatment",
        "the named treatment is recognised on every subject, among all six and none",
        _treatment,
        lambda subjects: (len(TREATMENTS) + 1) ** -subjects,
    ),
    "neglect": Metric("neglect", "share of subjects that are absent from their boxes", _neglect, is_rate=True),
    "conflict": Metric(
        "conflict",
        "share of subjects in whose box another subject of the scene fits better",
        _conflict,
        is_rate=True,
    ),
}


def scene_values(name: str, outcomes: Sequence[Outcome]) -> dict[tuple[str, int], float]:
    """A metric, no rate, of each scene to which it applies, by group and number."""
    return {(o.group, o.number): value for o in outcomes for value in METRICS[name].values(o)}


def paired_values(
    first: dict[tuple[str, int], float], second: dict[tuple[str, int], float]
) -> tuple[Float[np.ndarray, " scenes"], Float[np.ndarray, " scenes"]]:
    """The values of the scenes that are in both, in one order."""
    common = [key for key in first if key in second]
    return np.asarray([first[key] for key in common]), np.asarray([second[key] for key in common])
