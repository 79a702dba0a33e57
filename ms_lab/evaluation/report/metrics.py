"""What the judge's verdicts are counted as.

Scenes whose prompt names a treatment count for ``treatment`` and ``background`` only, all others for everything else.
A scene with a scene subject names no background; it counts for ``place`` instead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ms_lab.evaluation.judge.outcome import Outcome
from ms_lab.evaluation.questions.forms import NUM_FORMS
from ms_lab.evaluation.questions.groups import NUMBER_GROUPS
from ms_lab.evaluation.report.collapse import COLLAPSES, collapse
from ms_lab.evaluation.report.intervals import Design, Estimate, Values, bootstrap, rate
from ms_lab.mini.backgrounds import BACKGROUNDS
from ms_lab.mini.painting import TREATMENTS

NUM_CANDIDATES = 10


@dataclass(frozen=True, slots=True)
class AnswerKey:
    """What an answer is about: a subject of a scene, and the name of the thing that it is."""

    group: str
    number: int
    index: int
    thing: str


@dataclass(frozen=True, slots=True)
class Metric:
    """One thing that is counted.

    Attributes:
        title: in tables.
        about: one sentence that says what is counted.
        values: from 0 to 1, of one scene; empty where the metric does not apply. One for each drawn subject, ``None`` where
            it is not asked of it, or one that all of them share.
        chance: of guessing right in a scene; ``None`` where guessing means nothing.
        is_rate: counted over subjects, not scenes, and the fewer the better.
    """

    title: str
    about: str
    values: Callable[[Outcome], tuple[float | None, ...]]
    chance: Callable[[Outcome], float] | None = None
    is_rate: bool = False

    def estimate(self, outcomes: Sequence[Outcome]) -> Estimate | None:
        """Over all scenes to which the metric applies; ``None`` if it applies to none."""
        answers = self.answers(outcomes)
        if not answers:
            return None
        estimate = rate if self.is_rate else bootstrap
        return estimate(np.asarray([*answers.values()]), design_of(answers, self.is_rate))

    def answers(self, outcomes: Sequence[Outcome]) -> dict[AnswerKey, float]:
        """The values of all scenes to which the metric applies, one for each subject."""
        answers: dict[AnswerKey, float] = {}
        for outcome in outcomes:
            values = self.values(outcome)
            if len(values) == 1:
                values *= outcome.num_subjects
            for index, value in enumerate(values):
                if value is None:
                    continue
                answers[AnswerKey(outcome.group, outcome.number, index, outcome.things[index])] = value
        return answers

    def mean_chance(self, outcomes: Sequence[Outcome]) -> float | None:
        """The chance in the scenes to which the metric applies; ``None`` where it means nothing."""
        asked = [outcome for outcome in outcomes if any(value is not None for value in self.values(outcome))]
        return sum(map(self.chance, asked)) / len(asked) if self.chance is not None and asked else None


def _each(part: str) -> Callable[[Outcome], tuple[float, ...]]:
    """Of each subject."""

    def values(outcome: Outcome) -> tuple[float, ...]:
        if outcome.treated:
            return ()
        return tuple(float(getattr(subject, part)) for subject in outcome.verdict.subjects)

    return values


def _shape(part: str) -> Callable[[Outcome], tuple[float | None, ...]]:
    """Of each subject's form; ``None`` where it is not asked."""

    def values(outcome: Outcome) -> tuple[float | None, ...]:
        shapes = [subject.shape for subject in outcome.verdict.subjects]
        found = [None if shape is None else getattr(shape, part) for shape in shapes]
        return tuple(None if value is None else float(value) for value in found)

    return values


def _upright_chance(outcome: Outcome) -> float:
    """Over the subjects that are asked about."""
    asked = [1 / (1 + shape.turns) for s in outcome.verdict.subjects if (shape := s.shape) and shape.turns]
    return sum(asked) / len(asked)


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


def _front(outcome: Outcome) -> tuple[float, ...]:
    return () if outcome.verdict.front is None else (float(outcome.verdict.front),)


def _treatment(outcome: Outcome) -> tuple[float, ...]:
    return () if outcome.verdict.treatment is None else (float(outcome.verdict.treatment),)


