"""Outcomes for tests of what is counted: everything right unless said otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ms_lab.evaluation.judge.forms import FormVerdict
from ms_lab.evaluation.judge.judge import SubjectVerdict, Verdict
from ms_lab.evaluation.judge.outcome import Outcome
from ms_lab.evaluation.questions.columns import COMPOSITES, MODEL, PASTED, THROUGH_VAE


def found(**said: object) -> SubjectVerdict:
    """A subject that is all right, but for what is said; what its slot looks like is filled in by ``outcome``."""
    right = {
        "identity": True,
        "identity_easy": True,
        "present": True,
        "intruded": False,
        "iou": 1.0,
        "treatment": None,
        "likeness": (),
        "shape": FormVerdict(True, True, 3, 1.0),
    }
    return SubjectVerdict(**(right | said))  # pyright: ignore[reportArgumentType]


def outcome(
    subjects: Sequence[SubjectVerdict] | None = None,
    group: str = "headline",
    number: int = 0,
    *,
    treated: bool = False,
    swapped: bool | None = None,
    things: Sequence[str] | None = None,
    **said: object,
) -> Outcome:
    """A scene of two subjects that is all right, but for what is said of its verdict."""
    right = {"recognised": "on grass", "background": True, "inside": 1.0, "place": None, "treatment": None}
    subjects = [found(), found()] if subjects is None else subjects
    subjects = [
        subject if subject.likeness else replace(subject, likeness=tuple(float(n == i) for n in range(len(subjects))))
        for i, subject in enumerate(subjects)
    ]
    verdict = Verdict(subjects=tuple(subjects), **(right | said))  # pyright: ignore[reportArgumentType]
    # Unless said otherwise each drawing is in one scene only, and scenes of different numbers of subjects share theirs.
    names = (
        [f"{group.partition('-')[0]} {number} {index}" for index in range(len(subjects))] if things is None else things
    )
    return Outcome(group, number, treated, tuple(names), verdict, swapped)


def columns_of(model: Sequence[Outcome], ceiling: Sequence[Outcome] | None = None) -> dict[str, list[Outcome]]:
    """The columns that a summary needs; those that are not given are all right."""
    perfect = [outcome([found()] * o.num_subjects, o.group, o.number, treated=o.treated) for o in model]
    return {
        MODEL: list(model),
        COMPOSITES: perfect,
        THROUGH_VAE: list(ceiling) if ceiling is not None else perfect,
        PASTED: perfect,
    }
