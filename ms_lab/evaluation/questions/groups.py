"""The bench's groups of scenes: what is asked of each."""

from __future__ import annotations

from dataclasses import dataclass

from ms_lab.evaluation.questions.arrangements import Arrangement
from ms_lab.evaluation.questions.packs import ARTIST, BOTH, CONCEPT, NEITHER
from ms_lab.mini.painting import PLAIN, TREATMENTS

# The full bench has this many times as many scenes as the core; the core's are its first.
FULL = 4
SIDE = 128  # pixels
_USUAL = (0.28, 0.65)
_ONE, _TWO = Arrangement((_USUAL,)), Arrangement((_USUAL, _USUAL))
# Scenes of so many subjects; each holds the drawings of the smaller ones, where and as large as they are there.
NUMBERS = (2, 3, 4, 6, 8)
_MOST = Arrangement(((0.2, 0.3),) * max(NUMBERS))
NUMBER = "number"
NUMBER_GROUPS = {count: f"{NUMBER}-{count}" for count in NUMBERS}
# Groups that are measured together, by the name that chooses them all.
FAMILIES = {NUMBER: tuple(NUMBER_GROUPS.values())}


@dataclass(frozen=True, slots=True)
class Group:
    """What the scenes of a group have in common. Where there are several of a thing, scenes take them in turn.

    Attributes:
        core: number of scenes in the core.
        cell: of every subject.
        arrangements: numbers, sizes and overlaps of subjects.
        shapes: height and width, in pixels.
        treatments: named in the caption.
        twins: whether the two subjects are one thing by two artists, the held-out one among them.
        scene_subject: whether the background is a subject, too.
        shown: of the drawn subjects, only so many first ones are there; groups with it draw the same. ``None`` for all.
        contact: whether one sees which of the two subjects is in front; the request gives that order.
    """

    core: int
    cell: str
    arrangements: tuple[Arrangement, ...]
    shapes: tuple[tuple[int, int], ...] = ((SIDE, SIDE),)
    treatments: tuple[str, ...] = (PLAIN,)
    twins: bool = False
    scene_subject: bool = False
    shown: int | None = None
    contact: bool = False

    def turn(self, number: int) -> tuple[str, Arrangement, tuple[int, int]]:
        """Treatment, arrangement and shape of the scene of this number; treatments change fastest."""
        rest, treatment = divmod(number, len(self.treatments))
        rest, arrangement = divmod(rest, len(self.arrangements))
        return self.treatments[treatment], self.arrangements[arrangement], self.shapes[rest % len(self.shapes)]


GROUPS: dict[str, Group] = {
    "headline": Group(75, BOTH, (_TWO,)),
    # The thing is new to a model and one of the two artists is.
    "twins": Group(32, CONCEPT, (_TWO,), twins=True),
    "artist": Group(16, ARTIST, (_TWO,)),
    "concept": Group(16, CONCEPT, (_TWO,)),
    "neither": Group(16, NEITHER, (_TWO,)),
    "one": Group(16, BOTH, (_ONE,)),
    "three": Group(16, BOTH, (Arrangement(((0.28, 0.55),) * 3),)),
    "four": Group(16, BOTH, (Arrangement(((0.28, 0.45),) * 4),)),
    "contact": Group(12, BOTH, (Arrangement(((0.32, 0.6),) * 2, min_overlap=0.1, max_overlap=0.4),), contact=True),
    "tiny": Group(12, BOTH, (Arrangement(((0.16, 0.22), _USUAL)),)),
    "huge": Group(12, BOTH, (Arrangement(((0.75, 0.95), (0.18, 0.28)), max_overlap=0.25),)),
    # Of the shorter side: in pixels they are as large as elsewhere.
    "oblong": Group(12, BOTH, (Arrangement(((0.37, 0.85),) * 2),), shapes=((96, 160), (160, 96))),
    "place": Group(12, BOTH, (_ONE, _TWO), scene_subject=True),
    "treatment": Group(48, BOTH, (_ONE, _TWO), treatments=TREATMENTS),
    **{name: Group(12, BOTH, (_MOST,), shown=count) for count, name in NUMBER_GROUPS.items()},
}