def _neglect(outcome: Outcome) -> tuple[float, ...]:
    return () if outcome.treated else tuple(float(not subject.present) for subject in outcome.verdict.subjects)


def _conflict(outcome: Outcome) -> tuple[float, ...]:
    if outcome.treated or outcome.num_subjects < 2:
        return ()
    return tuple(float(subject.intruded) for subject in outcome.verdict.subjects)


def _collapsed(kind: str) -> Callable[[Outcome], tuple[float, ...]]:
    """Of each subject of the scenes that differ in number alone."""

    def values(outcome: Outcome) -> tuple[float, ...]:
        if outcome.group not in NUMBER_GROUPS.values():
            return ()
        return tuple(float(told == kind) for told in collapse(outcome))

    return values


METRICS = {
    "identity": Metric(
        "identity, hard",
        "the true drawing is picked among ten: colour turns of it, other artists' drawings of the same name, and "
        "drawings of like colours",
        _each("identity"),
        lambda _: 1 / NUM_CANDIDATES,
    ),
    "identity_easy": Metric(
        "identity, random",
        "the true drawing is picked among ten random ones of the same artist",
        _each("identity_easy"),
        lambda _: 1 / NUM_CANDIDATES,
    ),
    "both_right": Metric(
        "all right, hard",
        "every subject of a scene of two or more is picked among its hard candidates",
        _all_of("identity"),
        lambda outcome: NUM_CANDIDATES**-outcome.num_subjects,
    ),
    "both_right_easy": Metric(
        "all right, random",
        "every subject of a scene of two or more is picked among its random candidates",
        _all_of("identity_easy"),
        lambda outcome: NUM_CANDIDATES**-outcome.num_subjects,
    ),
    "form": Metric(
        "form",
        "the true drawing is picked among four that look alike from afar, all in its colours",
        _shape("form"),
        lambda _: 1 / NUM_FORMS,
    ),
    "upright": Metric(
        "upright",
        "the true drawing is picked among itself upside down and turned by 90 degrees, where that can be seen",
        _shape("upright"),
        _upright_chance,
    ),
    "outline": Metric(
        "outline IoU",
        "overlap of the found silhouette with the true one, after the best shift and scale",
        _shape("outline"),
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
        _each("iou"),
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
    "front": Metric(
        "right one in front",
        "where both subjects lie, the picture is nearer to the true composite than to the one in the wrong order",
        _front,
        lambda _: 1 / 2,
    ),
    "treatment": Metric(
        "treatment",
        "the named treatment is recognised on every subject, among all six and none",
        _treatment,
        lambda outcome: (len(TREATMENTS) + 1) ** -outcome.num_subjects,
    ),
    "neglect": Metric("neglect", "share of subjects that are absent from their boxes", _neglect, is_rate=True),
    "conflict": Metric(
        "conflict",
        "share of subjects in whose box another subject of the scene fits better",
        _conflict,
        is_rate=True,
    ),
    **{
        kind: Metric(title, f"share of slots {about}", _collapsed(kind), is_rate=True)
        for kind, (title, about) in COLLAPSES.items()
    },
}


def design_of(answers: Iterable[AnswerKey], is_rate: bool = False) -> Design:
    """Where answers come from; the answers of a scene count as one, those of a rate one each."""
    keys = list(answers)
    scenes = number([(key.group, key.number) for key in keys])
    counts = Counter(scenes)
    shares = tuple(1.0 if is_rate else 1 / counts[scene] for scene in scenes)
    return Design(scenes, number([key.thing for key in keys]), shares)


def number(names: Sequence[Hashable]) -> tuple[int, ...]:
    """Each name's place among the different ones, in order of appearance."""
    places = {name: place for place, name in enumerate(dict.fromkeys(names))}
    return tuple(places[name] for name in names)


def paired_values(
    first: dict[AnswerKey, float], second: dict[AnswerKey, float], is_rate: bool = False
) -> tuple[Values, Values, Design] | None:
    """The values of the answers that are in both, in one order, and their design; ``None`` without any.

    Args:
        first, second: answers.
        is_rate: whether they count over subjects; else over scenes.
    """
    common = [key for key in first if key in second]
    if not common:
        return None
    return (
        np.asarray([first[key] for key in common]),
        np.asarray([second[key] for key in common]),
        design_of(common, is_rate),
    )
