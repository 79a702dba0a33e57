"""The judge's verdict on one scene in one column."""

from __future__ import annotations

from dataclasses import dataclass

from ms_lab.evaluation.judge.judge import Verdict


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was found in one scene's pictures in one column.

    Attributes:
        group, number: of the scene.
        treated: whether the prompt names a treatment.
        things: names of the drawn subjects.
        verdict: on the picture.
        swapped: twins only: whether picture and exchanged picture hold what their references show.
    """

    group: str
    number: int
    treated: bool
    things: tuple[str, ...]
    verdict: Verdict
    swapped: bool | None = None

    @property
    def num_subjects(self) -> int:
        """Drawn subjects; a scene subject is none."""
        return len(self.verdict.subjects)
